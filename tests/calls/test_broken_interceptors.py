"""Interceptors that raise, or return what is no call: calls end, callbacks are called, the channel closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock, ScriptedTokens
from aio_authgrpc.tokens import TokenCache, TokenState
from tests.support.arity import ARITIES

STREAM_UNARY = next(arity for arity in ARITIES if arity.method == "StreamUnary")
Intercept = Callable[[Any, Any, Any], Awaitable[Any]]


def interceptor(arity: Any, intercept: Intercept) -> Any:
    """Return an interceptor of one arity."""

    async def method(_: Any, continuation: Any, details: Any, request: Any) -> Any:
        return await intercept(continuation, details, request)

    base = getattr(grpc.aio, f"{arity.method}ClientInterceptor")
    words = arity.method.replace("Unary", "_unary").replace("Stream", "_stream")
    return type("Intercepting", (base,), {f"intercept{words}": method})()


@asynccontextmanager
async def intercepted(
    server: EchoServer, arity: Any, intercept: Intercept, *, warm: bool = True
) -> AsyncIterator[AuthorizedChannel]:
    """Give a channel with one interceptor below the token, which is old enough to be taken back."""
    clock = FakeClock()
    inner = grpc.aio.insecure_channel(server.target, interceptors=[interceptor(arity, intercept)])
    async with TokenCache(ScriptedTokens(), clock=clock) as cache:
        async with AuthorizedChannel(inner, cache) as channel:
            if warm:
                await cache.get()
                clock.advance(10)
            yield channel


@pytest.fixture
async def plain_server() -> AsyncIterator[EchoServer]:
    """Give a server without TLS."""
    async with EchoServer(tls=False) as server:
        yield server


async def raise_at_once(_continuation: Any, _details: Any, _request: Any) -> Any:
    raise KeyError("a bug")


async def raise_at_the_end(continuation: Any, details: Any, request: Any) -> Any:
    await continuation(details, request)
    raise KeyError("a bug")


async def fail_the_test(_continuation: Any, _details: Any, _request: Any) -> Any:
    pytest.fail("the test's own word")


async def cancel(_continuation: Any, _details: Any, _request: Any) -> Any:
    raise asyncio.CancelledError


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize(
    ("intercept", "error"),
    [
        (raise_at_once, KeyError),
        (raise_at_the_end, KeyError),
        (fail_the_test, pytest.fail.Exception),
        (cancel, asyncio.CancelledError),
    ],
)
async def test_a_call_whose_interceptor_raises_is_done_and_its_callbacks_are_called(
    arity: Any, plain_server: EchoServer, intercept: Intercept, error: type[BaseException], warm: bool
) -> None:
    """Awaiting it raises what the interceptor raised, which is no refusal of the token."""
    seen: list[Any] = []
    async with intercepted(plain_server, arity, intercept, warm=warm) as channel:
        call = arity.begin(EchoStub(channel))
        call.add_done_callback(seen.append)
        with pytest.raises(error):
            await arity.finish(call)
        assert call.done()
        assert seen == [call]
        assert channel.auth.status().state is TokenState.FRESH


class Unasked(grpc.aio.StreamUnaryCall[bytes, bytes]):
    """A call of an interceptor's own that cannot be asked; it remembers that it was."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def _ask(self, question: str) -> Any:
        self.asked.append(question)
        raise KeyError(question)

    def done(self) -> bool:
        return bool(self._ask("done"))

    async def code(self) -> grpc.StatusCode:
        return self._ask("code")  # type: ignore[no-any-return]  # it raises

    def cancel(self) -> bool:
        return True

    def cancelled(self) -> bool:
        return False

    def add_done_callback(self, callback: Any) -> None:
        pass

    def time_remaining(self) -> float | None:
        return None

    initial_metadata: Any = code
    trailing_metadata: Any = code
    details: Any = code
    debug_error_string: Any = code
    wait_for_connection: Any = code
    write: Any = code
    done_writing: Any = code

    def __await__(self) -> Any:
        yield from asyncio.Event().wait().__await__()


@pytest.mark.parametrize(("grace", "asked"), [(None, []), (0, []), (0.01, ["done"])])
async def test_closing_asks_the_calls_that_are_held_within_a_grace_alone(
    plain_server: EchoServer, grace: float | None, asked: list[str]
) -> None:
    """What such a call raises is no reason to stay open."""
    unasked = Unasked()

    async def answer(_continuation: Any, _details: Any, _request: Any) -> Any:
        return unasked

    async with intercepted(plain_server, STREAM_UNARY, answer) as channel:
        held = EchoStub(channel).StreamUnary()
        await asyncio.sleep(0)
        unasked.asked.clear()
        await channel.close(grace)
        assert unasked.asked == asked
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    del held


async def test_a_block_that_is_cancelled_ends_as_cancelled_whatever_its_calls_raise(
    plain_server: EchoServer,
) -> None:
    """The end of the block asks no call whose error could take the cancellation's place."""
    entered = asyncio.Event()

    async def answer(_continuation: Any, _details: Any, _request: Any) -> Any:
        entered.set()
        return Unasked()

    async def block() -> None:
        async with intercepted(plain_server, STREAM_UNARY, answer) as channel:
            await EchoStub(channel).StreamUnary()

    task = asyncio.create_task(block())
    await entered.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
