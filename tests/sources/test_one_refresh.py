"""One credential is refreshed once, whoever asks: a refresh token that comes twice may count as stolen."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

import google.auth.aio.credentials
import google.auth.credentials
import google.auth.iam
import google.oauth2.service_account
import pytest

from aio_authgrpc import AiohttpRequest, Token, TokenRequest, id_token, service_account, token_source
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc._sources.google_auth_gaps import refresh
from aio_authgrpc.errors import ChannelClosedError, TokenRefusedError, TokenUnavailableError
from aio_authgrpc.testing import Authority, EchoServer, FakeClock
from aio_authgrpc.tokens import HttpResponse, TokenCache
from tests.support.one_login import WAYS, Way, connection, two_headers
from tests.support.rotating_authority import RotatingAuthority


@pytest.fixture
async def rotating() -> AsyncIterator[RotatingAuthority]:
    async with RotatingAuthority() as authority:
        yield authority


@pytest.mark.parametrize("lifetime", [3600, 60], ids=["an-hour", "a-minute"])
@pytest.mark.parametrize("way", WAYS)
async def test_two_caches_over_one_login_refresh_it_once(
    rotating: RotatingAuthority, echo_server: EchoServer, way: Way, lifetime: int
) -> None:
    """Both use what came back, also where google-auth would refresh it at once."""
    rotating.token_lifetime = lifetime
    await way(echo_server, rotating.login())
    assert rotating.revoked == 0
    assert rotating.token_requests == 1


async def test_a_token_that_was_refused_is_replaced(
    rotating: RotatingAuthority, token_request: TokenRequest
) -> None:
    """Although the login has it, and though it is fresh; the same for its ID tokens."""
    login = rotating.login()
    for source in (as_token_source(login), id_token(credentials=login)):
        first = await source.fetch(token_request)
        second = await source.fetch(token_request.replace(unwanted=first))
        assert first.value != second.value
    assert rotating.token_requests == 3  # the first ID token came with the second access token
    assert rotating.revoked == 0


@pytest.mark.parametrize("left", ["expired", "not a JWT"])
async def test_an_id_token_that_cannot_be_used_is_replaced(
    rotating: RotatingAuthority, token_request: TokenRequest, left: str
) -> None:
    """The login came with it."""
    login = rotating.login()
    rotating.token_lifetime = 29
    login._id_token = rotating.issue_id_token(audience="any") if left == "expired" else left
    rotating.token_lifetime = 3600
    token = await id_token(credentials=login).fetch(token_request)
    assert token.value == login.id_token != left
    assert rotating.token_requests == 1


async def test_loops_in_several_threads_refresh_a_login_once(rotating: RotatingAuthority) -> None:
    """A loop in each thread is a supported use."""
    login, start, tokens = rotating.login(), threading.Barrier(4), list[Token]()

    async def fetch() -> None:
        async with AiohttpRequest() as http:
            request = TokenRequest(http=http, audience="https://host", time=0)
            start.wait(10)
            tokens.append(await as_token_source(login).fetch(request))

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, fetch()) for _ in range(4)))
    assert rotating.revoked == 0
    assert rotating.token_requests == 1
    assert len({token.value for token in tokens}) == 1


async def test_a_channel_opens_while_the_credential_is_refreshed(
    rotating: RotatingAuthority, echo_server: EchoServer
) -> None:
    """Only its first call waits for that."""
    login = rotating.login()
    with rotating.hold() as gate:
        async with connection(echo_server, login) as one:
            call = one.UnaryUnary(b"x")
            await gate.arrived.wait()
            async with connection(echo_server, id_token(credentials=login)) as other:
                gate.release()
                assert await other.UnaryUnary(b"x") == b"x"
            assert await call == b"x"
    assert rotating.token_requests == 1


async def test_loops_in_several_threads_make_a_credential_once(authority: Authority) -> None:
    """A source that reads a file makes its credential at the first need."""
    source = service_account(await authority.service_account_info(), scopes=["scope"])
    start = threading.Barrier(4)

    async def fetch() -> None:
        async with AiohttpRequest() as http:
            start.wait(10)
            await source.fetch(TokenRequest(http=http, audience="https://host", time=0))

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, fetch()) for _ in range(4)))
    assert authority.token_requests == 1


async def test_an_aio_credential_is_refreshed_once(echo_server: EchoServer) -> None:
    """That of google.auth.aio, too."""

    class Counting(google.auth.aio.credentials.Credentials):  # type: ignore[misc]  # untyped upstream
        token: str | None = None
        refreshes = 0

        async def refresh(self, request: Any) -> None:
            self.refreshes += 1
            await asyncio.sleep(0)
            self.token = "abc"

    credentials = Counting()
    await two_headers(echo_server, credentials)
    assert credentials.refreshes == 1


async def test_a_refresh_that_hangs_holds_one_thread(fake_clock: FakeClock) -> None:
    """However often it is tried again."""
    leave, inside = threading.Event(), list[int]()

    class Hanging(google.auth.credentials.Credentials):  # type: ignore[misc]  # untyped upstream
        def refresh(self, request: Any) -> None:
            inside.append(threading.get_ident())
            leave.wait(20)

    source = as_token_source(Hanging())
    async with TokenCache(source, attempts=1, refresh_timeout=0.05, clock=fake_clock) as cache:
        for _ in range(4):
            with pytest.raises(TokenUnavailableError, match=r"no token within 0\.05 s"):
                await cache.get()
            fake_clock.advance(60)
    assert len(inside) == 1
    leave.set()


# Copies


COPIES = {
    "copy": copy.copy,
    "with_quota_project": lambda login: login.with_quota_project("payer"),
    "read-again": lambda login: type(login)(
        None,
        refresh_token=login.refresh_token,
        token_uri=login.token_uri,
        client_id=login.client_id,
        client_secret=login.client_secret,
    ),
}


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
async def test_copies_of_a_login_get_the_refresh_token_that_came_last(
    rotating: RotatingAuthority, token_request: TokenRequest, make_copy: Any
) -> None:
    """Whichever of them is refreshed, and however often it was before a copy was first seen."""
    login = rotating.login()
    logins = [login, *(make_copy(login) for _ in range(2))]
    token = None
    for each in (login, login, *logins, *reversed(logins)):
        asked = token_request.replace(unwanted=None if each.token is None else Token(each.token))
        token = await as_token_source(each).fetch(asked)
    assert token is not None
    assert rotating.revoked == 0
    assert rotating.token_requests == 8


async def test_copies_of_a_login_are_refreshed_one_after_the_other(
    rotating: RotatingAuthority, token_request: TokenRequest
) -> None:
    """Also those that are asked for their first token at the same time, again and again."""
    login = rotating.login()
    logins = [login, *(copy.copy(login) for _ in range(4))]
    for _ in range(3):
        await asyncio.gather(
            *(
                as_token_source(each).fetch(token_request.replace(unwanted=each.token and Token(each.token)))
                for each in logins
            )
        )
    assert rotating.revoked == 0
    assert rotating.token_requests == 15


async def test_logins_that_differ_in_their_client_are_two(
    rotating: RotatingAuthority, token_request: TokenRequest
) -> None:
    """Equal refresh tokens of two endpoints mean nothing."""
    login = rotating.login()
    foreign = COPIES["read-again"](login)
    foreign._client_id = "another"
    first = foreign.refresh_token
    await as_token_source(login).fetch(token_request)
    with pytest.raises(TokenRefusedError):
        await as_token_source(foreign).fetch(token_request)
    assert foreign.refresh_token == first


async def test_a_login_that_signs_keeps_the_refresh_token_that_came(rotating: RotatingAuthority) -> None:
    """The IAM API signs for a service account, and is asked with the login's token."""
    login = rotating.login()

    def send(url: str, *, body: bytes, **_: object) -> HttpResponse:
        answer: dict[str, object] = {"signedBlob": "c2lnbmF0dXJl", "access_token": "a", "expires_in": 3600}
        if b"refresh_token" in body:
            answer = rotating.grant(dict(urllib.parse.parse_qsl(body.decode())))
        return HttpResponse(status=200, headers={}, data=json.dumps(answer).encode())

    email = "signer@project.iam.gserviceaccount.com"
    signer = google.auth.iam.Signer(send, login, email)
    credentials = google.oauth2.service_account.Credentials(signer, email, rotating.token_uri)
    transport: Any = send
    for _ in range(2):
        login.token = None
        await asyncio.to_thread(refresh, credentials, transport)
    assert credentials.token == "a"
    assert login.refresh_token.endswith(".2")
    assert rotating.revoked == 0


