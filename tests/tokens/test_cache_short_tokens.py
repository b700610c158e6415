"""Tokens that end soon after they came: one request a second at most, and a warning."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

import pytest

from aio_authgrpc import Token
from aio_authgrpc.testing import FakeClock, ScriptedTokens
from aio_authgrpc.tokens import TokenCache

from .gated_source import settle


async def watched(cache: TokenCache, clock: FakeClock, *, seconds: float, step: float = 0.05) -> int:
    """Let a call come in each step of these seconds; return how many got a token."""
    calls: list[asyncio.Task[Token]] = []
    for _ in range(round(seconds / step)):
        calls.append(asyncio.create_task(cache.get()))
        await settle()
        clock.advance(step)
    clock.advance(1)
    return len(await asyncio.gather(*calls))


@pytest.mark.parametrize("lifetime", [0.05, 0.001, 0.9])
@pytest.mark.parametrize("keep_warm", [False, True])
async def test_an_endpoint_is_asked_once_a_second_at_most(
    clock: FakeClock, lifetime: float, keep_warm: bool
) -> None:
    """A call that finds the token over waits for the rest of the second, and gets a token."""
    source = ScriptedTokens(lifetime=lifetime)
    async with TokenCache(source, clock=clock, keep_warm=keep_warm) as cache:
        assert await watched(cache, clock, seconds=3) == 60
        assert 3 <= source.fetches <= 5
        times = [request.time for request in source.requests]
    assert all(later - earlier >= 0.999 for earlier, later in itertools.pairwise(times))


async def test_a_stale_token_is_refreshed_a_second_after_it_came(clock: FakeClock) -> None:
    """Not at its first use: it is served until then."""
    source = ScriptedTokens(lifetime=1.1)
    async with TokenCache(source, clock=clock) as cache:
        first = await cache.get()
        clock.advance(0.98)
        assert cache.current() is first
        await settle()
        assert source.fetches == 1
        clock.advance(0.03)
        assert cache.current() is first
        await settle()
    assert source.fetches == 2


async def test_closing_ends_the_wait_for_the_next_second(clock: FakeClock) -> None:
    """No request is under way."""
    source = ScriptedTokens(lifetime=0.05)
    cache = TokenCache(source, clock=clock)
    await cache.get()
    clock.advance(0.1)
    waiting = asyncio.create_task(cache.get())
    await clock.wait_for_sleepers()
    await cache.aclose()
    assert clock.sleepers == 0
    await asyncio.wait({waiting})
    assert source.fetches == 1


@pytest.mark.parametrize(
    ("lifetimes", "warnings"),
    [
        pytest.param([29.0], 1, id="below-the-margin"),
        pytest.param([30.0], 0, id="at-the-margin"),
        pytest.param([None], 0, id="without-an-end"),
        pytest.param([5.0, 5.0, 5.0], 1, id="once-for-a-series"),
        pytest.param([5.0, 60.0, 5.0], 2, id="again-after-a-longer-one"),
    ],
)
async def test_a_warning_tells_of_tokens_that_end_within_the_margin(
    clock: FakeClock, caplog: pytest.LogCaptureFixture, lifetimes: list[Any], warnings: int
) -> None:
    """The last 30 s of a token are for calls on their way."""
    source = ScriptedTokens()
    with caplog.at_level(logging.WARNING, logger="aio_authgrpc"):
        async with TokenCache(source, clock=clock) as cache:
            for lifetime in lifetimes:
                source.lifetime = lifetime
                await cache.get()
                clock.advance(61)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == warnings
    assert all("The token lives for" in text and "this machine's clock" in text for text in told)
