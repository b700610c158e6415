"""An empty access token is an error of every source: no call goes out without the identity it was to have."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import google.auth.aio.credentials
import google.oauth2.credentials
import pytest

from aio_authgrpc import AiohttpRequest, Token, TokenRequest, anonymous, connect, identity, token_source
from aio_authgrpc import credentials as sources
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError
from aio_authgrpc.testing import Authority, CredentialFiles, EchoServer, EchoStub, GoogleCloud
from aio_authgrpc.tokens import TokenCache

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
EMPTY: Mapping[str, object] = {
    "access_token": "",
    "accessToken": "",
    "id_token": "",
    "token": "",
    "expires_in": 3600,
    "expireTime": "2100-01-01T00:00:00Z",
    "token_type": "Bearer",
}
IMPERSONATED = "/v1/projects/-/serviceAccounts/impersonated@project.iam.gserviceaccount.com"
MACHINE = "/computeMetadata/v1/instance/service-accounts"


@pytest.fixture
async def http(google_cloud: GoogleCloud) -> AsyncIterator[AiohttpRequest]:
    """Give this package's transport, over a session that trusts the proxy."""
    async with google_cloud.session() as session, AiohttpRequest(session) as http:
        yield http


async def fetched(source: Any, http: AiohttpRequest) -> Token:
    async with TokenCache(source, audience="https://host", request=http, attempts=1) as cache:
        return await cache.get()


@pytest.mark.parametrize(
    ("make", "path"),
    [
        pytest.param(
            lambda infos: sources.service_account(infos["service_account"], scopes=SCOPES), "/token", id="key"
        ),
        pytest.param(lambda infos: sources.authorized_user(infos["authorized_user"]), "/token", id="user"),
        pytest.param(
            lambda infos: sources.external_account(infos["external_account_file"], scopes=SCOPES),
            "/v1/token",
            id="external",
        ),
        pytest.param(
            lambda infos: sources.external_account_authorized_user(infos["external_account_authorized_user"]),
            "/v1/oauthtoken",
            id="workforce",
        ),
        pytest.param(
            lambda infos: sources.impersonated_service_account(
                infos["impersonated_service_account"], scopes=SCOPES
            ),
            f"{IMPERSONATED}:generateAccessToken",
            id="impersonated",
        ),
        pytest.param(
            lambda infos: as_token_source(
                {
                    "authorization": sources.service_account(infos["service_account"], scopes=SCOPES),
                    "x-other": sources.static_token("abc"),
                }
            ),
            "/token",
            id="one-of-two",
        ),
    ],
)
async def test_an_empty_token_of_an_endpoint_is_an_error_that_may_pass(
    google_cloud: GoogleCloud,
    http: AiohttpRequest,
    tmp_path: Path,
    make: Callable[[Any], Any],
    path: str,
) -> None:
    """The next request may get a better answer, and is made: google-auth would keep the empty one."""
    source = make(await CredentialFiles(google_cloud, tmp_path).every_type())
    google_cloud.apis.fail(200, EMPTY, path=path)
    with pytest.raises(TokenUnavailableError):
        await fetched(source, http)
    assert (await fetched(source, http)).value


async def test_an_empty_token_of_the_metadata_server_is_an_error_that_may_pass(
    google_cloud: GoogleCloud, http: AiohttpRequest
) -> None:
    """Of the machine's own identity."""
    source = sources.compute_engine()
    google_cloud.metadata.fail(200, json.dumps(EMPTY), path="*", headers={"Metadata-Flavor": "Google"})
    with pytest.raises(TokenUnavailableError):
        await fetched(source, http)


class Empty:
    """A source of a user's own."""

    def __init__(self, token: Token) -> None:
        self._token = token

    async def fetch(self, request: TokenRequest) -> Token:
        return self._token


async def nothing() -> str:
    return ""


class EmptyAio(google.auth.aio.credentials.Credentials):  # type: ignore[misc]  # untyped upstream
    token: str | None = None

    async def refresh(self, request: Any) -> None:
        self.token = ""


EMPTY_SOURCES = [
    pytest.param(Empty(Token("")), id="source"),
    pytest.param(Empty(Token("", metadata=(("x-goog-user-project", "payer"),))), id="quota-project-alone"),
    pytest.param(token_source(nothing), id="token_source"),
    pytest.param(EmptyAio(), id="google.auth.aio"),
    pytest.param({"authorization": anonymous(), "x-other": Empty(Token(""))}, id="one-of-two"),
]


@pytest.mark.parametrize("source", EMPTY_SOURCES)
@pytest.mark.parametrize("as_identity", [False, True], ids=["channel", "identity"])
async def test_a_call_is_not_sent_with_an_empty_token(
    echo_server: EchoServer, source: Any, as_identity: bool
) -> None:
    """Neither as the channel's own identity nor under `identity()`."""
    own = anonymous() if as_identity else source
    async with connect(
        echo_server.target, EchoStub, credentials=own, ssl_credentials=echo_server.ssl_credentials
    ) as stub:
        with pytest.raises(TokenUnavailableError, match="empty access token"):
            if as_identity:
                given = source if isinstance(source, dict) else {"authorization": source}
                with identity(given):
                    await stub.UnaryUnary(b"x", timeout=30)
            else:
                await stub.UnaryUnary(b"x", timeout=30)
    assert echo_server.calls == []


async def test_anonymous_credentials_are_sent_on_purpose(echo_server: EchoServer) -> None:
    """Alone, and for each of several headers."""
    for credentials in (anonymous(), {"authorization": anonymous(), "x-other": anonymous()}):
        async with connect(
            echo_server.target, EchoStub, credentials=credentials, ssl_credentials=echo_server.ssl_credentials
        ) as stub:
            await stub.UnaryUnary(b"x", timeout=30)
    assert [call.values("authorization") for call in echo_server.calls] == [(), ()]


@pytest.mark.parametrize("value", ["s3cret half", "Bearer s3cret", "s3cret\n", "s3crét"])
async def test_a_token_with_a_blank_is_refused_and_not_shown(
    authority: Authority, token_request: TokenRequest, value: str
) -> None:
    """google-auth puts it after the scheme as it is; its first half must not pass for a scheme."""
    source = as_token_source(
        google.oauth2.credentials.Credentials(
            None,
            refresh_token="1//refresh-token",
            client_id="id",
            client_secret="secret",
            token_uri=authority.token_uri,
        )
    )
    authority.fail(200, {"access_token": value, "expires_in": 3600})
    authority.fail(200, {"access_token": "good", "expires_in": 3600})
    async with TokenCache(source, request=token_request.http) as cache:
        with pytest.raises(TokenRefusedError) as caught:
            await cache.get()
    assert "s3cr" not in str(caught.value) + repr(caught.value.__cause__)
    assert (await source.fetch(token_request)).value == "good"
