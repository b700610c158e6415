"""Authority: its tokens, published keys and refusals, over google-auth and plain HTTP."""

from __future__ import annotations

import asyncio
import datetime
import json
import math
import time
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import google.auth.credentials
import google.auth.crypt
import google.auth.exceptions
import google.auth.jwt
import google.auth.transport.requests
import google.oauth2.credentials
import google.oauth2.service_account
import jwt
import pytest
import requests
from cryptography import x509

from aio_authgrpc.testing import Authority, FakeClock

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
EMAIL = "tester@project.iam.gserviceaccount.com"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@pytest.fixture
async def authority() -> AsyncGenerator[Authority]:
    async with Authority() as authority:
        yield authority


@pytest.fixture
async def http() -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def refresh(credentials: google.auth.credentials.Credentials) -> None:
    """Refresh as google-auth does, with its requests transport, in a thread."""

    def run() -> None:
        with requests.Session() as session:
            credentials.refresh(google.auth.transport.requests.Request(session))

    await asyncio.to_thread(run)


async def post(http: aiohttp.ClientSession, url: str, **form: str) -> tuple[int, dict[str, Any]]:
    async with http.post(url, data=form) as response:
        return response.status, await response.json()


def assertion(info: dict[str, str], **changes: object) -> str:
    """Sign an assertion with the key of a service account, as google-auth would, but for the changes."""
    now = int(time.time())
    claims = {
        "iss": info["client_email"],
        "scope": SCOPE,
        "aud": info["token_uri"],
        "iat": now,
        "exp": now + 3600,
    }
    headers = {"kid": info["private_key_id"]}
    return jwt.encode(claims | changes, info["private_key"], algorithm="RS256", headers=headers)


def claims_of(token: str | None) -> dict[str, Any]:
    assert token is not None
    return jwt.decode(token, options={"verify_signature": False})


# Service accounts


async def test_service_account_of_google_auth_gets_an_access_token(authority: Authority) -> None:
    """google-auth's service account credentials refresh against the authority."""
    info = await authority.service_account_info(EMAIL)
    credentials = google.oauth2.service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])
    await refresh(credentials)
    claims = claims_of(credentials.token)
    assert (claims["iss"], claims["email"], claims["scope"]) == (authority.issuer, EMAIL, SCOPE)


async def test_service_account_of_google_auth_gets_an_id_token(authority: Authority) -> None:
    """google-auth's ID token credentials get one for their audience."""
    info = await authority.service_account_info(EMAIL)
    credentials = google.oauth2.service_account.IDTokenCredentials.from_service_account_info(
        info, target_audience="https://bookstore.example"
    )
    await refresh(credentials)
    claims = claims_of(credentials.token)
    assert (claims["aud"], claims["email"], claims["sub"]) == (
        "https://bookstore.example",
        EMAIL,
        info["client_id"],
    )


async def test_access_token_is_signed_by_a_published_key(authority: Authority) -> None:
    """The JWKS verifies the authority's tokens."""
    keys = await asyncio.to_thread(jwt.PyJWKClient(authority.jwks_url).get_signing_keys)
    token = authority.issue_access_token()
    assert (
        jwt.decode(token, keys[0], algorithms=["RS256"], audience=authority.issuer)["iss"] == authority.issuer
    )


async def test_token_lifetime_is_the_one_that_was_set(authority: Authority) -> None:
    """The lifetime can be changed while the authority runs."""
    authority.token_lifetime = 120
    claims = claims_of(authority.issue_access_token())
    assert claims["exp"] - claims["iat"] == 120


async def test_two_tokens_of_the_same_second_differ(authority: Authority) -> None:
    """No two tokens are equal."""
    assert authority.issue_access_token() != authority.issue_access_token()


