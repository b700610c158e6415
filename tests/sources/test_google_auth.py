"""google-auth's credentials as sources: refreshed over the bridge, signed for the host, translated errors."""

from __future__ import annotations

import asyncio
import datetime
import gc
import traceback
from typing import Any

import google.auth.aio.credentials
import google.auth.api_key
import google.auth.credentials
import google.auth.jwt
import google.oauth2.credentials
import google.oauth2.service_account
import jwt
import pytest

from aio_authgrpc import (
    Token,
    TokenRequest,
    id_token,
)
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError
from aio_authgrpc.testing import Authority

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


async def service_account_credentials(authority: Authority, **arguments: Any) -> Any:
    info = await authority.service_account_info()
    make = google.oauth2.service_account.Credentials.from_service_account_info
    return await asyncio.to_thread(make, info, **arguments)


def claims(token: Token) -> dict[str, Any]:
    return jwt.decode(token.value, options={"verify_signature": False})


async def test_a_sync_credential_is_refreshed_over_the_bridge(
    authority: Authority, token_request: TokenRequest
) -> None:
    """Its token and its expiry arrive."""
    credentials = await service_account_credentials(authority, scopes=SCOPES)
    token = await as_token_source(credentials).fetch(token_request)
    assert token.value == credentials.token
    assert authority.token_requests == 1
    expected = credentials.expiry.replace(tzinfo=datetime.UTC).timestamp()
    assert token.expires_at == expected


async def test_a_token_that_the_credential_has_is_used_first(
    authority: Authority, token_request: TokenRequest
) -> None:
    """Until the request says that it is to be replaced: it is stale, or was refused."""
    credentials = await service_account_credentials(authority, scopes=SCOPES)
    first = await as_token_source(credentials).fetch(token_request)
    source = as_token_source(credentials)
    assert (await source.fetch(token_request)).value == first.value
    again = token_request.replace(unwanted=first)
    assert (await source.fetch(again)).value != first.value
    assert authority.token_requests == 2


async def test_a_service_account_without_scopes_signs_for_the_host(
    authority: Authority, token_request: TokenRequest
) -> None:
    """As google-auth's plugin does, https://google.aip.dev/auth/4111, without a request."""
    credentials = await service_account_credentials(authority)
    token = await as_token_source(credentials).fetch(token_request)
    assert claims(token)["aud"] == "https://host/"
    assert authority.requests == []


async def test_one_credential_on_two_hosts_has_two_audiences(
    authority: Authority, token_request: TokenRequest
) -> None:
    """google-auth's plugin sends the first host's audience to the second."""
    source = as_token_source(await service_account_credentials(authority))
    other = TokenRequest(http=token_request.http, audience="https://other", time=0)
    tokens = [await source.fetch(token_request), await source.fetch(other)]
    assert [claims(token)["aud"] for token in tokens] == ["https://host/", "https://other/"]


async def test_an_id_token_credential_is_refreshed(authority: Authority, token_request: TokenRequest) -> None:
    """The endpoint answers with an id_token; its expiry is read from it."""
    info = await authority.service_account_info()
    make = google.oauth2.service_account.IDTokenCredentials.from_service_account_info
    credentials = await asyncio.to_thread(make, info, target_audience="https://service")
    token = await as_token_source(credentials).fetch(token_request)
    assert claims(token)["aud"] == "https://service"
    assert token.expires_at == claims(token)["exp"]


async def test_a_user_credential_is_refreshed(authority: Authority, token_request: TokenRequest) -> None:
    """Seed 003's three-legged user."""
    info = authority.user_info()
    credentials = google.oauth2.credentials.Credentials(
        None,
        refresh_token=info["refresh_token"],
        client_id=info["client_id"],
        client_secret=info["client_secret"],
        token_uri=info["token_uri"],
        quota_project_id="payer",
    )
    token = await as_token_source(credentials).fetch(token_request)
    assert claims(token)["email"] == "someone@example.com"
    assert token.metadata == (("x-goog-user-project", "payer"),)


