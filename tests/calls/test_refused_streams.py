"""Streams that a server refuses before it processes them: which calls are sent again, and when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, connect, static_token
from aio_authgrpc._calls.refused_streams import MAX_RESENDS, pause_before_resending, was_refused
from aio_authgrpc.credentials import without_replay
from aio_authgrpc.errors import ChannelClosedError
from aio_authgrpc.testing import EchoStub, FakeClock, ScriptedTokens
from aio_authgrpc.tokens import TokenCache
from tests.support.limited_server import limited_server
from tests.support.raw_http2 import RawHttp2Server, Reset

OK = ((":status", "200"), ("content-type", "application/grpc"))
ANSWERED = [OK, bytes(5), (("grpc-status", "0"),)]  # with an empty message
REFUSED = [Reset(7)]
UNAUTHENTICATED = [(*OK, ("grpc-status", "16"))]
TEXT = "Stream removed (RST_STREAM (Received RST_STREAM with error code 7))"


class Part(random.Random):
    """Always draws the same."""

    def __init__(self, part: float) -> None:
        super().__init__()
        self._part = part
        self.drawn = asyncio.Event()

    def random(self) -> float:
        self.drawn.set()
        return self._part


AT_ONCE, LONGEST = Part(0.0), Part(1.0)


@asynccontextmanager
async def connected(
    server: RawHttp2Server, clock: FakeClock, rng: random.Random = AT_ONCE, **arguments: Any
) -> AsyncIterator[tuple[EchoStub, AuthorizedChannel]]:
    """Give a stub whose token is old enough to be taken back, and its channel."""
    inner = grpc.aio.insecure_channel(server.target)
    async with (
        TokenCache(ScriptedTokens(), clock=clock) as cache,
        AuthorizedChannel(inner, cache, rng=rng, **arguments) as channel,
    ):
        await cache.get()
        clock.advance(10)
        yield EchoStub(channel), channel


async def failure(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    """Return the error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


# How it is recognised


