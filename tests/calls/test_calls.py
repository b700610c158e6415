"""Calls of all four arities: with a token at hand, waiting for one, refused, cancelled, out of time."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, ConfigurationError, static_token
from aio_authgrpc.errors import (
    ChannelClosedError,
    TokenDeadlineExceededError,
    TokenRefusedError,
    TokenUnavailableError,
)
from aio_authgrpc.events import CallReplayed, RefreshSucceeded, TokenEvent, TokenRejected
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock
from aio_authgrpc.tokens import TokenCache

# gRPC sends hundredths of a second, rounded up, and sends a value again that is within 3 %.
GRPC_TIMEOUT_ROUNDING = 0.04


async def spend(call: Any, until: float) -> None:
    """Let real time pass, by what the call says is left of it: a deadline is in real time, as gRPC's is."""
    while call.time_remaining() > until:  # noqa: ASYNC110 - real time sets no event
        await asyncio.sleep(0)


@pytest.fixture
async def warm(cache: TokenCache) -> TokenCache:
    """Give the cache of the channel, filled."""
    await cache.get()
    return cache


# On the wire


async def test_a_call_with_a_token_at_hand_sends_it_once(
    arity: Any, stub: EchoStub, warm: TokenCache, echo_server: EchoServer
) -> None:
    """One authorization header, in every arity."""
    assert await arity.finish(arity.begin(stub)) == arity.responses
    assert echo_server.calls[0].values("authorization") == ("Bearer token-1",)


async def test_a_call_that_waits_sends_the_token_once(
    arity: Any, stub: EchoStub, echo_server: EchoServer, tokens: Any
) -> None:
    """The cold path puts the same on the wire."""
    assert await arity.finish(arity.begin(stub)) == arity.responses
    assert [call.values("authorization") for call in echo_server.calls] == [("Bearer token-1",)]
    assert tokens.fetches == 1


@pytest.mark.parametrize("state", ["cold", "warm"])
async def test_the_callers_metadata_goes_along(
    arity: Any, stub: EchoStub, cache: TokenCache, echo_server: EchoServer, state: str
) -> None:
    """As a tuple, as grpc.aio.Metadata or as lists, in order, before the token."""
    if state == "warm":
        await cache.get()
    await arity.finish(arity.begin(stub, metadata=(("x-trace", "1"), ("x-trace", "2"))))
    await arity.finish(arity.begin(stub, metadata=grpc.aio.Metadata(("x-bytes-bin", b"\0"))))
    await arity.finish(arity.begin(stub, metadata=[["x-trace", "3"], ["x-trace", "4"]]))
    first, second, third = echo_server.calls
    assert first.values("x-trace") == ("1", "2")
    assert (second.values("x-bytes-bin"), second.values("authorization")) == ((b"\0",), ("Bearer token-1",))
    assert (third.values("x-trace"), third.values("authorization")) == (("3", "4"), ("Bearer token-1",))


@pytest.mark.parametrize("state", ["cold", "warm"])
async def test_a_callers_own_authorization_is_an_error(
    arity: Any, stub: EchoStub, cache: TokenCache, echo_server: EchoServer, state: str
) -> None:
    """At the call, whatever the cache holds; nothing reaches the server, and the value is not shown."""
    if state == "warm":
        await cache.get()
    with pytest.raises(ConfigurationError, match="the server would get two") as caught:
        arity.begin(stub, metadata=(("Authorization", "Bearer mine"),))
    assert (caught.value.field, echo_server.calls) == ("metadata", [])
    assert "mine" not in str(caught.value)


async def test_the_calls_own_arguments_reach_grpc(
    arity: Any, stub: EchoStub, warm: TokenCache, echo_server: EchoServer
) -> None:
    """Timeout, wait_for_ready and compression mean what they mean in grpc.aio."""
    call = arity.begin(stub, timeout=30.0, wait_for_ready=True, compression=grpc.Compression.Gzip)
    assert await arity.finish(call) == arity.responses
    (received,) = echo_server.calls
    assert received.time_remaining is not None
    assert 0 < received.time_remaining <= 30
    assert 0 <= call.time_remaining() <= 30


async def test_many_cold_calls_make_one_fetch(stub: EchoStub, echo_server: EchoServer, tokens: Any) -> None:
    """And all of them succeed."""
    assert await asyncio.gather(*(stub.UnaryUnary(b"x") for _ in range(200))) == [b"x"] * 200
    assert (tokens.fetches, len(echo_server.calls)) == (1, 200)


