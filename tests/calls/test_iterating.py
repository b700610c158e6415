"""Iterating over responses: in each way that a plain channel's call can be iterated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from aio_authgrpc.testing import EchoServer, EchoStub
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
