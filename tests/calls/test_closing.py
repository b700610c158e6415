"""Closing that is cancelled: at whatever step, once or again and again, nothing stays open."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import anyio
import grpc
import grpc.aio
import pytest

from aio_authgrpc import (
    AuthMetadataPlugin,
    AuthorizedChannel,
    ConfigurationError,
    Connection,
    LazyChannel,
    SslCredentials,
    Token,
    TokenRequest,
    connect,
    identity,
)
from aio_authgrpc._channels.layer import ChannelLayer
from aio_authgrpc.errors import ChannelClosedError
from aio_authgrpc.testing import EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache

STEPS = range(1, 21)  # closing takes 16 to 19 here


class HangingSource:
    """Opens the HTTP session, and has no token.

    Attributes:
        begun: It was asked.
        ended: And cancelled, which takes it some steps.
        session: The session.
    """

    session: aiohttp.ClientSession

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def fetch(self, request: TokenRequest) -> Token:
        self.session = request.http.session()
        self.begun.set()
        try:
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            await settle(3)
            self.ended.set()


async def settle(rounds: int = 20) -> None:
    """Let everything that is ready run."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def cancel_after(steps: int, closing: Coroutine[Any, Any, None], *, again: bool) -> None:
    """Cancel it after some steps: once, or at each step that follows, as a cancelled scope of anyio does."""
    task = asyncio.create_task(closing)
    await settle(steps)
    task.cancel()
    while not task.done():
        await asyncio.sleep(0)
        if again:
            task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Busy:
    """What has to end with a connection: a refresh of its own, one of another identity, and their calls."""

    def __init__(self, target: str, arguments: dict[str, Any]) -> None:
        self.own = HangingSource()
        self.other = HangingSource()
        self.connection: Connection[EchoStub] = connect(target, EchoStub, credentials=self.own, **arguments)
        self.calls: list[Any] = []

    async def begin(self, stub: EchoStub) -> None:
        self.channel = self.connection.channel
        self.calls.append(stub.UnaryUnary(b"x"))
        with identity(self.other):
            self.calls.append(stub.UnaryUnary(b"x"))
        await asyncio.gather(self.own.begun.wait(), self.other.begun.wait())

    async def open(self) -> None:
        await self.begin(await self.connection.__aenter__())

    async def assert_ended(self) -> None:
        await settle()
        assert self.own.ended.is_set()
        assert self.other.ended.is_set()
        assert self.own.session.closed
        assert self.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
        outcomes = await asyncio.gather(*self.calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ChannelClosedError] * 2


@pytest.fixture(params=["plaintext", "rotating"])
async def busy(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[[], Busy]]:
    """Give what makes connections that are not open yet, whose certificates rotate or not."""
    rotating = request.param == "rotating"
    async with EchoServer(tls=rotating) as server:
        arguments: dict[str, Any] = {"plaintext": True}
        if rotating:
            (tmp_path / "ca.pem").write_bytes(server.ca_pem)
            tls = SslCredentials(root_certificates=tmp_path / "ca.pem", refresh_interval=600)
            arguments = {"ssl_credentials": tls}
        yield partial(Busy, server.target, arguments)


async def test_a_scope_that_is_cancelled_around_a_connection_closes_all_of_it(
    busy: Callable[[], Busy],
) -> None:
    """A cancelled scope of anyio cancels each wait until it is left."""
    one = busy()
    with anyio.CancelScope() as scope:
        async with one.connection as stub:
            await one.begin(stub)
            scope.cancel()
            await asyncio.Event().wait()
    assert scope.cancelled_caught
    await one.assert_ended()


@pytest.mark.parametrize("again", [False, True], ids=["once", "again"])
@pytest.mark.parametrize("grace", [None, 10])
async def test_closing_that_is_cancelled_at_a_step_closes_all(
    busy: Callable[[], Busy], grace: float | None, again: bool
) -> None:
    """Whatever the step, and however often. A second close waits for what is still ending."""
    for steps in STEPS:
        one = busy()
        await one.open()
        await cancel_after(steps, one.channel.close(grace), again=again)
        await one.channel.close()
        assert one.own.ended.is_set()
        assert one.other.ended.is_set()
        await one.assert_ended()


@pytest.mark.parametrize("again", [False, True], ids=["once", "again"])
async def test_a_block_that_is_cancelled_at_a_step_of_its_end_closes_all(
    busy: Callable[[], Busy], again: bool
) -> None:
    """There is no second close then."""
    for steps in STEPS:
        one = busy()
        await one.open()
        await cancel_after(steps, one.connection.__aexit__(None, None, None), again=again)
        await one.assert_ended()