async def test_grpcio_says_so_in_these_words() -> None:
    """The lowest version that is supported and the newest: both run this test."""
    async with RawHttp2Server(REFUSED) as server, grpc.aio.insecure_channel(server.target) as plain:
        error = await failure(EchoStub(plain).UnaryUnary(b"x"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == TEXT


@pytest.mark.parametrize("code", [1, 2, 8, 11, 70, 77])
async def test_a_stream_that_was_reset_for_another_reason_is_not_sent_again(
    code: int, fake_clock: FakeClock
) -> None:
    """The server may have processed it."""
    async with RawHttp2Server([Reset(code)]) as server, connected(server, fake_clock) as (stub, _):
        await failure(stub.UnaryUnary(b"x"))
        assert server.requests == 1


async def test_a_method_that_is_unavailable_is_not_sent_again(fake_clock: FakeClock) -> None:
    """Its code is the same."""
    unavailable = [(*OK, ("grpc-status", "14"), ("grpc-message", "later"))]
    async with RawHttp2Server(unavailable) as server, connected(server, fake_clock) as (stub, _):
        assert (await failure(stub.UnaryUnary(b"x"))).details() == "later"
        assert server.requests == 1


# Which calls


async def test_a_refused_call_with_one_request_is_sent_again(replayable: Any, fake_clock: FakeClock) -> None:
    """As often as it is refused, within the bound, with the token that it had."""
    answers = [REFUSED] * MAX_RESENDS
    async with RawHttp2Server(*answers, ANSWERED) as server, connected(server, fake_clock) as (stub, _):
        assert await replayable.finish(replayable.begin(stub)) == [b""]
        assert server.requests == MAX_RESENDS + 1


async def test_a_call_that_is_refused_again_and_again_ends(replayable: Any, fake_clock: FakeClock) -> None:
    """With gRPC's own error."""
    async with RawHttp2Server(REFUSED) as server, connected(server, fake_clock) as (stub, _):
        error = await failure(replayable.finish(replayable.begin(stub)))
        assert error.details() == TEXT
        assert server.requests == MAX_RESENDS + 1


async def test_a_refused_call_with_many_requests_is_not_sent_again(
    not_replayable: Any, fake_clock: FakeClock
) -> None:
    """They were taken out of their iterator."""
    async with RawHttp2Server(REFUSED) as server, connected(server, fake_clock) as (stub, _):
        assert (await failure(not_replayable.finish(not_replayable.begin(stub)))).details() == TEXT
        assert server.requests == 1


async def test_a_stream_whose_message_came_is_not_sent_again(fake_clock: FakeClock) -> None:
    """A server that answers and then claims to have processed nothing."""
    was_read = asyncio.Event()
    async with RawHttp2Server([OK, bytes(5), was_read, Reset(7)]) as server:
        async with connected(server, fake_clock) as (stub, _):
            call = stub.UnaryStream(b"x")
            assert await call.read() == b""
            was_read.set()
            await failure(call.read())
            assert server.requests == 1


async def test_a_call_whose_response_headers_came_was_not_refused() -> None:
    """They commit it."""
    came = asyncio.Event()
    async with (
        RawHttp2Server([(*OK, ("x-begun", "1")), came, Reset(7)]) as server,
        grpc.aio.insecure_channel(server.target) as plain,
    ):
        call = EchoStub(plain).UnaryStream(b"x")
        assert ("x-begun", "1") in tuple(await call.initial_metadata())
        came.set()
        assert await call.details() == TEXT
        assert not was_refused(call)


async def test_a_channel_without_replay_sends_no_refused_call_again(fake_clock: FakeClock) -> None:
    """A server that passes on the error of its own back end uses the same words."""
    async with RawHttp2Server(REFUSED) as server:
        async with connected(server, fake_clock, replay=False) as (stub, _):
            await failure(stub.UnaryUnary(b"x"))
        assert server.requests == 1


async def test_a_call_without_replay_is_not_sent_again(fake_clock: FakeClock) -> None:
    """By its context."""
    async with RawHttp2Server(REFUSED) as server, connected(server, fake_clock) as (stub, _):
        with without_replay():
            await failure(stub.UnaryUnary(b"x"))
        assert server.requests == 1


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([REFUSED, UNAUTHENTICATED, ANSWERED], id="the-stream-first"),
        pytest.param([UNAUTHENTICATED, REFUSED, ANSWERED], id="the-token-first"),
        pytest.param([REFUSED, UNAUTHENTICATED, REFUSED, REFUSED, ANSWERED], id="both-in-turn"),
    ],
)
async def test_a_refused_stream_and_a_refused_token_are_two_things(
    replayable: Any, answers: Any, fake_clock: FakeClock
) -> None:
    """A call may meet both."""
    async with RawHttp2Server(*answers) as server, connected(server, fake_clock) as (stub, _):
        assert await replayable.finish(replayable.begin(stub)) == [b""]
        assert server.requests == len(answers)


async def test_a_token_that_is_refused_twice_is_not_replayed_for_a_refused_stream(
    fake_clock: FakeClock,
) -> None:
    """One replay with another token is all there is, whatever else happened."""
    answers = [UNAUTHENTICATED, REFUSED, UNAUTHENTICATED]
    async with RawHttp2Server(*answers) as server, connected(server, fake_clock) as (stub, _):
        error = await failure(stub.UnaryUnary(b"x"))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert server.requests == 3


async def test_a_callback_is_told_once(fake_clock: FakeClock) -> None:
    """Of the call's end, not of the attempts'."""
    ended: list[object] = []
    async with RawHttp2Server(REFUSED, REFUSED, ANSWERED) as server:
        async with connected(server, fake_clock) as (stub, _):
            call = stub.UnaryUnary(b"x")
            call.add_done_callback(ended.append)
            assert await call.code() is grpc.StatusCode.OK
    assert ended == [call]