async def test_a_jwt_credential_signs(authority: Authority, token_request: TokenRequest) -> None:
    """google.auth.jwt keeps its token as bytes."""
    info = await authority.service_account_info()
    make = google.auth.jwt.Credentials.from_service_account_info
    credentials = await asyncio.to_thread(make, info, audience="https://any")
    assert claims(await as_token_source(credentials).fetch(token_request))["aud"] == "https://any"


async def test_a_credential_with_a_token_only_is_used_as_it_is(token_request: TokenRequest) -> None:
    """It has no expiry and nothing to refresh with."""
    credentials = google.oauth2.credentials.Credentials("abc")
    assert await as_token_source(credentials).fetch(token_request) == Token("abc")


async def test_a_credential_that_cannot_refresh_is_refused(token_request: TokenRequest) -> None:
    """Once its only token is of no use."""
    source = as_token_source(google.oauth2.credentials.Credentials("abc"))
    only = await source.fetch(token_request)
    with pytest.raises(TokenRefusedError):
        await source.fetch(token_request.replace(unwanted=only))


async def test_an_anonymous_credential_sends_nothing(token_request: TokenRequest) -> None:
    """For emulators."""
    for credentials in (
        google.auth.credentials.AnonymousCredentials(),
        google.auth.aio.credentials.AnonymousCredentials(),
    ):
        token = await as_token_source(credentials).fetch(token_request)
        assert token.as_metadata("authorization") == ()


async def test_an_api_key_credential_goes_to_its_header(token_request: TokenRequest) -> None:
    """google.auth.api_key has no bearer."""
    token = await as_token_source(google.auth.api_key.Credentials("key")).fetch(token_request)
    assert token.as_metadata("authorization") == (("x-goog-api-key", "key"),)


async def test_a_static_aio_credential_is_awaited_natively(token_request: TokenRequest) -> None:
    """google.auth.aio, as often as asked."""
    source = as_token_source(google.auth.aio.credentials.StaticCredentials("abc"))
    assert [await source.fetch(token_request) for _ in range(2)] == [Token("abc")] * 2


async def test_an_aio_credential_with_a_refresh_uses_the_session(
    authority: Authority, token_request: TokenRequest
) -> None:
    """A subclass gets google.auth.aio's request over our session."""

    class Fetching(google.auth.aio.credentials.Credentials):  # type: ignore[misc]  # untyped upstream
        token: str | None = None

        async def refresh(self, request: Any) -> None:
            response = await request(authority.jwks_url)
            await response.read()
            self.token = "abc"

    assert await as_token_source(Fetching()).fetch(token_request) == Token("abc")
    assert len(authority.requests) == 1


@pytest.mark.parametrize(
    ("order", "kind", "requests"),
    [
        pytest.param(
            lambda authority: authority.fail(400, {"error": "invalid_grant"}), TokenRefusedError, 1, id="400"
        ),
        pytest.param(lambda authority: authority.fail(501, "?"), TokenUnavailableError, 1, id="501"),
        pytest.param(lambda authority: authority.reset_connections(), TokenUnavailableError, 1, id="reset"),
        pytest.param(lambda authority: authority.send_garbage(), TokenUnavailableError, 1, id="garbage"),
        pytest.param(lambda authority: authority.fail(200, {}), TokenUnavailableError, 1, id="nothing-in-it"),
        pytest.param(
            lambda authority: authority.fail(200, {"error": "invalid_grant"}),
            TokenRefusedError,
            1,
            id="a-refusal-with-200",
        ),
    ],
)
async def test_a_refresh_that_fails_is_retryable_or_refused(
    authority: Authority, token_request: TokenRequest, order: Any, kind: type[Exception], requests: int
) -> None:
    """By the endpoint's status where there is one, which google-auth's exceptions do not tell."""
    source = as_token_source(await service_account_credentials(authority, scopes=SCOPES))
    order(authority)
    with pytest.raises(kind):
        await source.fetch(token_request)
    assert authority.token_requests == requests


