"""EchoServer: four arities, refusals and holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import grpc
import grpc.aio
import pytest

from aio_authgrpc.testing import EchoServer, EchoStub

Call = Callable[[EchoStub], Awaitable[list[bytes]]]

REQUESTS = (b"a", b"b", b"c")


async def unary_unary(stub: EchoStub) -> list[bytes]:
    return [await stub.UnaryUnary(b"a", metadata=(("authorization", "Bearer x"),), timeout=5)]


async def unary_stream(stub: EchoStub) -> list[bytes]:
    return [
        message
        async for message in stub.UnaryStream(b"a", metadata=(("authorization", "Bearer x"),), timeout=5)
    ]


async def stream_unary(stub: EchoStub) -> list[bytes]:
    return [await stub.StreamUnary(iter(REQUESTS), metadata=(("authorization", "Bearer x"),), timeout=5)]


async def stream_stream(stub: EchoStub) -> list[bytes]:
    call = stub.StreamStream(iter(REQUESTS), metadata=(("authorization", "Bearer x"),), timeout=5)
    return [message async for message in call]


CALLS: dict[str, tuple[Call, list[bytes]]] = {
    "UnaryUnary": (unary_unary, [b"a"]),
    "UnaryStream": (unary_stream, [b"a", b"a", b"a"]),
    "StreamUnary": (stream_unary, [b"abc"]),
    "StreamStream": (stream_stream, [b"a", b"b", b"c"]),
}

each_arity = pytest.mark.parametrize("method", CALLS)


@pytest.fixture
async def server() -> AsyncGenerator[EchoServer]:
    async with EchoServer() as server:
        yield server


@pytest.fixture
async def stub(server: EchoServer) -> AsyncGenerator[EchoStub]:
    async with grpc.aio.secure_channel(server.target, server.ssl_credentials) as channel:
        yield EchoStub(channel)


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details()


@each_arity
async def test_call_comes_back(stub: EchoStub, method: str) -> None:
    """Each arity echoes in its way."""
    call, answer = CALLS[method]
    assert await call(stub) == answer


@each_arity
async def test_call_is_recorded(server: EchoServer, stub: EchoStub, method: str) -> None:
    """The server remembers the method, the metadata and the time that was left, and shows no token."""
    await CALLS[method][0](stub)
    [recorded] = server.calls
    assert recorded.method == method
    assert recorded.values("authorization") == ("Bearer x",)
    assert recorded.time_remaining is not None
    assert 0 < recorded.time_remaining <= 5
    assert "Bearer x" not in repr(recorded)


async def test_call_without_a_deadline_has_no_time_remaining(server: EchoServer, stub: EchoStub) -> None:
    """No deadline is None."""
    await stub.UnaryUnary(b"a")
    assert server.calls[0].time_remaining is None


@each_arity
async def test_refusal_lasts_for_its_number_of_calls(server: EchoServer, stub: EchoStub, method: str) -> None:
    """Two calls are refused as ordered, the third is served."""
    call, answer = CALLS[method]
    server.refuse(grpc.StatusCode.PERMISSION_DENIED, "not you", times=2)
    for _ in range(2):
        assert await refusal(call(stub)) == (grpc.StatusCode.PERMISSION_DENIED, "not you")
    assert await call(stub) == answer
    assert len(server.calls) == 3


async def test_refusal_of_one_method_leaves_the_others_alone(server: EchoServer, stub: EchoStub) -> None:
    """An order may be for one method."""
    server.refuse(method="UnaryStream", times=None)
    assert await unary_unary(stub) == [b"a"]
    assert (await refusal(unary_stream(stub)))[0] is grpc.StatusCode.UNAUTHENTICATED
    server.behave()
    assert await unary_stream(stub) == [b"a", b"a", b"a"]


@pytest.mark.parametrize("method", ["UnaryStream", "StreamStream"])
@pytest.mark.parametrize(("after", "delivered"), [(0, 0), (2, 2), (3, 3), (99, 3)])
async def test_refusal_comes_after_the_ordered_messages(
    server: EchoServer, stub: EchoStub, method: str, after: int, delivered: int
) -> None:
    """A stream delivers so many messages and then fails, at its end at the latest."""
    server.refuse(after_messages=after)
    received: list[bytes] = []
    call = stub.UnaryStream(b"a") if method == "UnaryStream" else stub.StreamStream(iter(REQUESTS))
    with pytest.raises(grpc.aio.AioRpcError):
        async for message in call:
            received.append(message)  # noqa: PERF401 - what came before the error is what counts
    assert len(received) == delivered


@pytest.mark.parametrize("after", [0, 2, 99])
async def test_refusal_of_a_request_stream_comes_at_the_latest_at_its_end(
    server: EchoServer, stub: EchoStub, after: int
) -> None:
    """StreamUnary counts the messages that it reads."""
    server.refuse(after_messages=after)
    assert (await refusal(stream_unary(stub)))[0] is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("after", [0, 2])
async def test_refusal_of_a_stream_that_the_client_keeps_open_comes_all_the_same(
    server: EchoServer, stub: EchoStub, after: int
) -> None:
    """A client that waits for answers, and sends nothing, is refused without `drain=False`."""
    server.refuse(after_messages=after)
    call = stub.StreamStream()
    for _ in range(after):
        await call.write(b"a")
        assert await call.read() == b"a"
    assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_refusal_comes_while_the_service_itself_waits_for_a_request(
    server: EchoServer, stub: EchoStub
) -> None:
    """A service that reads the stream to its end is refused at the message that the test has ordered."""
    server.refuse(after_messages=1)
    call = stub.StreamUnary()
    await call.write(b"a")
    assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_refusal_without_draining_comes_while_the_client_may_still_write(
    server: EchoServer, stub: EchoStub
) -> None:
    """A stream that never ends can be refused."""
    server.refuse(drain=False)
    call = stub.StreamStream()
    assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


@each_arity
async def test_held_call_waits_for_the_release(server: EchoServer, stub: EchoStub, method: str) -> None:
    """A held call has arrived, and comes back after the release."""
    call, answer = CALLS[method]
    gate = server.hold()
    task = asyncio.ensure_future(call(stub))
    await gate.arrived.wait()
    assert (gate.waiting, task.done()) == (1, False)
    gate.release()
    assert await task == answer


async def test_client_that_gives_up_leaves_the_gate(server: EchoServer, stub: EchoStub) -> None:
    """A held call that the client cancels is held no more."""
    gate = server.hold(times=1)
    call = stub.UnaryUnary(b"a")
    await gate.wait_for(1)
    call.cancel()
    while gate.waiting:  # noqa: ASYNC110 - the server sets no event when a call has left
        await asyncio.sleep(0)
    assert await stub.UnaryUnary(b"b") == b"b"


async def test_closing_releases_those_who_are_held(server: EchoServer, stub: EchoStub) -> None:
    """A test that fails while calls are held does not hang."""
    gate = server.hold()
    call = stub.UnaryUnary(b"a")
    await gate.arrived.wait()
    await server.aclose()
    [outcome] = await asyncio.gather(asyncio.ensure_future(call), return_exceptions=True)
    assert isinstance(outcome, grpc.aio.AioRpcError | bytes)
