"""Service account keys: the exchange, the self-signed token, and malformed keys."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

import aio_authgrpc
from aio_authgrpc import (
    ConfigurationError,
    Token,
    TokenRequest,
    service_account,
    service_account_jwt,
)
from aio_authgrpc.testing import Authority

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def claims(token: Token) -> dict[str, Any]:
    return jwt.decode(token.value, options={"verify_signature": False})


@pytest.mark.parametrize("form", ["path", "path as text", "json text", "dict"])
async def test_a_key_is_taken_in_every_form(
    form: str, file: Path, info: dict[str, str], token_request: TokenRequest, authority: Authority
) -> None:
    """And exchanged for a token: the authority has checked the signature."""
    given: Any = {"path": file, "path as text": str(file), "json text": json.dumps(info), "dict": info}[form]
    token = await service_account(given, scopes=SCOPES).fetch(token_request)
    assert claims(token)["email"] == "me@project.iam.gserviceaccount.com"
    assert authority.token_requests == 1


async def test_without_scopes_a_jwt_is_signed_for_the_host(
    file: Path, token_request: TokenRequest, authority: Authority
) -> None:
    """https://google.aip.dev/auth/4111: no request."""
    assert claims(await service_account(file).fetch(token_request))["aud"] == "https://host/"
    assert authority.requests == []


async def test_self_signed_with_scopes_puts_them_into_the_claims(
    file: Path, token_request: TokenRequest
) -> None:
    """And no audience, as google-auth does."""
    token = await service_account(file, scopes=SCOPES, self_signed=True).fetch(token_request)
    assert claims(token)["scope"] == SCOPES[0]


async def test_an_exchange_that_is_asked_for_is_made_without_scopes(
    file: Path, token_request: TokenRequest, authority: Authority
) -> None:
    """The endpoint's refusal is raised."""
    with pytest.raises(aio_authgrpc.errors.TokenRefusedError, match="invalid_scope"):
        await service_account(file, self_signed=False).fetch(token_request)
    assert authority.token_requests == 1


async def test_a_subject_is_exchanged_for(file: Path, token_request: TokenRequest) -> None:
    """Domain-wide delegation."""
    token = await service_account(file, scopes=SCOPES, subject="boss@example.com").fetch(token_request)
    assert claims(token)["email"] == "boss@example.com"


async def test_a_quota_project_goes_along(file: Path, token_request: TokenRequest) -> None:
    """As metadata of the token."""
    token = await service_account(file, scopes=SCOPES, quota_project_id="payer").fetch(token_request)
    assert token.metadata == (("x-goog-user-project", "payer"),)


async def test_the_key_is_read_once(file: Path, token_request: TokenRequest) -> None:
    """Also when the file is gone later."""
    source = service_account(file, scopes=SCOPES)
    await source.load(token_request)
    file.unlink()
    assert (await source.fetch(token_request)).value


def damaged(key: str, part: float) -> str:
    """Return a PEM with a line reversed: modulus first, then the exponent, the primes last."""
    lines = key.splitlines()
    place = int(len(lines) * part)
    lines[place] = lines[place][::-1]
    return "\n".join(lines)


BROKEN: list[Any] = [
    pytest.param(
        lambda info: {**info, "type": "authorized_user"}, "type", "authorized_user", id="another-type"
    ),
    pytest.param(lambda info: {**info, "type": None}, "type", "lacks it", id="no-type"),
    pytest.param(
        lambda info: {**info, "type": {}}, "type", "not the name of a type", id="a-type-that-is-a-dict"
    ),
    *[
        pytest.param(
            lambda info, name=name: {k: v for k, v in info.items() if k != name},
            name,
            "lacks it",
            id=f"without-{name}",
        )
        for name in ("client_email", "private_key", "token_uri")
    ],
    *[
        pytest.param(lambda info, name=name: {**info, name: 5}, name, "int", id=f"{name}-is-a-number")
        for name in (
            "client_email",
            "private_key",
            "token_uri",
            "private_key_id",
            "universe_domain",
            "project_id",
        )
    ],
    pytest.param(lambda info: {**info, "private_key": ""}, "private_key", "empty", id="an-empty-key"),
    pytest.param(lambda info: {**info, "token_uri": "ftp://x"}, "token_uri", "http", id="no-http-url"),
]


