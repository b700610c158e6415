"""Closing a cache, cancelling its refresh from outside, and using it on another loop."""

from __future__ import annotations

import asyncio

import pytest
from google.auth.exceptions import TransportError

from aio_authgrpc import AiohttpRequest, ConfigurationError, Token, TokenRequest
from aio_authgrpc.errors import ChannelClosedError, TokenUnavailableError, WrongEventLoopError
from aio_authgrpc.events import RefreshStarted, TokenEvent
from aio_authgrpc.testing import FakeClock, ScriptedTokens
from aio_authgrpc.tokens import TokenCache

from .gated_source import GatedSource, fill, settle
from .scripted_source import ScriptedSource


async def test_closing_wakes_all_waiting_callers(source: GatedSource, clock: FakeClock) -> None:
    """They raise ChannelClosedError, and do not wait for the refresh to come home."""
    cache = TokenCache(source, clock=clock)
    waiting = [asyncio.create_task(cache.get()) for _ in range(3)]
    await source.asked()
    closing = asyncio.create_task(cache.aclose())
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert not closing.done()
    source.answer("late")
    await closing
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


async def test_a_refresh_that_was_sent_comes_home_when_the_cache_is_closed(
    source: GatedSource, clock: FakeClock
) -> None:
    """Its answer may hold the only refresh token that is still good. The token itself is not kept."""
    cache = TokenCache(source, clock=clock)
    heard: list[TokenEvent] = []
    cache.subscribe(heard.append)
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    closing = asyncio.create_task(cache.aclose())
    await settle()
    assert not closing.done()
    source.answer("late")
    await closing
    assert source.answered == ["late"]
    assert cache.status().generation == 0
    assert cache.current() is None
    assert [type(event) for event in heard] == [RefreshStarted]
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], ChannelClosedError)


async def test_a_refresh_that_fails_after_the_end_is_not_reported(
    source: GatedSource, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody can do anything about it; it is not tried again either."""
    cache = TokenCache(source, clock=clock)
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    closing = asyncio.create_task(cache.aclose())
    await settle()
    source.fail(OSError("down"))
    await asyncio.wait({closing, waiting})
    assert cache.status().last_error is None
    assert caplog.records == []
    assert len(source.requests) == 1


async def test_closing_ends_a_pause_between_attempts_at_once(source: GatedSource, clock: FakeClock) -> None:
    """No request is under way, so nothing can be lost."""
    cache = TokenCache(source, clock=clock)
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    source.fail(OSError("down"))
    await clock.wait_for_sleepers()
    closing = asyncio.create_task(cache.aclose())
    await settle()
    assert closing.done()
    assert clock.sleepers == 0
    assert len(source.requests) == 1
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], ChannelClosedError)


async def test_closing_after_a_pause_waits_for_the_next_attempt(
    source: GatedSource, clock: FakeClock
) -> None:
    """It was sent, as the first one was."""
    cache = TokenCache(source, clock=clock)
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    source.fail(OSError("down"))
    await clock.wait_for_sleepers()
    clock.advance(1)
    await source.asked()
    closing = asyncio.create_task(cache.aclose())
    await settle()
    source.answer("late")
    await asyncio.wait({closing, waiting})
    assert source.answered == ["late"]


async def test_closing_in_a_task_that_is_cancelled_waits_for_nothing(
    source: GatedSource, clock: FakeClock
) -> None:
    """Whoever cancels a block, such as `asyncio.timeout()`, wants its end."""
    cache = TokenCache(source, clock=clock)

    async def block() -> None:
        async with cache:
            await cache.get()

    task = asyncio.create_task(block())
    await source.asked()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert cache.closed
    assert source.requests[0].http.closed


async def test_closing_again_ends_what_a_cancelled_close_has_left(
    source: GatedSource, clock: FakeClock
) -> None:
    """The refresh is cancelled, and the HTTP transport closed."""
    cache = TokenCache(source, clock=clock)
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    http = source.requests[0].http
    closing = asyncio.create_task(cache.aclose())
    await settle()
    closing.cancel()
    await asyncio.wait({closing, waiting})
    await cache.aclose()
    assert closing.cancelled()
    assert http.closed


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


async def test_a_cache_whose_source_cannot_be_loaded_leaves_nothing_open() -> None:
    """Nor where its opening is cancelled: the transport that it made has a session by then."""

    class Unloadable(ScriptedTokens):
        def __init__(self, error: BaseException) -> None:
            super().__init__()
            self._error = error
            self.http: AiohttpRequest | None = None

        async def load(self, request: TokenRequest) -> None:
            self.http = request.http
            raise self._error

    for error in (ConfigurationError("no file", field="credentials"), asyncio.CancelledError()):
        source = Unloadable(error)
        with pytest.raises(type(error)):
            await TokenCache(source).__aenter__()
        assert source.http is not None
        with pytest.raises(TransportError, match="closed"):
            await source.http.send("http://127.0.0.1:1/")