# When


def test_the_longest_pause_doubles_up_to_a_second() -> None:
    """In seconds, without a deadline."""
    pauses = [pause_before_resending(resends, None, LONGEST.random) for resends in range(MAX_RESENDS)]
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, *[1.0] * (MAX_RESENDS - 5)]


def test_a_pause_is_any_part_of_the_longest() -> None:
    """Full jitter: those that were refused together do not come back together."""
    assert [pause_before_resending(1, None, Part(part).random) for part in (0.0, 0.5, 1.0)] == [
        0.0,
        0.05,
        0.1,
    ]


@pytest.mark.parametrize(("left", "pause"), [(0.11, 0.1), (0.1, None), (0.0, None)])
def test_a_pause_ends_before_the_deadline(left: float, pause: float | None) -> None:
    """The refusal says more than a deadline that is over."""
    assert pause_before_resending(1, left, LONGEST.random) == pause


def test_there_is_a_last_time() -> None:
    """The bound of one call."""
    assert pause_before_resending(MAX_RESENDS, None, AT_ONCE.random) is None


async def test_a_call_whose_deadline_is_before_the_pauses_end_is_not_sent_again(
    replayable: Any, fake_clock: FakeClock
) -> None:
    """It ends at once, with the refusal."""
    pauses_for_ever = Part(1e6)
    async with RawHttp2Server(REFUSED) as server:
        async with connected(server, fake_clock, pauses_for_ever) as (stub, _):
            error = await failure(replayable.finish(replayable.begin(stub, timeout=100)))
        assert error.details() == TEXT
        assert server.requests == 1


# In the pause


@asynccontextmanager
async def pausing(clock: FakeClock) -> AsyncIterator[tuple[Any, AuthorizedChannel, RawHttp2Server]]:
    """Give a call that was refused and pauses for ever, its channel and its server."""
    pauses_for_ever = Part(1e6)
    async with (
        RawHttp2Server(REFUSED) as server,
        connected(server, clock, pauses_for_ever) as (stub, channel),
    ):
        call = stub.UnaryUnary(b"x")
        await pauses_for_ever.drawn.wait()
        yield call, channel, server


async def test_a_call_that_pauses_is_under_way(fake_clock: FakeClock) -> None:
    """It is not done, and can be cancelled at once."""
    async with pausing(fake_clock) as (call, _, server):
        assert not call.done()
        assert call.cancel()
        assert call.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert server.requests == 1


async def test_cancelling_the_task_that_awaits_a_pausing_call_cancels_it(fake_clock: FakeClock) -> None:
    """As with a real call."""

    async def awaiting(call: Any) -> None:
        await call

    async with pausing(fake_clock) as (call, _, server):
        task = asyncio.create_task(awaiting(call))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert call.cancelled()
        assert server.requests == 1


async def test_closing_the_channel_ends_a_pause(fake_clock: FakeClock) -> None:
    """The call says why."""
    async with pausing(fake_clock) as (call, channel, _):
        await channel.close()
        with pytest.raises(ChannelClosedError):
            await call


# At a server of grpcio's that refuses


@pytest.mark.parametrize("max_connections", [1, 4])
async def test_a_burst_above_the_limit_of_streams_fails_no_call(max_connections: int) -> None:
    """300 calls at once, ten streams on a connection; on a plain channel most of them fail."""
    async with limited_server(10) as server:
        connection = connect(
            server.target,
            EchoStub,
            credentials=static_token("token"),
            plaintext=True,
            max_connections=max_connections,
            options=[("grpc.use_local_subchannel_pool", 1)],
        )
        async with connection as stub:
            await stub.UnaryUnary(b"x")
            answers = await asyncio.gather(*(stub.UnaryUnary(b"x") for _ in range(300)))
        assert answers == [b"x"] * 300
        assert server.calls == 301  # none was processed twice
        assert 1 <= len(server.peers) <= max_connections
