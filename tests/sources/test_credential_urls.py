"""The URLs in google-auth's credentials: no secret goes to another machine in the clear."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.auth.aio.credentials
import google.auth.external_account_authorized_user
import google.auth.identity_pool
import google.auth.impersonated_credentials
import google.oauth2.credentials
import pytest

from aio_authgrpc import ConfigurationError, TokenRequest, connect, id_token
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc.credentials import external_account
from aio_authgrpc.errors import TokenRefusedError
from aio_authgrpc.testing import EchoStub
from aio_authgrpc.tokens import TokenCache

CLEAR = "http://tokens.invalid/token"
POOL: dict[str, Any] = {
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}


def user(token_uri: str = CLEAR) -> Any:
    return google.oauth2.credentials.Credentials(
        None, refresh_token="r", client_id="i", client_secret="s", token_uri=token_uri
    )


def pool(token_url: str = "https://sts.example.com/v1/token", **source: Any) -> Any:
    return google.auth.identity_pool.Credentials(
        **POOL, token_url=token_url, credential_source=source or {"file": "/subject"}
    )


def impersonated(source: Any, **options: Any) -> Any:
    return google.auth.impersonated_credentials.Credentials(
        source_credentials=source, target_principal="a@b", target_scopes=["s"], **options
    )


def workforce() -> Any:
    return google.auth.external_account_authorized_user.Credentials(
        refresh_token="r", client_id="i", client_secret="s", token_url=CLEAR
    )


class Aio(google.auth.aio.credentials.Credentials):  # type: ignore[misc]  # untyped upstream
    def __init__(self) -> None:
        super().__init__()
        self.token = None
        self._token_uri = CLEAR


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(user, id="user"),
        pytest.param(lambda: user("HTTP://tokens.invalid/token"), id="upper-case"),
        pytest.param(lambda: pool(CLEAR), id="pool"),
        pytest.param(workforce, id="workforce"),
        pytest.param(lambda: impersonated(user()), id="source-of-an-impersonation"),
        pytest.param(
            lambda: impersonated(user("https://x"), iam_endpoint_override="http://tokens.invalid/iam"),
            id="iam",
        ),
        pytest.param(Aio, id="google.auth.aio"),
        pytest.param(lambda: {"authorization": user()}, id="one-of-several"),
    ],
)
def test_an_endpoint_in_the_clear_is_refused_at_the_call(make: Callable[[], Any]) -> None:
    """As in a credential file; the refresh token would cross the network."""
    with pytest.raises(ConfigurationError, match=r"tokens\.invalid.* in the clear") as caught:
        connect("host", EchoStub, credentials=make())
    assert caught.value.field == "credentials"


def test_an_endpoint_in_the_clear_is_refused_for_id_tokens() -> None:
    """`id_token(credentials=)` takes google-auth's objects, too."""
    with pytest.raises(ConfigurationError, match="in the clear"):
        id_token("https://x", credentials=user())


async def test_an_endpoint_that_changes_later_gets_nothing(token_request: TokenRequest) -> None:
    """The check at the call may be too early; a request with a body is checked again when it is sent."""
    credentials = user("https://oauth2.example.com/token")
    source = as_token_source(credentials)
    credentials._token_uri = CLEAR
    async with TokenCache(source, request=token_request.http) as cache:
        with pytest.raises(TokenRefusedError, match="a secret in the clear"):
            await cache.get()


async def test_an_aio_credentials_request_is_checked_when_it_is_sent(token_request: TokenRequest) -> None:
    """Its URL may stand anywhere."""

    class Elsewhere(google.auth.aio.credentials.Credentials):  # type: ignore[misc]  # untyped upstream
        token: str | None = None

        async def refresh(self, request: Any) -> None:
            await request(CLEAR, method="POST", body=b"refresh_token=r")

    with pytest.raises(ConfigurationError, match="a secret in the clear"):
        await as_token_source(Elsewhere()).fetch(token_request)


@pytest.mark.parametrize("url", ["http://tokens.invalid/subject", "http://tokens.internal/subject"])
async def test_a_subject_token_that_comes_in_the_clear_warns(
    url: str, tmp_path: Path, token_request: TokenRequest
) -> None:
    """Of an object at the call, of a file when it is read."""
    with pytest.warns(UserWarning, match="subject token comes from"):
        as_token_source(pool(url=url))
    info = {"type": "external_account", **POOL, "token_url": "https://x", "credential_source": {"url": url}}
    file = tmp_path / "external.json"
    file.write_text(json.dumps(info))
    with pytest.warns(UserWarning, match="subject token comes from"):
        await external_account(file).load(token_request)


@pytest.mark.parametrize(
    "url",
    [
        "https://tokens.internal/subject",
        "http://127.0.0.1:1/subject",
        "http://localhost/subject",
        "http://169.254.169.254/metadata/identity/oauth2/token",
        "http://[fd00:ec2::254]/latest/meta-data",
    ],
)
def test_a_subject_token_of_this_machine_or_its_link_does_not_warn(url: str) -> None:
    """The metadata services of clouds have no TLS."""
    as_token_source(pool(url=url))
