"""Deterministic guards on the cost of a call with a token at hand: no task, no thread, few functions."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, Token
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock, ScriptedTokens
from aio_authgrpc.tokens import TokenCache

CROWD = 1_000


@pytest.fixture
async def plain(echo_server: EchoServer) -> AsyncIterator[EchoStub]:
    """Give a stub on a channel of gRPC's, for calls with the metadata by hand."""
    async with grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials) as channel:
        yield EchoStub(channel)


class CountingClock(FakeClock):
    """A clock that counts how often it is asked."""

    asked = 0

    def time(self) -> float:
        """Return the wall time, counted."""
        self.asked += 1
        return super().time()


@contextmanager
def functions_called(*folders: str) -> Iterator[list[str]]:
    """Note the names of the Python functions of these folders that run meanwhile, resumed generators too."""
    names: list[str] = []

    def profile(frame: Any, event: str, _: object) -> None:
        if event == "call" and any(folder in frame.f_code.co_filename for folder in folders):
            names.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        yield names
    finally:
        sys.setprofile(None)


async def test_a_call_with_a_token_at_hand_makes_no_task_and_no_thread_of_ours(
    arity: Any, stub: EchoStub, cache: TokenCache
) -> None:
    """What grpc.aio makes itself is all there is."""
    await cache.get()
    threads = set(threading.enumerate())
    call = arity.begin(stub)
    ours = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("aio_authgrpc")]
    assert (ours, set(threading.enumerate()) - threads) == ([], set())
    await arity.finish(call)


async def test_a_call_with_a_token_at_hand_asks_the_clock_once(
    arity: Any, echo_server: EchoServer, tokens: Any
) -> None:
    """Fresh, stale and expired are one comparison each."""
    clock = CountingClock()
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with TokenCache(tokens, clock=clock) as cache, AuthorizedChannel(inner, cache) as channel:
        await cache.get()
        clock.asked = 0
        await arity.finish(arity.begin(EchoStub(channel)))
    assert clock.asked == 1


@pytest.mark.parametrize(
    ("method", "most"), [("UnaryUnary", 5), ("UnaryStream", 5), ("StreamUnary", 3), ("StreamStream", 3)]
)
async def test_beginning_a_call_with_a_token_at_hand_runs_few_functions(
    stub: EchoStub, cache: TokenCache, method: str, most: int
) -> None:
    """The number is what it is today: whoever adds to the hot path meets it, and benchmarks/overhead.py."""
    await cache.get()
    calls: list[Any] = []
    argument = b"x" if method.startswith("Unary") else iter([b"x"])
    begin = lambda: calls.append(getattr(stub, method)(argument))  # noqa: E731 - counted without a frame of its own
    await asyncio.gather(stub.UnaryUnary(b"x"))  # the ready metadata of the token is made once
    with functions_called("/aio_authgrpc/_") as ours:
        begin()
    assert len(ours) <= most
    calls[0].cancel()


async def test_a_whole_call_runs_hardly_more_functions_than_a_plain_one(
    stub: EchoStub, plain: EchoStub, cache: TokenCache
) -> None:
    """From the stub to the response: nine of ours, which save gRPC five of its own."""
    sent = (await cache.get()).as_metadata("authorization")
    await asyncio.gather(stub.UnaryUnary(b"x"), plain.UnaryUnary(b"x", metadata=sent))
    with functions_called("/aio_authgrpc/_", "/grpc/aio/_c", "/grpc/aio/_m") as of_plain:
        await plain.UnaryUnary(b"x", metadata=sent)
    with functions_called("/aio_authgrpc/_", "/grpc/aio/_c", "/grpc/aio/_m") as of_ours:
        await stub.UnaryUnary(b"x")
    assert len(of_ours) - len(of_plain) <= 4
    with functions_called("/aio_authgrpc/_") as ours:
        await stub.UnaryUnary(b"x")
    assert len(ours) <= 9


@pytest.mark.parametrize(
    ("method", "most"), [("UnaryUnary", 3), ("UnaryStream", 2), ("StreamUnary", 1), ("StreamStream", 1)]
)
async def test_a_call_under_way_keeps_few_objects_for_the_garbage_collector(
    stub: EchoStub, plain: EchoStub, cache: TokenCache, method: str, most: int
) -> None:
    """More than a plain one, with what awaits a unary call: each brings the next collection nearer."""
    if asyncio.get_running_loop().get_debug():
        pytest.skip("asyncio's debug mode keeps a stack for each future")
    requests = () if method.startswith("Stream") else (b"x",)
    sent = (await cache.get()).as_metadata("authorization")
    under_way: list[Any] = []

    def tracked_by_each(begin: Callable[[], Any]) -> float:
        before = len(gc.get_objects())
        for _ in range(CROWD):
            call = begin()
            under_way.append(call)
            if method == "UnaryUnary":
                awaiting = call.__await__()
                awaiting.send(None)
                under_way.append(awaiting)
        return (len(gc.get_objects()) - before) / CROWD

    of_plain = tracked_by_each(lambda: getattr(plain, method)(*requests, metadata=sent))
    of_ours = tracked_by_each(lambda: getattr(stub, method)(*requests))
    assert round(of_ours - of_plain, 1) <= most
    for one in under_way:
        if isinstance(one, Generator):
            one.close()
        else:
            one.cancel()


async def test_a_message_runs_no_function_of_ours_where_it_is_written_or_read(
    stub: EchoStub, cache: TokenCache
) -> None:
    """With a token at hand a stream of requests is gRPC's own call."""
    await cache.get()
    call = stub.StreamStream()
    await call.write(b"x")
    with functions_called("/aio_authgrpc/_") as ours:
        assert await call.read() == b"x"
        await call.write(b"y")
    assert ours == []
    call.cancel()


async def test_the_metadata_of_a_token_is_made_once(echo_server: EchoServer, cache: TokenCache) -> None:
    """Not at every call."""
    made = 0

    class Counted(Token):
        def as_metadata(self, header: str) -> tuple[tuple[str, str], ...]:
            nonlocal made
            made += 1
            return super().as_metadata(header)

    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with (
        TokenCache(ScriptedTokens(Counted("abc"))) as counted,
        AuthorizedChannel(inner, counted) as channel,
    ):
        await asyncio.gather(*(EchoStub(channel).UnaryUnary(b"x") for _ in range(10)))
    assert made == 1
