"""Closing a cache, cancelling its refresh from outside, and using it on another loop."""

from __future__ import annotations

import asyncio

import pytest

from aio_authgrpc import Token, TokenRequest
from aio_authgrpc.errors import ChannelClosedError, TokenUnavailableError, WrongEventLoopError
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache

from .gated_source import GatedSource, fill, settle
from .scripted_source import ScriptedSource


async def test_closing_wakes_all_waiting_callers(source: GatedSource, clock: FakeClock) -> None:
    """They raise ChannelClosedError; the refresh is cancelled."""
    cache = TokenCache(source, clock=clock)
    waiting = [asyncio.create_task(cache.get()) for _ in range(3)]
    await source.asked()
    await cache.aclose()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [ChannelClosedError] * 3


async def test_closing_twice_does_nothing(gated_cache: TokenCache, source: GatedSource) -> None:
    """The cache stays closed."""
    await fill(gated_cache, source)
    await gated_cache.aclose()
    await gated_cache.aclose()
    with pytest.raises(ChannelClosedError):
        await gated_cache.get()


async def test_closing_is_bounded_by_a_source_that_ignores_cancellation(clock: FakeClock) -> None:
    """`close_timeout` bounds the wait; a token that comes later is not kept."""
    held, asked = asyncio.Event(), asyncio.Event()

    class Stubborn:
        async def fetch(self, request: TokenRequest) -> Token:
            asked.set()
            while not held.is_set():
                try:
                    await held.wait()
                except asyncio.CancelledError:
                    continue
            return Token("late")

    cache = TokenCache(Stubborn(), clock=clock, close_timeout=0.01)
    waiting = asyncio.create_task(cache.get())
    await asked.wait()
    await cache.aclose()
    with pytest.raises(ChannelClosedError):
        await waiting
    held.set()
    await settle()
    assert cache.current() is None


async def test_a_refresh_cancelled_from_outside_is_a_retryable_error(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """A waiting caller that was not cancelled sees no CancelledError."""
    waiting = asyncio.create_task(gated_cache.get())
    await source.asked()
    for task in asyncio.all_tasks():
        if task.get_name() == "aio_authgrpc refresh":
            task.cancel()
    with pytest.raises(TokenUnavailableError, match="cancelled from outside"):
        await waiting


def test_another_loop_is_one_clear_error(clock: FakeClock) -> None:
    """A cache that was first used on one thread's loop is used on another's."""
    errors: list[BaseException] = []

    async def use(cache: TokenCache) -> None:
        await cache.load()

    async def make() -> None:
        cache = TokenCache(GatedSource(clock), clock=clock)
        await use(cache)

        def elsewhere() -> None:
            try:
                asyncio.run(use(cache))
            except WrongEventLoopError as error:
                errors.append(error)

        await asyncio.to_thread(elsewhere)
        await cache.aclose()

    asyncio.run(make())
    assert "another event loop" in str(errors[0])


async def test_a_cache_closed_while_it_loads_starts_no_timer(clock: FakeClock) -> None:
    """A timer on a closed cache would never end."""
    loading, release = asyncio.Event(), asyncio.Event()

    class Slow(GatedSource):
        async def load(self, request: TokenRequest) -> None:
            loading.set()
            await release.wait()

    cache = TokenCache(Slow(clock), clock=clock, keep_warm=True)
    task = asyncio.create_task(cache.load())
    await loading.wait()
    await cache.aclose()
    release.set()
    with pytest.raises(ChannelClosedError):
        await task


async def test_a_closed_cache_hands_out_nothing_and_starts_nothing(
    scripted_cache: TokenCache, scripted: ScriptedSource
) -> None:
    """`current()` returns None, and `load()` raises."""
    await scripted_cache.get()
    await scripted_cache.aclose()
    assert scripted_cache.current() is None
    with pytest.raises(ChannelClosedError):
        await scripted_cache.load()
    assert len(scripted.requests) == 1


async def test_a_closed_cache_keeps_no_token(scripted_cache: TokenCache) -> None:
    """It may live on in a traceback or a closure."""
    await scripted_cache.get()
    await scripted_cache.aclose()
    assert scripted_cache.current() is None
    assert scripted_cache._refresher.token_request().unwanted is None