@pytest.mark.parametrize("again", [False, True], ids=["once", "again"])
@pytest.mark.parametrize("grace", [None, 10])
async def test_a_lazy_channel_whose_closing_is_cancelled_at_a_step_closes_all(
    echo_server: EchoServer, grace: float | None, again: bool
) -> None:
    """It has forgotten what it closes, so that a second close finds nothing."""
    for steps in STEPS:
        source = HangingSource()
        lazy = LazyChannel(
            echo_server.target, credentials=source, ssl_credentials=echo_server.ssl_credentials
        )
        calls = [EchoStub(lazy).UnaryUnary(b"x"), EchoStub(lazy).UnaryUnary(b"y")]
        await source.begun.wait()
        on_loop = lazy._on_this_loop()
        await cancel_after(steps, lazy.close(grace), again=again)
        await settle()
        assert on_loop.channel is None
        assert source.ended.is_set()
        assert source.session.closed
        assert all(call.done() for call in calls)
        await asyncio.gather(*calls, return_exceptions=True)


async def test_a_block_that_is_cancelled_at_any_step_leaves_nothing(busy: Callable[[], Busy]) -> None:
    """While it opens, calls or closes; the fixtures look at tasks and sessions."""

    async def block(one: Busy) -> None:
        async with one.connection as stub:
            await one.begin(stub)

    for steps in (*STEPS, 50, 100, 200, 400):
        one = busy()
        await cancel_after(steps, block(one), again=True)
        await settle()
        outcomes = await asyncio.gather(*one.calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {ChannelClosedError}
        assert one.own.ended.is_set() == one.own.begun.is_set()


@pytest.mark.parametrize("again", [False, True], ids=["once", "again"])
async def test_a_plugin_whose_closing_is_cancelled_at_a_step_closes_its_session(again: bool) -> None:
    """A second close waits for the rest."""
    for steps in STEPS:
        source, answers = HangingSource(), list[Any]()
        plugin = await AuthMetadataPlugin(source).__aenter__()
        context: Any = SimpleNamespace(service_url="https://host/a.B")
        await asyncio.to_thread(plugin, context, lambda *answer, told=answers: told.append(answer))
        await source.begun.wait()
        await cancel_after(steps, plugin.aclose(), again=again)
        assert source.session.closed
        await plugin.aclose()
        assert source.ended.is_set()
        assert len(answers) == 1


@pytest.mark.parametrize("again", [False, True], ids=["once", "again"])
async def test_a_lazy_channel_whose_closing_is_cancelled_closes_what_it_opened(again: bool) -> None:
    """The refresh, the session and the connection; the next RPC would open it anew."""
    for steps in STEPS:
        source = HangingSource()
        channel = LazyChannel("127.0.0.1:1", credentials=source, plaintext=True)
        call = EchoStub(channel).UnaryUnary(b"x")
        await source.begun.wait()
        await cancel_after(steps, channel.close(), again=again)
        await settle()
        assert source.ended.is_set()
        assert source.session.closed
        assert call.done()


# As it is asked for


async def test_a_second_close_ends_the_grace_of_the_first(
    channel: AuthorizedChannel, stub: EchoStub, tokens: Any
) -> None:
    """As a second signal to a process that ends in an orderly way."""
    with tokens.hold():
        call = stub.UnaryUnary(b"x")
        closing = asyncio.create_task(channel.close(grace=3600))
        await settle()
        await channel.close()
        with pytest.raises(ChannelClosedError):
            await call
        await closing


@pytest.mark.parametrize("grace", ["5", math.nan, math.inf, -1, [], True])
async def test_a_grace_that_is_no_time_closes_nothing(
    channel: AuthorizedChannel, stub: EchoStub, grace: Any
) -> None:
    """The channel is as it was, and can be closed."""
    with pytest.raises(ConfigurationError) as caught:
        await channel.close(grace)
    assert caught.value.field == "grace"
    assert await stub.UnaryUnary(b"x") == b"x"
    await channel.close(0)
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_what_closes_the_tokens_is_called_once(echo_server: EchoServer, cache: TokenCache) -> None:
    """However often the channel is closed."""
    closed: list[int] = []

    async def close_auth() -> None:
        closed.append(1)

    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    channel = AuthorizedChannel(inner, cache, close_auth=close_auth)
    await channel.close()
    await channel.close()
    assert closed == [1]


async def test_a_channel_below_that_cannot_be_closed_keeps_nothing_else_open(
    echo_server: EchoServer, cache: TokenCache
) -> None:
    """Its error is raised, after the rest was closed."""
    closed: list[int] = []

    async def close_auth() -> None:
        closed.append(1)

    class Stuck(ChannelLayer):
        def _multi_callable(self, arity: str, path: str, make: Any) -> Any:
            return make(self._channel)

        async def close(self, grace: float | None = None) -> None:
            raise KeyError("stuck")

    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    channel = AuthorizedChannel(Stuck(inner), cache, close_auth=close_auth)
    with pytest.raises(KeyError, match="stuck"):
        await channel.close()
    assert closed == [1]
    await inner.close()
