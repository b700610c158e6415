"""One source for many channels: one token where it serves all of them, one for each audience where not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import jwt
import pytest

from aio_authgrpc import ConfigurationError, Connection, connect, service_account, token_source
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
    """With a new cache."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    opened = connection(echo_server, source)
    for _ in range(2):
        async with opened as stub:
            await stub.UnaryUnary(b"x")
    assert len(echo_server.calls) == 2


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
    from aio_authgrpc import shared_cache

    assert shared_cache._open == {}


async def test_a_channel_that_is_cancelled_while_it_opens_leaves_nothing_behind(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here: while it waits for a metadata server."""
    from aio_authgrpc import shared_cache
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
