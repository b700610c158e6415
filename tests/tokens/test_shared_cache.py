"""One source for many channels: one token where it serves all of them, one for each audience where not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import jwt
import pytest

from aio_authgrpc import (
    AiohttpRequest,
    ConfigurationError,
    Connection,
    TokenRequest,
    connect,
    service_account,
    token_source,
)
from aio_authgrpc.bookstore import BookstoreStub
from aio_authgrpc.testing import Authority, EchoServer, EchoStub

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


@pytest.fixture
async def other_server() -> AsyncIterator[EchoServer]:
    async with EchoServer() as server:
        yield server


def connection(server: EchoServer, credentials: Any, **arguments: Any) -> Connection[EchoStub]:
    return connect(
        server.target,
        EchoStub,
        credentials=credentials,
        ssl_credentials=server.ssl_credentials,
        **arguments,
    )


def audience(server: EchoServer) -> Any:
    token = str(server.calls[-1].values("authorization")[0]).removeprefix("Bearer ")
    return jwt.decode(token, options={"verify_signature": False}).get("aud")


async def test_two_channels_of_one_source_share_its_token(
    authority: Authority, echo_server: EchoServer, other_server: EchoServer
) -> None:
    """An access token is good for both; it is fetched once, however many wait."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    async with connection(echo_server, source) as one, connection(other_server, source) as other:
        await asyncio.gather(*(stub.UnaryUnary(b"x") for stub in (one, other) for _ in range(10)))
    assert authority.token_requests == 1


async def test_two_channels_of_one_google_credential_share_its_token(
    authority: Authority, echo_server: EchoServer, other_server: EchoServer
) -> None:
    """The object is what counts, not what is wrapped around it."""
    from google.oauth2 import service_account as google_service_account

    make = google_service_account.Credentials.from_service_account_info
    credentials = await asyncio.to_thread(make, await authority.service_account_info(), scopes=SCOPES)
    async with connection(echo_server, credentials) as one, connection(other_server, credentials) as other:
        await asyncio.gather(one.UnaryUnary(b"x"), other.UnaryUnary(b"x"))
    assert authority.token_requests == 1


async def test_two_channels_of_one_google_credential_have_each_their_audience(
    authority: Authority, echo_server: EchoServer, other_server: EchoServer
) -> None:
    """google-auth's plugin sends the first host's to the second."""
    from google.oauth2 import service_account as google_service_account

    make = google_service_account.Credentials.from_service_account_info
    credentials = await asyncio.to_thread(make, await authority.service_account_info())
    async with connection(echo_server, credentials) as one, connection(other_server, credentials) as other:
        await one.UnaryUnary(b"x")
        await other.UnaryUnary(b"x")
    assert audience(echo_server) == f"https://{echo_server.target}/"
    assert audience(other_server) == f"https://{other_server.target}/"


async def test_a_channel_that_closes_leaves_the_other_the_token(
    authority: Authority, echo_server: EchoServer, other_server: EchoServer
) -> None:
    """Also one that closes while the token is on its way."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(connection(other_server, source))
        with authority.hold() as gate:
            async with connection(echo_server, source) as one:
                call, waiting = one.UnaryUnary(b"x"), other.UnaryUnary(b"x")
                await gate.arrived.wait()
            with pytest.raises(Exception, match="closed"):
                await call
        assert await waiting == b"x"
        await other.UnaryUnary(b"x")
    assert authority.token_requests == 1


async def test_a_source_may_be_used_again_when_all_its_channels_have_closed(
    authority: Authority, echo_server: EchoServer
) -> None:
    """With a new cache, and the token that is good still."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    opened = connection(echo_server, source)
    for _ in range(3):
        async with opened as stub:
            await stub.UnaryUnary(b"x")
    assert (len(echo_server.calls), authority.token_requests) == (3, 1)


async def test_a_source_of_ones_own_is_asked_for_each_audience(
    echo_server: EchoServer, other_server: EchoServer
) -> None:
    """It may make its tokens for one: nothing says otherwise."""
    fetches = 0

    async def fetch() -> str:
        nonlocal fetches
        fetches += 1
        return f"token-{fetches}"

    source = token_source(fetch)
    async with connection(echo_server, source) as one, connection(other_server, source) as other:
        await one.UnaryUnary(b"x")
        await other.UnaryUnary(b"x")
        async with connection(echo_server, source) as again:
            await again.UnaryUnary(b"x")
    assert fetches == 2


async def test_a_channel_that_cannot_be_opened_leaves_nothing_behind(echo_server: EchoServer) -> None:
    """The next attempt reads the file anew."""
    opened = connection(echo_server, service_account("missing.json"))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"missing\.json"):
            await opened.__aenter__()
    from aio_authgrpc._tokens import shared as shared_cache

    assert shared_cache._open == {}


async def test_a_channel_that_is_cancelled_while_it_opens_leaves_nothing_behind(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here: while it waits for a metadata server."""
    from aio_authgrpc._tokens import shared as shared_cache
    from aio_authgrpc.testing import MetadataServer

    async with MetadataServer(authority) as server:
        monkeypatch.setenv("GCE_METADATA_IP", server.host)
        monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        with server.hold(path="/") as gate:
            opening = asyncio.create_task(connect("host", BookstoreStub).__aenter__())
            await gate.arrived.wait()
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
    assert shared_cache._open == {}


async def test_opening_may_be_cancelled_at_any_step_and_leaves_nothing_behind(
    authority: Authority, echo_server: EchoServer
) -> None:
    """Also between the cache of the audience and the one that is shared."""
    from aio_authgrpc._tokens import shared as shared_cache

    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    async with AiohttpRequest() as http:
        await source.load(TokenRequest(http=http, audience="", time=0))  # from here on no thread
    for steps in range(100):
        opened = connection(echo_server, source)
        opening = asyncio.create_task(opened.__aenter__())
        for _ in range(steps):
            await asyncio.sleep(0)
        if opening.done():
            break
        opening.cancel()
        await asyncio.wait({opening})
        assert (opening.cancelled(), shared_cache._open) == (True, {}), f"after {steps} steps"
    assert opening.done()
    await opened.__aexit__(None, None, None)
    assert shared_cache._open == {}


async def test_a_cache_that_its_user_closed_is_not_handed_out_again(
    authority: Authority, echo_server: EchoServer
) -> None:
    """auth.aclose() is public; the next connection gets a cache that works."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    first = connection(echo_server, source)
    async with first:
        await first.auth.aclose()
        async with connection(echo_server, source) as stub:
            await stub.UnaryUnary(b"x")
    from aio_authgrpc._tokens import shared as shared_cache

    assert shared_cache._open == {}


async def test_keep_warm_works_on_a_shared_cache(authority: Authority, echo_server: EchoServer) -> None:
    """From the opening on, without a call."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    fetched = asyncio.Event()
    async with connection(echo_server, source, keep_warm=True, on_event=lambda _: fetched.set()):
        await fetched.wait()


def test_a_loop_that_ended_without_a_close_is_forgotten() -> None:
    """With the next opening."""
    from aio_authgrpc import static_token
    from aio_authgrpc._http.request import AiohttpRequest
    from aio_authgrpc._tokens import shared as shared_cache

    source = static_token("t")

    async def open_only(request: AiohttpRequest) -> None:
        await shared_cache.open_shared_cache(source, audience="a", request=request, keep_warm=False)

    for _ in range(3):
        asyncio.run(open_only(AiohttpRequest()))
    assert len(shared_cache._open) == 1
    shared_cache._open.clear()