async def test_a_subject_is_asked_for_at_the_endpoint(
    authority: Authority, token_request: TokenRequest
) -> None:
    """Signing for oneself would silently drop the subject."""
    credentials = await service_account_credentials(authority, subject="boss@example.com")
    with pytest.raises(TokenRefusedError, match="invalid_scope"):
        await as_token_source(credentials).fetch(token_request)
    assert authority.token_requests == 1


async def test_a_signed_token_keeps_the_quota_project(
    authority: Authority, token_request: TokenRequest
) -> None:
    """As an exchanged one does."""
    credentials = await service_account_credentials(authority, quota_project_id="payer")
    token = await as_token_source(credentials).fetch(token_request)
    assert token.metadata == (("x-goog-user-project", "payer"),)


async def test_a_token_that_one_audience_rejected_is_not_handed_to_it_again(
    authority: Authority, token_request: TokenRequest
) -> None:
    """Also where another audience has asked the same source in between."""
    source = as_token_source(await service_account_credentials(authority, scopes=SCOPES))
    other = TokenRequest(http=token_request.http, audience="https://other", time=0)
    first = await source.fetch(token_request)
    assert (await source.fetch(other)).value == first.value
    again = token_request.replace(unwanted=first)
    assert (await source.fetch(again)).value != first.value
    assert authority.token_requests == 2


async def test_a_secret_in_the_endpoints_refusal_is_in_no_cause(
    authority: Authority, token_request: TokenRequest
) -> None:
    """google-auth's error holds the whole response."""
    secret = authority.issue_access_token()
    source = as_token_source(await service_account_credentials(authority, scopes=SCOPES))
    authority.fail(400, {"error": "invalid_grant", "error_description": f"not {secret}", "id_token": secret})
    with pytest.raises(TokenRefusedError) as caught:
        await source.fetch(token_request)
    assert secret not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__)
    assert caught.value.__context__ is None


async def test_a_huge_error_page_does_not_hold_the_loop(
    authority: Authority, token_request: TokenRequest
) -> None:
    """It is cut before it is searched for secrets: a megabyte would take a second."""
    source = as_token_source(await service_account_credentials(authority, scopes=SCOPES))
    authority.fail(400, "x " * 500_000)
    with pytest.raises(TokenRefusedError) as caught:
        await source.fetch(token_request)
    assert len(str(caught.value)) < 1_000
    assert len(repr(caught.value.__cause__)) < 5_000


async def test_another_scheme_is_kept(token_request: TokenRequest) -> None:
    """The scheme that `apply` writes is sent."""

    class Proof(google.oauth2.credentials.Credentials):  # type: ignore[misc]  # untyped upstream
        def apply(self, headers: dict[str, str], token: str | None = None) -> None:
            headers["authorization"] = "DPoP abc"

    token = await as_token_source(Proof("abc")).fetch(token_request)
    assert token.as_metadata("authorization") == (("authorization", "DPoP abc"),)


@pytest.mark.parametrize("makes_id_tokens", [False, True], ids=["signed", "id-token"])
async def test_a_source_forgets_what_it_made_for_audiences_that_are_not_used(
    authority: Authority, token_request: TokenRequest, makes_id_tokens: bool
) -> None:
    """It keeps that for 128 of them, each with its token."""
    credentials = await service_account_credentials(authority)
    source = id_token(credentials=credentials, self_signed=True) if makes_id_tokens else credentials
    source = as_token_source(source)
    for number in range(200):
        audience = f"https://host-{number}"
        token = await source.fetch(token_request.replace(audience=audience))
        assert claims(token)["aud"].removesuffix("/") == audience
    gc.collect()
    made = [each for each in gc.get_objects() if type(each) is google.auth.jwt.Credentials]
    assert len(made) == 128