BROKEN_KEYS: list[Any] = [
    pytest.param(lambda info: {**info, "private_key": "no PEM"}, id="no-pem"),
    pytest.param(lambda info: {**info, "private_key": info["private_key"][:600]}, id="a-truncated-key"),
    pytest.param(
        lambda info: {**info, "private_key": damaged(info["private_key"], 0.2)}, id="a-damaged-modulus"
    ),
    pytest.param(
        lambda info: {**info, "private_key": damaged(info["private_key"], 0.45)}, id="a-damaged-exponent"
    ),
    pytest.param(lambda info: {**info, "private_key": EC_KEY}, id="an-elliptic-key"),
]


EC_KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2
OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r
1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G
-----END PRIVATE KEY-----
"""


Break = Callable[[dict[str, str]], dict[str, Any]]


@pytest.mark.parametrize("make", [service_account, service_account_jwt])
@pytest.mark.parametrize(("broken", "field", "text"), BROKEN)
def test_a_malformed_dict_is_an_error_at_the_call(make: Any, broken: Break, field: str, text: str) -> None:
    """It names the field, and describes its value."""
    info = {"type": "service_account", "client_email": "e", "private_key": "k", "token_uri": "https://t"}
    with pytest.raises(ConfigurationError, match=text) as caught:
        make(broken(info))
    assert caught.value.field == field


@pytest.mark.parametrize(("broken", "field", "text"), BROKEN)
async def test_a_malformed_file_is_an_error_when_it_is_loaded(
    broken: Break, field: str, text: str, info: dict[str, str], tmp_path: Path, token_request: TokenRequest
) -> None:
    """It names the path and the field."""
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(broken(info)))
    with pytest.raises(ConfigurationError, match=text) as caught:
        await service_account(path).load(token_request)
    assert caught.value.field == field
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("make", [service_account, service_account_jwt])
@pytest.mark.parametrize("broken", BROKEN_KEYS)
async def test_an_unusable_private_key_is_an_error_when_it_is_loaded(
    make: Any, broken: Break, info: dict[str, str], token_request: TokenRequest
) -> None:
    """Truncated, damaged, or of another kind; the key itself is not shown."""
    with pytest.raises(ConfigurationError, match="no usable RSA key") as caught:
        await make(broken(info)).load(token_request)
    assert caught.value.field == "private_key"


def test_a_self_signed_token_for_a_subject_is_an_error() -> None:
    """Only the endpoint can say that it may."""
    with pytest.raises(ConfigurationError, match="subject"):
        service_account("key.json", subject="boss@example.com", self_signed=True)


@pytest.mark.parametrize("make", [service_account, service_account_jwt])
async def test_a_source_shows_no_key_and_is_not_pickled(
    make: Any, info: dict[str, str], token_request: TokenRequest
) -> None:
    """Before and after it was loaded."""
    source = make(info)
    for _ in range(2):
        assert info["private_key"][100:150] not in repr(source) + str(source)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(source)
        await source.load(token_request)


@pytest.mark.parametrize(
    "url", ["http://tokens.example.com/token", "http://10.0.0.1/t", "https://", "http://[bad"]
)
def test_an_assertion_does_not_cross_the_network_in_the_clear(url: str) -> None:
    """Http is for this machine only."""
    info = {"type": "service_account", "client_email": "e", "private_key": "k", "token_uri": url}
    with pytest.raises(ConfigurationError, match="needs an https URL") as caught:
        service_account(info)
    assert caught.value.field == "token_uri"
