"""Iterating over responses: in each way that a plain channel's call can be iterated."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any
from weakref import ref

import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock
from aio_authgrpc.tokens import TokenCache

THREE = [b"x", b"x", b"x"]


@pytest.fixture(params=["plain", "warm", "cold"])
async def either(
    request: pytest.FixtureRequest, echo_server: EchoServer, stub: EchoStub, cache: TokenCache
) -> AsyncIterator[EchoStub]:
    """Give a stub on a channel of gRPC's, on ours with a token at hand, or without."""
    if request.param != "plain":
        if request.param == "warm":
            await cache.get()
        yield stub
        return
    async with grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials) as channel:
        yield EchoStub(channel)


async def rest_of(responses: Any) -> list[bytes]:
    return [message async for message in responses]


async def test_a_loop_that_was_left_is_taken_up_again(either: EchoStub) -> None:
    """A call has one iterator."""
    call = either.UnaryStream(b"x")
    async for message in call:
        assert message == b"x"
        break
    assert await rest_of(call) == THREE[1:]
    assert await rest_of(call) == []


async def test_responses_may_be_asked_for_before_they_are_awaited(either: EchoStub) -> None:
    """In the order in which they are awaited, the first included."""
    responses = aiter(either.UnaryStream(b"x"))
    asked = [anext(responses) for _ in range(3)]
    assert [await one for one in asked] == THREE
    assert await anext(responses, None) is None


async def test_two_tasks_do_not_iterate_at_once(either: EchoStub) -> None:
    """The second gets an error, the first its response, and the iteration goes on."""
    responses = aiter(either.UnaryStream(b"x"))
    first, second = await asyncio.gather(
        *(asyncio.ensure_future(anext(responses)) for _ in range(2)), return_exceptions=True
    )
    assert first == b"x"
    assert isinstance(second, RuntimeError)
    assert await rest_of(responses) == THREE[1:]


@pytest.mark.parametrize("received", [0, 1, 3])
async def test_an_iterator_that_was_closed_has_nothing_more(either: EchoStub, received: int) -> None:
    """And the RPC goes on."""
    call = either.UnaryStream(b"x")
    responses: Any = aiter(call)
    for _ in range(received):
        await anext(responses)
    await responses.aclose()
    assert await rest_of(call) == []
    assert not call.cancelled()
    call.cancel()


async def test_an_iterator_that_failed_has_nothing_more(either: EchoStub, echo_server: EchoServer) -> None:
    """The error is raised once."""
    echo_server.refuse(times=2)
    call = either.UnaryStream(b"x")
    with pytest.raises(grpc.aio.AioRpcError):
        await rest_of(call)
    assert await rest_of(call) == []


