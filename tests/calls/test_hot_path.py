"""Deterministic guards on the cost of a call with a token at hand: no task, no thread, few functions."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, Token
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock, ScriptedTokens
from aio_authgrpc.tokens import TokenCache


class CountingClock(FakeClock):
    """A clock that counts how often it is asked."""

    asked = 0

    def time(self) -> float:
        """Return the wall time, counted."""
        self.asked += 1
        return super().time()


def aio_authgrpc_calls(function: Any) -> int:
    """Return how many functions of the package run during a call of `function`."""
    entered = 0

    def profile(frame: Any, event: str, _: object) -> None:
        nonlocal entered
        entered += event == "call" and "/aio_authgrpc/" in frame.f_code.co_filename

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return entered


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
    ("method", "most"), [("UnaryUnary", 9), ("UnaryStream", 9), ("StreamUnary", 6), ("StreamStream", 6)]
)
async def test_a_call_with_a_token_at_hand_runs_few_functions(
    stub: EchoStub, cache: TokenCache, method: str, most: int
) -> None:
    """The number is what it is today: whoever adds to the hot path meets it, and benchmarks/overhead.py."""
    await cache.get()
    calls: list[Any] = []
    argument = b"x" if method.startswith("Unary") else iter([b"x"])
    begin = lambda: calls.append(getattr(stub, method)(argument))  # noqa: E731 - counted without a frame of its own
    await asyncio.gather(stub.UnaryUnary(b"x"))  # the ready metadata of the token is made once
    assert aio_authgrpc_calls(begin) <= most
    calls[0].cancel()


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
