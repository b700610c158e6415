"""`keep_warm` refreshes by a timer; without it an idle cache sends nothing."""

from __future__ import annotations

import random

from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache

from .gated_source import GatedSource, fill, settle


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
