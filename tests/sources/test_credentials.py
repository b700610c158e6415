"""Mistakes in `credentials=`, and in the functions for tokens that users bring."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import google.auth.aio.credentials
import google.auth.api_key
import google.auth.credentials
import google.auth.jwt
import google.oauth2.credentials
import google.oauth2.service_account
import pytest

from aio_authgrpc import (
    ConfigurationError,
    Token,
    TokenRequest,
    api_key,
    service_account,
    static_token,
    token_source,
)
from aio_authgrpc._sources.credentials import as_token_source


@pytest.mark.parametrize(
    ("make", "field"),
    [
        pytest.param(lambda: as_token_source("eyJhbGciOi"), "credentials", id="a-token-as-text"),  # type: ignore[arg-type]  # the mistake
        pytest.param(lambda: as_token_source(Token("abc")), "credentials", id="a-token"),  # type: ignore[arg-type]  # the mistake
        pytest.param(
            lambda: as_token_source(google.oauth2.credentials.Credentials), "credentials", id="a-class"
        ),  # type: ignore[arg-type]  # the mistake
        pytest.param(lambda: as_token_source({}), "credentials", id="a-dict"),  # type: ignore[arg-type]  # the mistake
        pytest.param(lambda: static_token(""), "token", id="an-empty-token"),
        pytest.param(lambda: static_token(None), "token", id="no-token"),  # type: ignore[arg-type]  # the mistake
        pytest.param(lambda: static_token("abc\n"), "token", id="a-line-end"),
        pytest.param(lambda: token_source("abc"), "async_callable", id="text-for-a-function"),  # type: ignore[arg-type]  # the mistake
        pytest.param(
            lambda: token_source(test_a_mistake_is_an_error_that_names_its_field),
            "async_callable",
            id="a-sync-function",
        ),  # type: ignore[arg-type]  # the mistake
        pytest.param(lambda: api_key(""), "api_key", id="an-empty-key"),
        pytest.param(lambda: api_key("key", header="x y"), "header", id="a-blank-in-the-header"),
        pytest.param(lambda: api_key("key", header="x-bin"), "header", id="a-binary-header"),
        pytest.param(lambda: api_key("key", header="grpc-x"), "header", id="grpcs-own-header"),
    ],
)
def test_a_mistake_is_an_error_that_names_its_field(make: Any, field: str) -> None:
    """At the call that makes it, without showing a possible token."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert caught.value.field == field
    assert "eyJ" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "says", "advises"),
    [
        pytest.param(
            {"type": "service_account", "private_key": "SECRETQ"},
            "a dict with the content of a credential file",
            "Pass service_account(...) of it",
            id="key-file",
        ),
        pytest.param(
            {"type": "authorized_user", "refresh_token": "SECRETQ"},
            "a dict",
            "authorized_user(...)",
            id="login",
        ),
        pytest.param({"private_key": "SECRETQ"}, "a dict", "service_account(...)", id="without-a-type"),
        pytest.param({"type": "SECRETQ"}, "a dict", "service_account(...)", id="of-a-type-that-is-none"),
        pytest.param(service_account, "the function service_account", "Call it", id="not-called"),
        pytest.param("SECRETQ", "str", "static_token(...) for a token", id="text"),
    ],
)
def test_what_was_passed_is_named_with_the_function_for_it(given: Any, says: str, advises: str) -> None:
    """Nothing of the content is shown."""
    with pytest.raises(ConfigurationError) as caught:
        as_token_source(given)
    assert says in str(caught.value)
    assert advises in caught.value.hint
    assert "SECRETQ" not in str(caught.value)


class Tokens:
    """What a user's class may look like."""

    async def good(self) -> str:
        return "abc"

    def plain(self) -> str:
        return "abc"

    async def of_scope(self, scope: str, lifetime: int = 60) -> str:
        return scope

    def __call__(self) -> str:
        return "abc"


@pytest.mark.parametrize(
    ("function", "says", "advises"),
    [
        pytest.param(Tokens().plain, "plain is not a coroutine function", "'async def'", id="method"),
        pytest.param(
            partial(Tokens.plain, Tokens()), "not a coroutine function", "'async def'", id="partial"
        ),
        pytest.param(
            Tokens().of_scope, "missing a required argument: 'scope'", "partial(...)", id="argument"
        ),
    ],
)
def test_a_function_that_cannot_be_awaited_without_arguments_is_refused(
    function: Any, says: str, advises: str
) -> None:
    """At the call, not at the first RPC."""
    with pytest.raises(ConfigurationError, match=re.escape(says)) as caught:
        token_source(function)
    assert advises in caught.value.hint


@pytest.mark.parametrize(
    "function",
    [Tokens().good, partial(Tokens().of_scope, "abc"), lambda: Tokens().good()],
    ids=["method", "partial", "lambda"],
)
async def test_a_function_that_can_be_awaited_is_taken(function: Any, token_request: TokenRequest) -> None:
    """Bound, partial, or a lambda."""
    assert await token_source(function).fetch(token_request) == Token("abc")


@pytest.mark.parametrize("function", [Tokens(), lambda: "abc"], ids=["object", "lambda"])
async def test_what_turns_out_to_return_no_awaitable_is_told_so(
    function: Any, token_request: TokenRequest
) -> None:
    """It shows in the first call alone."""
    with pytest.raises(ConfigurationError, match="returned str, which cannot be awaited") as caught:
        await token_source(function).fetch(token_request)
    assert "'async def'" in caught.value.hint