async def test_the_first_of_many_cold_calls_is_cancelled_and_the_others_succeed(
    stub: EchoStub, echo_server: EchoServer, tokens: Any
) -> None:
    """On the same single fetch."""
    gate = tokens.hold()
    first, *others = [stub.UnaryUnary(b"x") for _ in range(200)]
    await gate.arrived.wait()
    first.cancel()
    gate.release()
    assert await asyncio.gather(*others) == [b"x"] * 199
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (tokens.fetches, len(echo_server.calls)) == (1, 199)


# Waiting for the token


async def test_a_call_that_waits_is_handed_out_at_once(arity: Any, stub: EchoStub, tokens: Any) -> None:
    """It is not done, has its whole time, and is of its arity's type."""
    gate = tokens.hold()
    call = arity.begin(stub, timeout=30.0)
    assert isinstance(call, getattr(grpc.aio, f"{arity.method}Call"))
    assert (call.done(), call.cancelled()) == (False, False)
    assert 29 < call.time_remaining() <= 30
    gate.release()
    await arity.finish(call)
    assert await call.code() is grpc.StatusCode.OK


async def test_a_token_that_cannot_be_had_fails_the_call_and_nothing_is_sent(
    arity: Any, stub: EchoStub, tokens: Any, echo_server: EchoServer
) -> None:
    """The error is gRPC's and ours; the call tells the same."""
    tokens.fail(ConnectionRefusedError("nobody there"), times=None)
    call = arity.begin(stub)
    with pytest.raises(TokenUnavailableError, match="nobody there"):
        await arity.finish(call)
    assert (await call.code(), call.done()) == (grpc.StatusCode.UNAVAILABLE, True)
    assert "nobody there" in await call.details()
    assert (list(await call.initial_metadata()), list(await call.trailing_metadata())) == ([], [])
    assert echo_server.calls == []


async def test_a_refused_token_is_unauthenticated(arity: Any, stub: EchoStub, tokens: Any) -> None:
    """A retry policy must not loop on it."""
    tokens.fail(KeyError("a bug"), times=None)
    with pytest.raises(TokenRefusedError) as caught:
        await arity.finish(arity.begin(stub))
    assert (caught.value.code(), caught.value.retryable) == (grpc.StatusCode.UNAUTHENTICATED, False)


async def test_time_that_runs_out_while_waiting_is_the_tokens(
    arity: Any, stub: EchoStub, tokens: Any, echo_server: EchoServer
) -> None:
    """DEADLINE_EXCEEDED, the details say so, the refresh goes on and the next call uses it."""
    gate = tokens.hold()
    call = arity.begin(stub, timeout=0.01)
    with pytest.raises(TokenDeadlineExceededError, match="waited for an access token"):
        await arity.finish(call)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (call.time_remaining(), echo_server.calls) == (0.0, [])
    gate.release()
    assert await arity.finish(arity.begin(stub)) == arity.responses
    assert tokens.fetches == 1


async def test_what_is_left_of_the_time_goes_to_the_rpc(
    arity: Any, stub: EchoStub, tokens: Any, echo_server: EchoServer
) -> None:
    """The wait counts."""
    gate = tokens.hold()
    call = arity.begin(stub, timeout=1.0)
    await spend(call, until=0.85)
    gate.release()
    await arity.finish(call)
    (received,) = echo_server.calls
    assert received.time_remaining is not None
    assert received.time_remaining <= 0.85 + GRPC_TIMEOUT_ROUNDING


async def test_cancel_while_waiting_ends_this_call_alone(
    arity: Any, stub: EchoStub, tokens: Any, echo_server: EchoServer
) -> None:
    """It says what a cancelled real call says, and nothing is sent."""
    gate = tokens.hold()
    call, other = arity.begin(stub), arity.begin(stub)
    await gate.arrived.wait()
    assert (call.cancel(), call.cancel()) == (True, False)
    assert (call.done(), call.cancelled()) == (True, True)
    with pytest.raises(asyncio.CancelledError):
        await arity.finish(call)
    assert (await call.code(), await call.details()) == (
        grpc.StatusCode.CANCELLED,
        "Locally cancelled by application!",
    )
    gate.release()
    assert await arity.finish(other) == arity.responses
    assert len(echo_server.calls) == 1


