"""Tokens: their checks, their repr, and the metadata that they become."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import pickle
from typing import Any

import pytest

from aio_authgrpc import ConfigurationError, Token

SECRET = "s3cr3t-t0ken"


def test_a_token_shows_no_secret() -> None:
    """Neither `repr` nor `str` shows the value or the metadata."""
    token = Token(SECRET, expires_at=1.0, metadata=(("x-goog-api-key", SECRET),))
    assert SECRET not in repr(token) + str(token)


def test_a_token_that_was_refused_shows_nothing() -> None:
    """Its first half could pass for a scheme; the object that was not made is what a debugger looks at."""
    with pytest.raises(ConfigurationError) as caught:
        Token("half", scheme=f"Bearer {SECRET}")
    assert SECRET not in str(caught.value)
    assert repr(Token.__new__(Token)) == "<Token that was not made>"


@pytest.mark.parametrize("how", [pickle.dumps, copy.deepcopy])
def test_a_token_is_not_pickled(how: Any) -> None:
    """A pickle would hold the secret in the clear."""
    with pytest.raises(TypeError, match="cannot be pickled"):
        how(Token(SECRET))


def test_vars_of_a_token_shows_nothing() -> None:
    """Error reporters serialize objects by their `vars()`, a token's own ones too."""
    assert not hasattr(Token(SECRET), "__dict__")


def test_a_dataclass_with_a_token_does_not_become_a_dictionary_with_its_value() -> None:
    """`asdict()` copies what it does not know, and a token refuses to be copied."""

    @dataclasses.dataclass
    class Session:
        token: Token

    with pytest.raises(TypeError, match="cannot be pickled"):
        dataclasses.asdict(Session(Token(SECRET)))


def test_a_token_goes_to_its_header_with_its_scheme() -> None:
    """RFC 6750, section 2.1: 'Bearer', a blank, the token. The token's own metadata follows."""
    token = Token(SECRET, metadata=(("x-goog-user-project", "p"),))
    assert token.as_metadata("authorization") == (
        ("authorization", f"Bearer {SECRET}"),
        ("x-goog-user-project", "p"),
    )


def test_a_token_without_a_scheme_is_sent_bare() -> None:
    """An API key has no scheme."""
    assert Token("key", scheme="").as_metadata("x-api-key") == (("x-api-key", "key"),)


def test_an_empty_token_sends_nothing() -> None:
    """Anonymous credentials add no header."""
    assert Token("").as_metadata("authorization") == ()


@pytest.mark.parametrize(
    ("value", "field"),
    [
        pytest.param(None, "token", id="none"),
        pytest.param(b"bytes", "token", id="bytes"),
        pytest.param("with blank", "token", id="blank"),
        pytest.param("line\n", "token", id="line-end"),
        pytest.param("x\r\ninjected: 1", "token", id="header-injection"),
        pytest.param("tøken", "token", id="not-ascii"),
    ],
)
def test_a_value_that_a_header_cannot_carry_is_refused_without_being_shown(value: Any, field: str) -> None:
    """The error names the field and does not show the value."""
    with pytest.raises(ConfigurationError) as caught:
        Token(value)
    assert caught.value.field == field
    assert not isinstance(value, str) or value not in str(caught.value)


@pytest.mark.parametrize(
    "expires_at",
    ["3600", datetime.datetime(2030, 1, 1), float("nan"), float("inf"), pytest.param(10**400, id="huge")],
)
def test_an_expiry_that_is_not_a_finite_number_is_refused(expires_at: Any) -> None:
    """The mistake would otherwise show an hour later."""
    with pytest.raises(ConfigurationError, match="expires_at"):
        Token(SECRET, expires_at=expires_at)


@pytest.mark.parametrize(
    "arguments",
    [
        {"scheme": 5},
        {"scheme": "B\n"},
        {"scheme": "Bearer half-of-a-token"},
        {"metadata": 5},
        {"metadata": (("x-a",),)},
        {"metadata": (("X-A", "b"),)},
        {"metadata": (("x-a", "é"),)},
        {"expires_at": True},
    ],
)
def test_a_field_that_grpc_cannot_send_is_refused(arguments: dict[str, Any]) -> None:
    """The constructor raises, and names the field."""
    with pytest.raises(ConfigurationError) as caught:
        Token(SECRET, **arguments)
    assert caught.value.field in arguments