async def test_second_key_file_leaves_the_first_good(authority: Authority) -> None:
    """An account can have several keys."""
    first, second = [await authority.service_account_info(EMAIL) for _ in range(2)]
    assert first["private_key_id"] != second["private_key_id"]
    for info in (first, second):
        credentials = google.oauth2.service_account.Credentials.from_service_account_info(
            info, scopes=[SCOPE]
        )
        await refresh(credentials)


async def test_assertion_for_the_address_of_the_endpoint_is_taken(
    authority: Authority, http: aiohttp.ClientSession
) -> None:
    """An assertion may be for the authority's own token_uri, and not only for Google's."""
    info = await authority.service_account_info()
    status, answer = await post(http, authority.token_uri, grant_type=JWT_BEARER, assertion=assertion(info))
    assert (status, answer["token_type"], answer["expires_in"]) == (200, "Bearer", 3600)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        pytest.param({"iss": "unknown@example.com"}, "account not found", id="unknown-issuer"),
        pytest.param({"aud": "https://elsewhere.example"}, "Failed audience check", id="wrong-audience"),
        pytest.param({"aud": ["a", "b"]}, "Failed audience check", id="several-audiences"),
        pytest.param({"exp": 1}, "short-lived token", id="expired"),
        pytest.param({"iat": 2**33, "exp": 2**33 + 60}, "short-lived token", id="from-the-future"),
        pytest.param({"exp": 2**33}, "short-lived token", id="too-long"),
        pytest.param({"iat": None}, "short-lived token", id="no-iat"),
    ],
)
async def test_wrong_assertion_is_an_invalid_grant(
    authority: Authority, http: aiohttp.ClientSession, changes: dict[str, object], complaint: str
) -> None:
    """A wrong claim is refused in Google's form, and the description says which."""
    wrong = assertion(await authority.service_account_info(), **changes)
    status, answer = await post(http, authority.token_uri, grant_type=JWT_BEARER, assertion=wrong)
    assert (status, answer["error"]) == (400, "invalid_grant")
    assert complaint in answer["error_description"]


async def test_assertion_without_scope_or_audience_is_an_invalid_scope(
    authority: Authority, http: aiohttp.ClientSession
) -> None:
    """A service account must ask for scopes or an audience."""
    wrong = assertion(await authority.service_account_info(), scope="")
    status, answer = await post(http, authority.token_uri, grant_type=JWT_BEARER, assertion=wrong)
    assert (status, answer["error"]) == (400, "invalid_scope")


async def test_assertion_signed_by_another_key_is_an_invalid_grant(
    authority: Authority, http: aiohttp.ClientSession
) -> None:
    """The signature is verified with the key that the account registered under that id."""
    first, second = [await authority.service_account_info() for _ in range(2)]
    forged = assertion(first | {"private_key": second["private_key"]})
    status, answer = await post(http, authority.token_uri, grant_type=JWT_BEARER, assertion=forged)
    assert (status, answer["error_description"]) == (400, "Invalid JWT Signature.")


async def test_assertion_that_is_no_jwt_is_an_invalid_grant(
    authority: Authority, http: aiohttp.ClientSession
) -> None:
    """A malformed assertion is refused like a wrong one."""
    status, answer = await post(http, authority.token_uri, grant_type=JWT_BEARER, assertion="nonsense")
    assert (status, answer["error"]) == (400, "invalid_grant")


async def test_unknown_grant_type_is_unsupported(authority: Authority, http: aiohttp.ClientSession) -> None:
    """Only the two grants of Google's clients are served."""
    status, answer = await post(http, authority.token_uri, grant_type="password")
    assert (status, answer["error"]) == (400, "unsupported_grant_type")


async def test_revoked_account_is_an_invalid_grant(authority: Authority) -> None:
    """google-auth sees a revoked account as it would at Google."""
    info = await authority.service_account_info(EMAIL)
    authority.revoke(EMAIL)
    credentials = google.oauth2.service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])
    with pytest.raises(
        google.auth.exceptions.RefreshError, match="invalid_grant: Invalid grant: account not found"
    ):
        await refresh(credentials)


