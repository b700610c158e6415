"""A cache serves a fresh token, a stale one while it refreshes, and no expired one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aio_authgrpc.errors import TokenUnavailableError
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache, TokenState

from .gated_source import GatedSource, fill, settle
from .scripted_source import ScriptedSource


async def test_a_fresh_token_is_served_and_nothing_is_asked(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """The source is asked once, however often the token is used."""
    token = await fill(gated_cache, source)
    assert await gated_cache.get() is token
    assert gated_cache.current() is token
    assert len(source.requests) == 1
    assert gated_cache.status().state is TokenState.FRESH


async def test_just_before_the_window_nothing_is_asked(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """The stale window begins 225 s before the token's end, at the earliest."""
    token = await fill(gated_cache, source)
    clock.advance(3600 - 225.1)
    assert gated_cache.current() is token
    await settle()
    assert len(source.requests) == 1


async def test_a_stale_token_is_served_while_refreshing(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """No caller waits, and one refresh runs."""
    old = await fill(gated_cache, source)
    clock.advance(3600 - 100)
    assert [gated_cache.current() for _ in range(5)] == [old] * 5
    await source.asked()
    assert gated_cache.status().state is TokenState.STALE
    source.answer("two")
    await settle()
    assert gated_cache.current() is not old
    assert len(source.requests) == 2


async def test_an_expired_token_waits(gated_cache: TokenCache, source: GatedSource, clock: FakeClock) -> None:
    """A token is not served in the last 30 s of its life."""
    await fill(gated_cache, source)
    clock.advance(3600 - 30)
    assert gated_cache.current() is None
    assert (await fill(gated_cache, source, "two")).value == "two"


async def test_a_token_without_an_expiry_stays_fresh(clock: FakeClock) -> None:
    """It is served until a server refuses it."""
    source = GatedSource(clock, lifetime=None)
    async with TokenCache(source, clock=clock) as cache:
        token = await fill(cache, source)
        clock.advance(10 * 365 * 86_400)
        assert cache.current() is token
        assert cache.status().expires_at is None


async def test_a_suspended_machine_notices_that_its_token_has_expired(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """Wall time went on while monotonic time stood still."""
    await fill(gated_cache, source)
    clock.jump(7_200)
    assert gated_cache.current() is None


async def test_a_token_that_comes_expired_is_an_error(gated_cache: TokenCache, source: GatedSource) -> None:
    """It is not served, and the hint says to compare the clocks."""
    with pytest.raises(TokenUnavailableError, match="expired already") as caught:
        await fill(gated_cache, source, lifetime=-5)
    assert "clock" in caught.value.hint


async def test_the_source_is_told_the_audience_and_the_time(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """The time is the injected clock's."""
    await fill(gated_cache, source)
    assert source.requests[0].audience == "https://host"
    assert source.requests[0].time == clock.time()


@pytest.mark.parametrize("show", [repr, str])
async def test_a_cache_shows_its_state_and_no_secret(
    gated_cache: TokenCache, source: GatedSource, show: Callable[[object], str]
) -> None:
    """`print(cache)` is safe."""
    await fill(gated_cache, source, "s3cr3t")
    assert "fresh" in show(gated_cache).lower()
    assert "s3cr3t" not in show(gated_cache)


async def test_a_fresh_token_costs_one_look_at_one_clock() -> None:
    """The other clock is read every 5 s, or after the wall clock was set back."""

    class Counting(FakeClock):
        looks = 0

        def monotonic(self) -> float:
            self.looks += 1
            return super().monotonic()

    clock = Counting()
    async with TokenCache(ScriptedSource(clock), clock=clock) as cache:
        await cache.get()
        looks = []
        for jump in (0.0, 4.9, 0.1, 4.9, -5.0, 0.0):
            before = clock.looks
            clock.jump(jump)
            assert cache.current() is not None
            looks.append(clock.looks - before)
    assert looks == [0, 0, 1, 0, 1, 0]


async def test_asking_for_the_status_starts_no_refresh(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """Serving a stale token starts one; a question does not."""
    await fill(gated_cache, source)
    clock.advance(3600 - 100)
    assert gated_cache.status().state is TokenState.STALE
    await settle()
    assert len(source.requests) == 1