# Cut short


async def test_an_answer_that_comes_while_the_last_channel_closes_is_kept(
    rotating: RotatingAuthority, echo_server: EchoServer
) -> None:
    """It holds the only refresh token that is still good; the channel that is opened next uses the token."""
    login = rotating.login()
    opened = connection(echo_server, login)
    stub = await opened.__aenter__()
    events = opened.auth.events()
    with rotating.hold() as gate:
        call = stub.UnaryUnary(b"x")
        await gate.arrived.wait()
        closing = asyncio.create_task(opened.__aexit__(None, None, None))
        async for _ in events:
            pass  # they end with the token cache
    await closing
    with pytest.raises(ChannelClosedError):
        await call
    async with opened as stub:
        assert await stub.UnaryUnary(b"x") == b"x"
    assert rotating.token_requests == 1


async def test_a_failure_beside_a_refresh_lets_it_come_home(
    rotating: RotatingAuthority, echo_server: EchoServer
) -> None:
    """Of two headers one fails, while the other has sent its refresh token."""
    login, fail, failed = rotating.login(), asyncio.Event(), asyncio.Event()

    async def refuse() -> str:
        await fail.wait()
        failed.set()
        raise TokenRefusedError("no")

    both = {"authorization": login, "proxy-authorization": token_source(refuse)}
    async with connection(echo_server, both) as stub:
        with rotating.hold() as gate:
            call = stub.UnaryUnary(b"x")
            await gate.arrived.wait()
            fail.set()
            await failed.wait()
            await asyncio.sleep(0)
        with pytest.raises(TokenRefusedError, match="no"):
            await call
    assert login.token is not None
    assert rotating.token_requests == 1
