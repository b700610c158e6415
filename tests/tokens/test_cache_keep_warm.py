"""`keep_warm` refreshes by a timer; without it an idle cache sends nothing."""

from __future__ import annotations

import asyncio
import random
from contextvars import ContextVar

import pytest

from aio_authgrpc.errors import TokenUnavailableError
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache

from .gated_source import GatedSource, fill, settle
from .scripted_source import ScriptedSource


async def test_keep_warm_refreshes_without_a_caller(source: GatedSource, clock: FakeClock) -> None:
    """A timer follows the token's limits."""
    async with TokenCache(source, clock=clock, keep_warm=True, rng=random.Random(1)) as cache:
        await source.asked()
        source.answer("one")
        while len(source.requests) == 1 and clock.time() < 1_700_003_600:
            await settle()
            clock.advance(60)
        await source.asked()
        source.answer("two")
        await clock.wait_for_sleepers()
        token = cache.current()
        assert token is not None
        assert token.value == "two"


async def test_without_keep_warm_an_idle_cache_asks_for_nothing(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """It has no timer."""
    await fill(gated_cache, source)
    clock.advance(7_200)
    await settle()
    assert clock.sleepers == 0
    assert len(source.requests) == 1


async def test_keep_warm_works_from_the_first_get(source: GatedSource, clock: FakeClock) -> None:
    """`load()` need not be called."""
    cache = TokenCache(source, clock=clock, keep_warm=True)
    await fill(cache, source)
    await clock.wait_for_sleepers()
    await cache.aclose()
    assert clock.sleepers == 0


async def test_keep_warm_sleeps_through_the_backoff(scripted: ScriptedSource, clock: FakeClock) -> None:
    """The timer leaves the endpoint alone, too; it sleeps 60 s at most at a time."""
    scripted.outcomes = [TokenUnavailableError("down", retry_after=20.0), 3600.0]
    async with TokenCache(scripted, clock=clock, keep_warm=True, attempts=1) as cache:
        await cache.load()
        await clock.wait_for_sleepers()
        assert len(scripted.requests) == 1
        assert clock.next_wake_up == pytest.approx(20.0)
        clock.advance(20.0)
        await clock.wait_for_sleepers()
        assert len(scripted.requests) == 2
        assert clock.next_wake_up == pytest.approx(60.0)


OF_THE_CALLER: ContextVar[str] = ContextVar("of_the_caller", default="nothing")


class ClockThatLooks(FakeClock):
    """A clock that notes the context in which it is asked to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def sleep(self, seconds: float) -> None:
        """Sleep, and note the context."""
        self.seen.append(OF_THE_CALLER.get())
        await super().sleep(seconds)


async def test_the_timer_has_nothing_of_the_context_in_which_the_channel_was_opened() -> None:
    """It lives as long as the channel: the first request's trace or identity would live as long."""
    clock = ClockThatLooks()
    source = ScriptedSource(clock)
    source.outcomes = [3600.0]
    OF_THE_CALLER.set("a request")
    async with TokenCache(source, clock=clock, keep_warm=True):
        await clock.wait_for_sleepers()
    assert clock.seen == ["nothing"]


async def test_closing_ends_the_timer_at_once(clock: FakeClock) -> None:
    """It may sleep for a minute."""
    source = ScriptedSource(clock)
    cache = TokenCache(source, clock=clock, keep_warm=True)
    await cache.get()
    await clock.wait_for_sleepers()
    closing = asyncio.create_task(cache.aclose())
    await settle()
    assert closing.done()
    assert clock.sleepers == 0