async def test_cancelling_the_iteration_cancels_the_rpc(either: EchoStub, echo_server: EchoServer) -> None:
    """And ends the iterator."""
    held = echo_server.hold()
    call: Any = either.UnaryStream(b"x")
    waiting = asyncio.ensure_future(anext(aiter(call)))
    await held.wait_for(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await call.code() is grpc.StatusCode.CANCELLED
    assert await rest_of(call) == []


async def test_closing_an_iterator_takes_back_what_was_asked_for(either: EchoStub) -> None:
    """What is not awaited yet has nothing to come."""
    responses: Any = aiter(either.UnaryStream(b"x"))
    asked = anext(responses)
    await responses.aclose()
    with pytest.raises(StopAsyncIteration):
        await asked
    assert await rest_of(responses) == []


async def test_an_iterator_that_another_task_waits_for_is_not_closed(
    either: EchoStub, echo_server: EchoServer
) -> None:
    """The one who closes it is told, and the iteration goes on."""
    held = echo_server.hold()
    responses: Any = aiter(either.UnaryStream(b"x"))
    waiting = asyncio.ensure_future(anext(responses))
    await held.wait_for(1)
    with pytest.raises(RuntimeError):
        await responses.aclose()
    held.release()
    assert await waiting == b"x"
    assert await rest_of(responses) == THREE[1:]


async def ends_at_once(call: Any, style: str) -> None:
    """Iterate or read a call whose first response does not come."""
    if style == "read":
        await call.read()
    else:
        await rest_of(call)


@pytest.mark.parametrize("style", ["iterate", "read"])
@pytest.mark.parametrize("end", ["refused", "cancelled"])
async def test_a_call_without_a_response_is_freed_at_its_end(
    stub: EchoStub, cache: TokenCache, echo_server: EchoServer, style: str, end: str
) -> None:
    """Not by the garbage collector: its request may be large."""
    await cache.get()
    held = echo_server.hold()
    echo_server.refuse(grpc.StatusCode.NOT_FOUND)
    gc.disable()
    try:
        call: Any = stub.UnaryStream(b"x")
        of_call = ref(call)
        reading = asyncio.ensure_future(ends_at_once(call, style))
        del call
        await held.wait_for(1)
        if end == "cancelled":
            reading.cancel()
        held.release()
        await asyncio.wait({reading})
        assert reading.cancelled() == (end == "cancelled")
        assert reading.cancelled() or isinstance(reading.exception(), grpc.aio.AioRpcError)
        del reading
        for _ in range(3):
            await asyncio.sleep(0)
        assert of_call() is None
    finally:
        gc.enable()


class Buffering(grpc.aio.UnaryStreamClientInterceptor):
    """Reads the whole stream before it gives the first message: the status is there first."""

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Start the RPC."""
        call = await continuation(client_call_details, request)
        messages = [message async for message in call]

        async def again() -> AsyncIterator[bytes]:
            for message in messages:
                yield message

        return again()


@pytest.mark.parametrize("style", ["iterate", "read"])
async def test_a_stream_that_ended_before_its_first_message_is_over(
    echo_server: EchoServer, cache: TokenCache, style: str
) -> None:
    """Whoever waits for its end is told."""
    inner = grpc.aio.secure_channel(
        echo_server.target, echo_server.ssl_credentials, interceptors=[Buffering()]
    )
    await cache.get()
    async with AuthorizedChannel(inner, cache) as channel:
        call: Any = EchoStub(channel).UnaryStream(b"x")
        ends: list[Any] = []
        call.add_done_callback(ends.append)
        asking = asyncio.ensure_future(call.code())
        received = [await call.read() for _ in range(3)] if style == "read" else await rest_of(call)
        assert received == THREE
        assert await asking is grpc.StatusCode.OK
        assert ends == [call]
        assert not channel._open_calls.started


async def test_one_who_asks_an_awaited_call_for_its_code_is_told(stub: EchoStub, cache: TokenCache) -> None:
    """Nobody else listens."""
    await cache.get()
    call: Any = stub.UnaryUnary(b"x")
    asking = asyncio.ensure_future(call.code())
    await asyncio.sleep(0)
    assert await call == b"x"
    assert await asking is grpc.StatusCode.OK


class Wrapping:
    """What an interceptor makes of a call: all but some of it is the call's."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self.call, name)

    def __aiter__(self) -> Any:
        return self.call.__aiter__()


class Stubborn(Wrapping):
    """A call that raises where it is cancelled."""

    def cancel(self) -> bool:
        """Raise."""
        raise ValueError("It cannot be cancelled.")


class Falling(Wrapping):
    """A call that answers by itself where it was refused; its code stays that of the refusal."""

    def __await__(self) -> Any:
        try:
            return (yield from self.call.__await__())
        except grpc.aio.AioRpcError:
            return b"of its own"


def given_by(inner: Any, method: str, kind: type[Wrapping]) -> list[Any]:
    """Have a channel's method give calls of a kind; return them."""
    made: list[Any] = []
    make = getattr(inner, method)

    def methods(*given: Any, **named: Any) -> Any:
        start = make(*given, **named)

        def call(*given: Any, **named: Any) -> Any:
            made.append(kind(start(*given, **named)))
            return made[-1]

        return call

    setattr(inner, method, methods)
    return made


async def test_a_stream_that_cannot_be_cancelled_is_over_for_the_channel_at_its_end(
    echo_server: EchoServer, cache: TokenCache
) -> None:
    """The error of its cancel() reaches the reader, and keeps no call under way."""
    await cache.get()
    held = echo_server.hold()
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    made = given_by(inner, "unary_stream", Stubborn)
    async with AuthorizedChannel(inner, cache) as channel:
        call: Any = EchoStub(channel).UnaryStream(b"x")
        ends: list[Any] = []
        call.add_done_callback(ends.append)
        reading = asyncio.ensure_future(anext(aiter(call)))
        await held.wait_for(1)
        reading.cancel()
        with pytest.raises(ValueError, match="cannot be cancelled"):
            await reading
        assert await made[0].call.code() is grpc.StatusCode.CANCELLED
        await asyncio.sleep(0)
        assert ends == [call]
        assert not channel._open_calls.started


async def test_a_response_settles_a_call_whatever_its_code_says(
    echo_server: EchoServer, cache: TokenCache, fake_clock: FakeClock
) -> None:
    """It is the caller's: the request is not sent again."""
    await cache.get()
    fake_clock.advance(10)  # a refusal of this token would be worth another one
    echo_server.refuse()
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    given_by(inner, "unary_unary", Falling)
    async with AuthorizedChannel(inner, cache) as channel:
        call: Any = EchoStub(channel).UnaryUnary(b"x")
        ends: list[Any] = []
        call.add_done_callback(ends.append)
        assert await call == b"of its own"
        assert call.done()
        assert ends == [call]
    assert len(echo_server.calls) == 1