async def test_revoking_an_unknown_email_is_an_error(authority: Authority) -> None:
    """A misspelt email does not pass silently."""
    with pytest.raises(LookupError, match=r"unknown@example\.com"):
        authority.revoke("unknown@example.com")


async def test_assertion_dated_by_another_clock_is_refused_unless_skew_allows_it(
    http: aiohttp.ClientSession,
) -> None:
    """An infinite skew takes assertions of the machine's clock at any fake time."""
    for skew, expected in ((60, 400), (math.inf, 200)):
        async with Authority(clock=FakeClock(), assertion_skew=skew) as authority:
            dated_now = assertion(await authority.service_account_info())
            status, _ = await post(http, authority.token_uri, grant_type=JWT_BEARER, assertion=dated_now)
            assert status == expected


# Users


def user_credentials(info: dict[str, str], authority: Authority) -> google.oauth2.credentials.Credentials:
    credentials = google.oauth2.credentials.Credentials.from_authorized_user_info(info, scopes=[SCOPE])
    at_the_authority: google.oauth2.credentials.Credentials = credentials.with_token_uri(authority.token_uri)
    return at_the_authority


async def test_user_of_google_auth_gets_an_access_token_and_an_id_token(authority: Authority) -> None:
    """google-auth's user credentials refresh, and get an ID token for their client along with it."""
    info = authority.user_info("someone@example.com")
    credentials = user_credentials(info, authority)
    await refresh(credentials)
    assert claims_of(credentials.token)["email"] == "someone@example.com"
    assert claims_of(credentials.id_token)["aud"] == info["client_id"]


async def test_revoked_user_is_an_invalid_grant(authority: Authority) -> None:
    """A revoked refresh token is refused in Google's words."""
    credentials = user_credentials(authority.user_info("someone@example.com"), authority)
    authority.revoke("someone@example.com")
    with pytest.raises(google.auth.exceptions.RefreshError, match="expired or revoked"):
        await refresh(credentials)


async def test_wrong_client_secret_is_an_invalid_client(
    authority: Authority, http: aiohttp.ClientSession
) -> None:
    """A refresh token is good for the client that got it."""
    info = authority.user_info()
    form = {
        "grant_type": "refresh_token",
        "refresh_token": info["refresh_token"],
        "client_id": info["client_id"],
    }
    status, answer = await post(http, authority.token_uri, client_secret="wrong", **form)
    assert (status, answer["error"]) == (401, "invalid_client")


# Keys