async def test_cancelling_who_waits_for_the_response_cancels_the_call(
    arity: Any, stub: EchoStub, tokens: Any, echo_server: EchoServer
) -> None:
    """As with a real call."""
    gate = tokens.hold()
    call = arity.begin(stub)
    task = asyncio.ensure_future(arity.finish(call))
    await gate.arrived.wait()
    task.cancel()
    await asyncio.wait({task})
    assert (task.cancelled(), call.cancelled()) == (True, True)
    gate.release()
    assert echo_server.calls == []


async def test_cancelling_who_waits_for_the_code_leaves_the_call_alone(
    arity: Any, stub: EchoStub, tokens: Any
) -> None:
    """As with a real call."""
    gate = tokens.hold()
    call = arity.begin(stub)
    task = asyncio.ensure_future(call.code())
    await gate.arrived.wait()
    task.cancel()
    await asyncio.wait({task})
    gate.release()
    assert await arity.finish(call) == arity.responses


@pytest.mark.parametrize("leaving", [{0}, {1}, {0, 2}, {0, 1, 2}])
async def test_all_who_ask_a_waiting_call_hear_of_its_start(
    arity: Any, stub: EchoStub, tokens: Any, leaving: set[int]
) -> None:
    """Whoever of them leaves before, and whoever comes then."""
    gate = tokens.hold()
    call = arity.begin(stub)
    asking = [asyncio.ensure_future(call.code()) for _ in range(3)]
    await gate.wait_for(1)
    for number in leaving:
        asking[number].cancel()
    await asyncio.sleep(0)
    asking += [asyncio.ensure_future(call.code()) for _ in range(2)]
    await asyncio.sleep(0)
    gate.release()
    await arity.finish(call)
    staying = [ask for number, ask in enumerate(asking) if number not in leaving]
    assert await asyncio.gather(*staying) == [grpc.StatusCode.OK] * len(staying)


async def test_cancelling_who_waits_for_the_connection_does_what_it_does_to_a_real_call(
    arity: Any, stub: EchoStub, tokens: Any
) -> None:
    """With one request the call is cancelled; with a stream of them it goes on."""
    gate = tokens.hold()
    call = arity.begin(stub)
    task = asyncio.ensure_future(call.wait_for_connection())
    await gate.arrived.wait()
    task.cancel()
    await asyncio.wait({task})
    gate.release()
    assert (task.cancelled(), call.cancelled()) == (True, not arity.request_is_stream)
    if arity.request_is_stream:
        assert await arity.finish(call) == arity.responses


async def test_asyncio_timeout_around_a_waiting_call_is_a_timeout_error(
    arity: Any, stub: EchoStub, tokens: Any
) -> None:
    """Not one of ours: the scope is the caller's."""
    gate = tokens.hold()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await arity.finish(arity.begin(stub))
    gate.release()


@pytest.mark.parametrize("outcome", ["ok", "token fails", "cancelled"])
async def test_done_callbacks_get_the_call_once(
    arity: Any, stub: EchoStub, tokens: Any, outcome: str
) -> None:
    """Those added while it waits, and those added when it is done."""
    gate, seen = tokens.hold(), []
    if outcome == "token fails":
        tokens.fail(OSError("down"), times=None)
    call = arity.begin(stub)
    call.add_done_callback(seen.append)
    await gate.arrived.wait()
    if outcome == "cancelled":
        call.cancel()
    gate.release()
    await asyncio.gather(arity.finish(call), return_exceptions=True)
    await call.code()
    assert seen == [call]
    call.add_done_callback(seen.append)
    assert seen == [call, call]


async def test_a_call_whose_start_fails_raises_that(arity: Any, stub: EchoStub, tokens: Any) -> None:
    """What grpc raises for a bad argument when the real call is made arrives at whoever awaits."""
    with pytest.raises(KeyError, match="no compression"):
        await arity.finish(arity.begin(stub, compression="no compression"))


async def test_wait_for_connection_waits_for_the_token_too(arity: Any, stub: EchoStub, tokens: Any) -> None:
    """And then for the real call."""
    if arity.method == "UnaryUnary":
        pytest.skip("a real unary-unary call waits for its end here, which other tests do")
    call = arity.begin(stub)
    await call.wait_for_connection()
    assert await arity.finish(call) == arity.responses