async def get(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with http.get(url, raise_for_status=True) as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def published(http: aiohttp.ClientSession, url: str) -> list[str]:
    return [key["kid"] for key in (await get(http, url))["keys"]]


@pytest.mark.parametrize(("keep_old", "number"), [(True, 2), (False, 1)])
async def test_rotated_key_signs_and_the_old_one_stays_or_leaves(
    authority: Authority, http: aiohttp.ClientSession, keep_old: bool, number: int
) -> None:
    """After a rotation the new key signs, and is published; the old one as ordered."""
    old = authority.signing_key.key_id
    await authority.rotate_keys(keep_old=keep_old)
    key_ids = await published(http, authority.jwks_url)
    assert len(key_ids) == number
    assert jwt.get_unverified_header(authority.issue_access_token())["kid"] == key_ids[-1] != old


async def test_account_keys_are_published_as_a_jwks(
    authority: Authority, http: aiohttp.ClientSession
) -> None:
    """The keys of an account are where Endpoints looks for them."""
    info = await authority.service_account_info(EMAIL)
    assert await published(http, authority.account_jwks_url(EMAIL)) == [info["private_key_id"]]


async def test_account_keys_are_published_as_certificates(
    authority: Authority, http: aiohttp.ClientSession
) -> None:
    """google-auth verifies a self-signed token with the certificates of its account."""
    info = await authority.service_account_info(EMAIL)
    certificates = await get(http, info["client_x509_cert_url"])
    signer = google.auth.crypt.RSASigner.from_service_account_info(info)
    now = int(time.time())
    token = google.auth.jwt.encode(signer, {"iat": now, "exp": now + 60, "sub": "me"})
    assert google.auth.jwt.decode(token, certs=certificates)["sub"] == "me"


async def test_certificate_is_dated_by_the_clock(http: aiohttp.ClientSession) -> None:
    """A certificate is good at the authority's own time."""
    async with Authority(clock=FakeClock(0)) as authority:
        await authority.service_account_info(EMAIL)
        [pem] = (await get(http, authority.account_x509_url(EMAIL))).values()
    certificate = x509.load_pem_x509_certificate(str(pem).encode())
    assert certificate.not_valid_before_utc < datetime.datetime.fromtimestamp(0, datetime.UTC)


async def test_keys_of_an_unknown_account_are_not_found(
    authority: Authority, http: aiohttp.ClientSession
) -> None:
    """An account without a key file has no keys."""
    async with http.get(authority.account_jwks_url("unknown@example.com")) as response:
        assert response.status == 404


async def test_foreign_key_looks_like_the_signing_key(authority: Authority) -> None:
    """A forged token carries the id of a published key."""
    forged = authority.issue_access_token(key=await authority.foreign_key())
    assert jwt.get_unverified_header(forged)["kid"] == authority.signing_key.key_id


async def test_two_open_authorities_share_no_key(authority: Authority) -> None:
    """Keys are used again only after their owner has closed."""
    async with Authority() as other:
        assert authority.signing_key.jwk()["n"] != other.signing_key.jwk()["n"]


async def test_secrets_are_in_no_repr(authority: Authority) -> None:
    """A key and a recorded request show no secret."""
    info = await authority.service_account_info()
    credentials = google.oauth2.service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])
    await refresh(credentials)
    [request] = authority.requests
    shown = repr(request) + repr(authority.signing_key)
    assert request.form["assertion"] not in shown
    assert "RSAPrivateKey" not in shown


# Wrong tokens for tests


@pytest.mark.parametrize(
    ("arguments", "claim", "expected"),
    [
        ({"issuer": "https://elsewhere.example"}, "iss", "https://elsewhere.example"),
        ({"audience": "https://elsewhere.example"}, "aud", "https://elsewhere.example"),
        ({"subject": "42"}, "sub", "42"),
        ({"scope": "a b"}, "scope", "a b"),
        ({"lifetime": -10}, "exp", 1_699_999_990),
        ({"not_before": 90}, "nbf", 1_700_000_090),
    ],
)
async def test_issued_token_is_as_wrong_as_ordered(
    arguments: dict[str, Any], claim: str, expected: object
) -> None:
    """Each claim can be set separately."""
    async with Authority(clock=FakeClock()) as authority:
        assert claims_of(authority.issue_access_token(**arguments))[claim] == expected


async def test_self_signed_token_of_an_unknown_account_is_an_error(authority: Authority) -> None:
    """Only an account with a key file can sign."""
    with pytest.raises(LookupError, match="service_account_info"):
        authority.issue_self_signed_token(audience="a", email="unknown@example.com")


# Requests and faults


async def test_every_request_is_recorded(authority: Authority, http: aiohttp.ClientSession) -> None:
    """The authority records requests, and counts token requests."""
    await get(http, authority.jwks_url)
    await post(http, authority.token_uri, grant_type="password")
    assert [(request.method, request.path) for request in authority.requests] == [
        ("GET", "/jwks"),
        ("POST", "/token"),
    ]
    assert authority.token_requests == 1
    assert authority.requests[1].form == {"grant_type": "password"}
    assert authority.requests[1].headers["content-type"] == "application/x-www-form-urlencoded"