async def test_requests_written_while_waiting_are_sent_in_order(
    not_replayable: Any, stub: EchoStub, tokens: Any
) -> None:
    """write() and done_writing() before there is a real call."""
    gate = tokens.hold()
    call = getattr(stub, not_replayable.method)()

    async def write() -> None:
        for request in (b"a", b"b", b"c"):
            await call.write(request)
        await call.done_writing()

    writing = asyncio.ensure_future(write())
    await gate.arrived.wait()
    gate.release()
    await writing
    assert b"".join(await not_replayable.finish(call)) == b"abc"


async def test_writing_beside_an_iterator_is_a_usage_error(
    not_replayable: Any, stub: EchoStub, tokens: Any
) -> None:
    """As on a real call, and already while it waits."""
    gate = tokens.hold()
    call = not_replayable.begin(stub)
    with pytest.raises(grpc.aio.UsageError):
        await call.write(b"x")
    with pytest.raises(grpc.aio.UsageError):
        await call.done_writing()
    gate.release()
    await not_replayable.finish(call)


async def test_writing_after_the_token_failed_is_an_invalid_state(
    not_replayable: Any, stub: EchoStub, tokens: Any
) -> None:
    """As on a real call that is done; done_writing does nothing."""
    tokens.fail(OSError("down"), times=None)
    call = getattr(stub, not_replayable.method)()
    with pytest.raises(TokenUnavailableError):
        await call.write(b"x")
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"x")
    await call.done_writing()


@pytest.mark.parametrize("method", ["UnaryStream", "StreamStream"])
@pytest.mark.parametrize("state", ["cold", "warm"])
async def test_responses_are_read_one_by_one(
    stub: EchoStub, cache: TokenCache, method: str, state: str
) -> None:
    """read() to the end, then EOF."""
    if state == "warm":
        await cache.get()
    call = stub.UnaryStream(b"x") if method == "UnaryStream" else stub.StreamStream(iter([b"x"] * 3))
    assert [await call.read() for _ in range(3)] == [b"x"] * 3
    assert await call.read() is grpc.aio.EOF


@pytest.mark.parametrize("method", ["UnaryStream", "StreamStream"])
async def test_a_call_that_did_not_wait_and_is_over_is_read_whatever_was_used_before(
    stub: EchoStub, cache: TokenCache, method: str
) -> None:
    """As on a real call: read() answers EOF. What waited is compared in tests/deferred_calls."""
    await cache.get()
    call = stub.UnaryStream(b"x") if method == "UnaryStream" else stub.StreamStream(iter([b"x"] * 3))
    assert [message async for message in call] == [b"x"] * 3
    assert await call.code() is grpc.StatusCode.OK
    assert await call.read() is grpc.aio.EOF
    with pytest.raises(StopAsyncIteration):
        await anext(aiter(call))


# Refused by the server


async def test_a_refused_call_is_sent_again_with_a_new_token(
    replayable: Any,
    stub: EchoStub,
    warm: TokenCache,
    fake_clock: FakeClock,
    echo_server: EchoServer,
    tokens: Any,
) -> None:
    """Once; its caller sees a call that succeeded."""
    fake_clock.advance(10)
    echo_server.refuse(times=1)
    call, seen = replayable.begin(stub), []
    call.add_done_callback(seen.append)
    assert await replayable.finish(call) == replayable.responses
    assert [received.values("authorization") for received in echo_server.calls] == [
        ("Bearer token-1",),
        ("Bearer token-2",),
    ]
    assert (tokens.fetches, await call.code(), seen) == (2, grpc.StatusCode.OK, [call])