async def test_held_requests_wait_for_the_release(authority: Authority, http: aiohttp.ClientSession) -> None:
    """Requests arrive, wait together, and are answered after the release."""
    with authority.hold() as gate:
        tasks = [asyncio.create_task(post(http, authority.token_uri, grant_type="x")) for _ in range(3)]
        await gate.wait_for(3)
        assert (gate.waiting, authority.token_requests, [task.done() for task in tasks]) == (
            3,
            3,
            [False] * 3,
        )
    assert [status for status, _ in await asyncio.gather(*tasks)] == [400] * 3
    assert gate.released


async def test_fault_ordered_while_requests_are_held_meets_them(
    authority: Authority, http: aiohttp.ClientSession
) -> None:
    """Waits come before faults."""
    gate = authority.hold()
    task = asyncio.create_task(post(http, authority.token_uri, grant_type="x"))
    await gate.arrived.wait()
    authority.fail(500, {"error": "ordered"})
    gate.release()
    assert await task == (500, {"error": "ordered"})


async def test_failure_lasts_for_its_number_of_requests(
    authority: Authority, http: aiohttp.ClientSession
) -> None:
    """An order concerns its number of requests."""
    authority.fail(503, times=2)
    answers = [await post(http, authority.token_uri, grant_type="x") for _ in range(3)]
    assert [status for status, _ in answers] == [503, 503, 400]


async def test_failure_until_further_notice_ends_with_behave(
    authority: Authority, http: aiohttp.ClientSession
) -> None:
    """An order without a number ends with `behave()`."""
    authority.fail(429, times=None, headers={"retry-after": "7"})
    async with http.post(authority.token_uri) as response:
        assert (response.status, response.headers["retry-after"]) == (429, "7")
    authority.behave()
    status, _ = await post(http, authority.token_uri, grant_type="x")
    assert status == 400


async def test_orders_leave_the_other_paths_alone(authority: Authority, http: aiohttp.ClientSession) -> None:
    """An order is for the token endpoint unless it names another path."""
    authority.fail(503, times=None)
    assert await published(http, authority.jwks_url)
    authority.fail(503, times=None, path="*")
    async with http.get(authority.jwks_url) as response:
        assert response.status == 503


def test_order_for_no_request_is_an_error() -> None:
    """Zero requests is a mistake."""
    with pytest.raises(ValueError, match="times"):
        Authority().fail(times=0)


async def test_garbage_is_not_json(authority: Authority, http: aiohttp.ClientSession) -> None:
    """Garbage comes with status 200 and cannot be parsed."""
    authority.send_garbage()
    async with http.post(authority.token_uri) as response:
        assert response.status == 200
        with pytest.raises(json.JSONDecodeError):
            json.loads(await response.text())


async def test_reset_connection_has_no_answer(authority: Authority) -> None:
    """The client's connection is reset, not closed."""
    authority.reset_connections()
    host, port = "127.0.0.1", int(authority.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"POST /token HTTP/1.1\r\nHost: authority\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_delayed_answer_waits_for_the_clock(http: aiohttp.ClientSession) -> None:
    """A delay is over when the authority's clock says so."""
    clock = FakeClock()
    async with Authority(clock=clock) as authority:
        authority.delay(30, times=1)
        task = asyncio.create_task(post(http, authority.token_uri, grant_type="x"))
        await clock.wait_for_sleepers()
        clock.advance(30)
        assert (await task)[0] == 400


@pytest.mark.parametrize("wait", ["hold", "delay"])
async def test_closing_does_not_wait_for_held_requests(http: aiohttp.ClientSession, wait: str) -> None:
    """Closing ends held and delayed requests."""
    clock = FakeClock()
    async with Authority(clock=clock) as authority:
        gate = authority.hold()
        if wait == "delay":
            gate.release()
            authority.delay(30)
        task = asyncio.create_task(post(http, authority.token_uri, grant_type="x"))
        await (gate.arrived.wait() if wait == "hold" else clock.wait_for_sleepers())
    await asyncio.wait([task])
    assert task.exception() is None or isinstance(task.exception(), aiohttp.ClientError)