async def test_a_refused_call_that_nobody_awaits_is_sent_again_too(
    stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """code() alone tells the outcome of the second attempt."""
    fake_clock.advance(10)
    echo_server.refuse(times=1)
    assert await stub.UnaryUnary(b"x").code() is grpc.StatusCode.OK
    assert len(echo_server.calls) == 2


async def test_a_stream_that_is_read_is_sent_again_before_its_first_message(
    stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """read(), like iterating."""
    fake_clock.advance(10)
    echo_server.refuse(times=1)
    call = stub.UnaryStream(b"x")
    assert await call.read() == b"x"
    assert len(echo_server.calls) == 2
    call.cancel()


async def test_a_call_refused_twice_is_refused(
    replayable: Any, stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """Replay happens once."""
    fake_clock.advance(10)
    echo_server.refuse(times=5)
    with pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal") as caught:
        await replayable.finish(replayable.begin(stub))
    assert (caught.value.code(), len(echo_server.calls)) == (grpc.StatusCode.UNAUTHENTICATED, 2)


async def test_a_refusal_of_a_young_token_is_real(
    arity: Any, stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer, tokens: Any
) -> None:
    """Younger than 10 s: not sent again, and the token stays."""
    fake_clock.advance(9.9)
    echo_server.refuse(times=1)
    with pytest.raises(grpc.aio.AioRpcError):
        await arity.finish(arity.begin(stub))
    await arity.finish(arity.begin(stub))
    assert (len(echo_server.calls), tokens.fetches) == (2, 1)


async def test_a_stream_of_requests_is_not_sent_again_but_its_token_is_rejected(
    not_replayable: Any, stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """The next call has a new token."""
    fake_clock.advance(10)
    echo_server.refuse(times=1)
    with pytest.raises(grpc.aio.AioRpcError):
        await not_replayable.finish(not_replayable.begin(stub))
    await not_replayable.finish(not_replayable.begin(stub))
    assert [received.values("authorization") for received in echo_server.calls] == [
        ("Bearer token-1",),
        ("Bearer token-2",),
    ]


async def test_a_stream_of_requests_that_waited_for_its_token_is_not_sent_again_either(
    not_replayable: Any, stub: EchoStub, fake_clock: FakeClock, echo_server: EchoServer, tokens: Any
) -> None:
    """Its iterator is used up; the token is rejected all the same."""
    gate = echo_server.hold(times=1)
    echo_server.refuse(times=1)
    finishing = asyncio.ensure_future(not_replayable.finish(not_replayable.begin(stub)))
    await gate.arrived.wait()
    fake_clock.advance(10)
    gate.release()
    with pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
        await finishing
    assert (len(echo_server.calls), tokens.fetches) == (1, 1)
    await stub.UnaryUnary(b"x")
    assert tokens.fetches == 2


@pytest.mark.parametrize("style", ["iterate", "read"])
async def test_a_stream_refused_after_a_message_is_not_sent_again_but_its_token_is_rejected(
    stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer, style: str
) -> None:
    """What was delivered cannot be taken back."""
    fake_clock.advance(10)
    echo_server.refuse(times=1, after_messages=1)
    call = stub.UnaryStream(b"x")
    messages = aiter(call) if style == "iterate" else None
    received = []
    with pytest.raises(grpc.aio.AioRpcError):
        while True:
            received.append(await (call.read() if messages is None else anext(messages)))
    assert (received, len(echo_server.calls)) == ([b"x"], 1)
    await stub.UnaryUnary(b"x")
    assert echo_server.calls[1].values("authorization") == ("Bearer token-2",)


async def test_a_token_without_the_scope_is_kept_and_its_call_not_sent_again(
    arity: Any, cache: TokenCache, fake_clock: FakeClock, tokens: Any
) -> None:
    """The server's challenge says so (RFC 6750, 3.1); whoever listens is told it."""

    class Challenging(EchoServer):
        async def _receive(self, method: str, context: Any) -> Any:
            context.set_trailing_metadata((("www-authenticate", 'Bearer error="insufficient_scope"'),))
            return await super()._receive(method, context)

    told: list[Any] = []
    async with Challenging() as server:
        inner = grpc.aio.secure_channel(server.target, server.ssl_credentials)
        async with AuthorizedChannel(inner, cache) as channel:
            await cache.get()
            fake_clock.advance(10)
            cache.subscribe(told.append)
            server.refuse(times=1)
            with pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
                await arity.finish(arity.begin(EchoStub(channel)))
            assert (len(server.calls), tokens.fetches) == (1, 1)
    assert [(event.taken_back, event.challenge) for event in told] == [
        (False, 'Bearer error="insufficient_scope"')
    ]


async def test_many_refused_calls_make_one_refresh(
    stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer, tokens: Any
) -> None:
    """A hundred calls with the same bad token."""
    fake_clock.advance(10)
    gate = echo_server.hold(times=100)
    echo_server.refuse(times=100)
    calls = [stub.UnaryUnary(b"x") for _ in range(100)]
    await gate.wait_for(100)
    gate.release()
    assert await asyncio.gather(*calls) == [b"x"] * 100
    assert (tokens.fetches, len(echo_server.calls)) == (2, 200)


async def test_other_errors_are_not_sent_again(
    arity: Any, stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """PERMISSION_DENIED is about rights, not about the token."""
    fake_clock.advance(10)
    echo_server.refuse(grpc.StatusCode.PERMISSION_DENIED, times=1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await arity.finish(arity.begin(stub))
    assert (caught.value.code(), len(echo_server.calls)) == (grpc.StatusCode.PERMISSION_DENIED, 1)


async def test_a_source_with_one_token_only_is_not_asked_to_replay_it(
    replayable: Any, echo_server: EchoServer, fake_clock: FakeClock
) -> None:
    """The same token would be refused again: the server's refusal stands."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with (
        TokenCache(static_token("only"), clock=fake_clock) as cache,
        AuthorizedChannel(inner, cache) as channel,
    ):
        await cache.get()
        fake_clock.advance(10)
        echo_server.refuse(times=1)
        call, seen = replayable.begin(EchoStub(channel)), []
        call.add_done_callback(seen.append)
        with pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
            await replayable.finish(call)
        assert (len(echo_server.calls), seen) == (1, [call])


async def test_a_replay_whose_refresh_fails_tells_why(
    replayable: Any,
    stub: EchoStub,
    warm: TokenCache,
    fake_clock: FakeClock,
    echo_server: EchoServer,
    tokens: Any,
) -> None:
    """The caller can tell an endpoint that is down from a refusal."""
    fake_clock.advance(10)
    echo_server.refuse(times=1)
    tokens.fail(OSError("down"), times=None)
    with pytest.raises(TokenUnavailableError):
        await replayable.finish(replayable.begin(stub))


async def test_a_replay_keeps_the_calls_deadline(
    replayable: Any, stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """The second attempt has what the first left."""
    fake_clock.advance(10)
    gate = echo_server.hold(times=1)
    echo_server.refuse(times=1)
    call = replayable.begin(stub, timeout=1.0)
    await spend(call, until=0.85)
    gate.release()
    await replayable.finish(call)
    left = echo_server.calls[1].time_remaining
    assert left is not None
    assert left <= 0.85 + GRPC_TIMEOUT_ROUNDING


# The channel's end


async def test_closing_the_channel_ends_a_waiting_call(
    arity: Any, channel: AuthorizedChannel, stub: EchoStub, tokens: Any, echo_server: EchoServer
) -> None:
    """With an error of ours, not with CancelledError in a task that nobody cancelled."""
    gate = tokens.hold()
    call = arity.begin(stub)
    waiting = asyncio.ensure_future(arity.finish(call))
    await gate.arrived.wait()
    await channel.close()
    with pytest.raises(ChannelClosedError):
        await waiting
    assert (await call.code(), echo_server.calls) == (grpc.StatusCode.CANCELLED, [])
    gate.release()


async def test_closing_with_grace_lets_a_waiting_call_finish(
    arity: Any, channel: AuthorizedChannel, stub: EchoStub, tokens: Any
) -> None:
    """New calls are refused meanwhile."""
    gate = tokens.hold()
    call = arity.begin(stub)
    finishing = asyncio.ensure_future(arity.finish(call))
    await gate.arrived.wait()
    closing = asyncio.ensure_future(channel.close(grace=10))
    await asyncio.sleep(0)
    with pytest.raises(ChannelClosedError):
        arity.begin(stub)
    gate.release()
    assert await finishing == arity.responses
    await closing


async def test_a_call_after_the_channel_was_closed_is_an_error_at_once(
    arity: Any, channel: AuthorizedChannel, stub: EchoStub
) -> None:
    """One clear error, whichever arity."""
    await channel.close()
    with pytest.raises(ChannelClosedError, match="was closed"):
        arity.begin(stub)


@pytest.mark.parametrize("state", ["cold", "warm", "failed", "cancelled"])
async def test_a_call_shows_its_state_and_no_secret(
    arity: Any, stub: EchoStub, cache: TokenCache, tokens: Any, state: str
) -> None:
    """For people who print it; the guard in conftest.py looks at all that is left."""
    if state == "warm":
        await cache.get()
    if state == "failed":
        tokens.fail(OSError("down"), times=None)
    call = arity.begin(stub)
    if state == "cancelled":
        call.cancel()
    shown = [repr(call), str(call)]
    await asyncio.gather(arity.finish(call), return_exceptions=True)
    assert "token-1" not in "".join([*shown, repr(call)])


@pytest.mark.parametrize("outcome", ["ok", "cancelled"])
async def test_a_call_says_in_what_state_it_is(arity: Any, stub: EchoStub, tokens: Any, outcome: str) -> None:
    """Waiting, or over before there was an RPC, or the real call."""
    gate = tokens.hold()
    call = arity.begin(stub)
    assert "Call waiting for its token>" in repr(call)
    if outcome == "cancelled":
        call.cancel()
        assert "Call ended without an RPC>" in repr(call)
    gate.release()
    await asyncio.gather(arity.finish(call), return_exceptions=True)
    assert (" of <" in repr(call)) == (outcome == "ok")


async def test_a_call_that_is_given_up_as_its_token_comes_is_not_sent(
    stub: EchoStub, cache: TokenCache, echo_server: EchoServer, tokens: Any
) -> None:
    """A listener may cancel it in that moment, before it is told."""
    gate, given_up = tokens.hold(), []
    first, second = stub.UnaryUnary(b"1"), stub.UnaryUnary(b"2")
    await gate.arrived.wait()

    def give_up(event: TokenEvent) -> None:
        if isinstance(event, RefreshSucceeded):
            given_up.append(second.cancel())

    cache.subscribe(give_up)
    gate.release()
    assert await first == b"1"
    assert given_up == [True]
    assert second.cancelled()
    await stub.UnaryUnary(b"3")
    assert len(echo_server.calls) == 2


async def asked(call: Any) -> BaseException | None:
    """Return what a call raises."""
    try:
        await call.wait_for_connection()
    except (asyncio.CancelledError, grpc.aio.AioRpcError) as error:
        return error
    return None


@pytest.mark.parametrize("outcome", ["token fails", "cancelled"])
async def test_all_who_ask_a_call_that_failed_get_errors_of_their_own(
    arity: Any, stub: EchoStub, tokens: Any, outcome: str
) -> None:
    """One object would collect the tracebacks of all."""
    gate = tokens.hold()
    tokens.fail(OSError("down"), times=None)
    call = arity.begin(stub)
    asking = [asyncio.create_task(asked(call)) for _ in range(2)]
    await gate.arrived.wait()
    if outcome == "cancelled":
        call.cancel()
    gate.release()
    errors = await asyncio.gather(*asking)
    kind = asyncio.CancelledError if outcome == "cancelled" else TokenUnavailableError
    assert [type(error) for error in errors] == [kind] * 2
    assert errors[0] is not errors[1]


# Decided once


async def test_a_real_refusal_of_a_stream_that_nobody_reads_is_its_end(
    stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """There is no reader whose decision could be waited for."""
    fake_clock.advance(9)
    echo_server.refuse(times=1)
    call = stub.UnaryStream(b"x")
    assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
    assert (call.done(), len(echo_server.calls)) == (True, 1)


async def test_a_real_refusal_stays_one_however_late_it_is_awaited(
    stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """A call that is done is not sent again, even when its token has grown old meanwhile."""
    fake_clock.advance(9)
    echo_server.refuse(times=3)
    calls, seen = [stub.UnaryUnary(b"x") for _ in range(3)], []
    for call in calls:
        call.add_done_callback(seen.append)
        await call.code()
    fake_clock.advance(60)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [grpc.aio.AioRpcError] * 3
    assert (len(echo_server.calls), len(seen)) == (3, 3)


async def test_an_old_refusal_does_not_cost_a_new_token(
    not_replayable: Any,
    stub: EchoStub,
    warm: TokenCache,
    fake_clock: FakeClock,
    echo_server: EchoServer,
    tokens: Any,
) -> None:
    """Asked for its outcome again, a call that was refused rejects nothing again."""
    fake_clock.advance(10)
    echo_server.refuse(times=1)
    call = not_replayable.begin(stub)
    with pytest.raises(grpc.aio.AioRpcError):
        await not_replayable.finish(call)
    await warm.get()
    fake_clock.advance(10)
    assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
    await warm.get()
    assert tokens.fetches == 2


@pytest.mark.parametrize("state", ["waiting", "started"])
async def test_a_callback_that_raises_keeps_nobody_from_their_end(
    channel: AuthorizedChannel,
    stub: EchoStub,
    cache: TokenCache,
    echo_server: EchoServer,
    tokens: Any,
    state: str,
) -> None:
    """It is told to the loop's handler; the call is cancelled, not sent, and the channel closes."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    gate = tokens.hold()
    if state == "started":
        gate.release()
        await cache.get()
        gate = echo_server.hold()
    seen: list[Any] = []
    calls = [stub.UnaryUnary(b"x"), stub.UnaryUnary(b"x")]
    for call in calls:
        call.add_done_callback(lambda _: 1 / 0)
        call.add_done_callback(seen.append)
    await gate.arrived.wait()
    assert calls[0].cancel()
    await channel.close()
    gate.release()
    await asyncio.gather(*calls, return_exceptions=True)
    assert ([type(error) for error in told], seen) == ([ZeroDivisionError] * 2, calls)
    assert state == "started" or echo_server.calls == []


async def test_a_refusal_while_the_channel_closes_with_grace_stays_what_it_is(
    replayable: Any,
    channel: AuthorizedChannel,
    stub: EchoStub,
    warm: TokenCache,
    fake_clock: FakeClock,
    echo_server: EchoServer,
) -> None:
    """A closing channel sends nothing again."""
    fake_clock.advance(10)
    gate = echo_server.hold()
    echo_server.refuse(times=1)
    finishing = asyncio.ensure_future(replayable.finish(replayable.begin(stub)))
    await gate.arrived.wait()
    closing = asyncio.ensure_future(channel.close(grace=10))
    await asyncio.sleep(0)
    gate.release()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await finishing
    await closing
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_stream_that_will_be_sent_again_is_not_done(
    stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """Whoever asks for its code beside the reader gets that of the second attempt."""
    fake_clock.advance(10)
    gate = echo_server.hold(times=1)
    echo_server.refuse(times=1)
    call, seen = stub.UnaryStream(b"x"), []

    async def read() -> list[bytes]:
        return [message async for message in call]

    reading = asyncio.ensure_future(read())
    await gate.arrived.wait()
    call.add_done_callback(lambda done: seen.append(done.done()))
    asking = asyncio.ensure_future(call.code())
    gate.release()
    assert (await asking, await reading, seen) == (grpc.StatusCode.OK, [b"x"] * 3, [True])


async def test_credentials_of_one_calls_own_are_refused(
    arity: Any, stub: EchoStub, echo_server: EchoServer
) -> None:
    """The server would get two tokens."""
    with pytest.raises(ConfigurationError, match="two tokens") as caught:
        arity.begin(stub, credentials=grpc.access_token_call_credentials("MINE"))
    assert (caught.value.field, echo_server.calls) == ("credentials", [])


@pytest.mark.parametrize("metadata", [{"x-a": "b"}, ["x-a"], ["xa"], [("x-a",)], [["x-a"]], [(5, "b")]])
async def test_metadata_of_another_shape_is_refused(stub: EchoStub, metadata: Any) -> None:
    """At the call, with what to write."""
    with pytest.raises(ConfigurationError, match="pairs of a key and a value"):
        stub.UnaryUnary(b"x", metadata=metadata)


async def test_a_refused_call_whose_caller_is_cancelled_is_not_sent_again(
    replayable: Any, stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """The caller was told that it is cancelled: the method must not run after that."""
    fake_clock.advance(10)
    echo_server.refuse(times=1)
    call = replayable.begin(stub)
    caller = asyncio.create_task(replayable.finish(call))
    # In the moment between the refusal and the caller's next step.

    def cancel_the_caller(event: TokenEvent) -> None:
        if isinstance(event, TokenRejected):
            caller.cancel()

    stop = warm.subscribe(cancel_the_caller)
    await asyncio.wait({caller})
    stop()
    assert caller.cancelled()
    assert call.done()
    await warm.get()
    assert len(echo_server.calls) == 1


async def test_a_stream_that_is_cancelled_when_it_is_refused_is_not_sent_again(
    stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """While a reader is active, it would decide to."""
    fake_clock.advance(10)
    echo_server.refuse(times=1)
    call: Any = stub.UnaryStream(b"x")
    reader = asyncio.create_task(call.read())
    call._call.add_done_callback(lambda _: call.cancel())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reader
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert len(echo_server.calls) == 1


async def test_a_listener_may_cancel_a_call_that_is_sent_again(
    stub: EchoStub, warm: TokenCache, fake_clock: FakeClock, echo_server: EchoServer
) -> None:
    """It is told when there is something to cancel."""
    fake_clock.advance(10)
    echo_server.refuse(times=1)
    call: Any = stub.UnaryUnary(b"x")

    def cancel_the_call(event: TokenEvent) -> None:
        if isinstance(event, CallReplayed):
            call.cancel()

    stop = warm.subscribe(cancel_the_call)
    with pytest.raises(asyncio.CancelledError):
        await call
    stop()
    assert call.cancelled()
    assert len(echo_server.calls) == 1
