"""A failed refresh: what callers get, how long the endpoint is left alone, which token is served on."""

from __future__ import annotations

import asyncio
import logging

import pytest

from aio_authgrpc import (
    AuthRpcError,
    Token,
    TokenCache,
    TokenRefusedError,
    TokenRequest,
    TokenState,
    TokenUnavailableError,
)
from aio_authgrpc.testing import FakeClock

from .gated_source import GatedSource, fill, settle


async def test_a_failed_refresh_reaches_each_waiter_as_an_exception_of_its_own(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """Same text, same cause, different objects."""
    waiting = [asyncio.create_task(gated_cache.get()) for _ in range(3)]
    await source.asked()
    cause = ConnectionRefusedError("nobody there")
    source.fail(cause)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [TokenUnavailableError] * 3
    assert len({id(error) for error in errors}) == 3
    assert all(isinstance(error, BaseException) and error.__cause__ is cause for error in errors)


async def test_within_the_backoff_callers_get_the_recorded_error_at_once(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """However many call, the endpoint is left alone."""
    waiting = asyncio.create_task(gated_cache.get())
    await source.asked()
    source.fail(OSError("down"))
    with pytest.raises(TokenUnavailableError):
        await waiting
    for _ in range(100):
        with pytest.raises(TokenUnavailableError, match="down"):
            await gated_cache.get()
    assert len(source.requests) == 1


async def test_after_the_backoff_the_failure_is_forgotten(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """The next caller tries again, and a success clears the record."""
    waiting = asyncio.create_task(gated_cache.get())
    await source.asked()
    source.fail(OSError("down"))
    await asyncio.wait({waiting})
    clock.advance(1.0)
    assert (await fill(gated_cache, source)).value == "one"
    assert (gated_cache.status().last_error, gated_cache.status().next_attempt_at) == (None, None)
    assert waiting.exception() is not None


async def test_a_failed_refresh_leaves_a_usable_token_alone(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """Until its very end, with attempts spaced by the back-off."""
    token = await fill(gated_cache, source)
    clock.advance(3600 - 150)
    assert gated_cache.current() is token
    await source.asked()
    source.fail(OSError("down"))
    await settle()
    for _ in range(100):
        assert await gated_cache.get() is token
    assert len(source.requests) == 2
    assert gated_cache.status().last_error is not None
    clock.advance(60)
    assert gated_cache.current() is token
    await source.asked()
    assert len(source.requests) == 3
    source.answer("two")


async def test_the_back_off_ends_with_the_token_that_is_served(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """Else calls would fail for trouble that was over while there still was a token."""
    await fill(gated_cache, source, lifetime=3)
    clock.advance(2.8)
    assert gated_cache.current() is not None
    await source.asked()
    source.fail(OSError("down for a moment"))
    await settle()
    status = gated_cache.status()
    assert status.next_attempt_at == pytest.approx(clock.time() + 0.05)
    clock.advance(0.05)
    assert (await fill(gated_cache, source, "two")).value == "two"


async def test_the_back_off_without_a_token_is_whole(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """A token that has expired shortens nothing: the endpoint is left alone."""
    await fill(gated_cache, source, lifetime=3)
    clock.advance(2.9)
    waiting = asyncio.create_task(gated_cache.get())
    await source.asked()
    source.fail(OSError("down"))
    await asyncio.wait({waiting})
    assert isinstance(waiting.exception(), TokenUnavailableError)
    status = gated_cache.status()
    assert status.next_attempt_at is not None
    assert status.next_attempt_at - clock.time() > 0.1


async def test_failures_in_a_row_are_logged_once(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A token endpoint that is down for an hour does not fill the log; its return is told too."""
    with caplog.at_level(logging.INFO, logger="aio_authgrpc"):
        for _ in range(3):
            waiting = asyncio.create_task(gated_cache.get())
            await source.asked()
            source.fail(OSError("down"))
            await asyncio.wait({waiting})
            assert waiting.exception() is not None
            clock.advance(60)
        await fill(gated_cache, source)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_the_status_tells_when_the_next_attempt_may_be_made(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """In wall time, within the first window."""
    waiting = asyncio.create_task(gated_cache.get())
    await source.asked()
    source.fail(OSError("down"))
    await asyncio.wait({waiting})
    status = gated_cache.status()
    assert waiting.exception() is not None
    assert (status.state, status.generation) == (TokenState.EXPIRED, 0)
    assert status.next_attempt_at is not None
    assert clock.time() < status.next_attempt_at <= clock.time() + 1.0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), TokenUnavailableError),
        (KeyError("a bug"), TokenRefusedError),
        (TokenRefusedError("said by the source"), TokenRefusedError),
    ],
)
async def test_whatever_a_source_raises_becomes_an_rpc_error(
    gated_cache: TokenCache, source: GatedSource, error: Exception, kind: type[AuthRpcError]
) -> None:
    """A source is users' code."""
    waiting = asyncio.create_task(gated_cache.get())
    await source.asked()
    source.fail(error)
    with pytest.raises(kind):
        await waiting


async def test_a_source_that_returns_no_token_is_told_so(clock: FakeClock) -> None:
    """A str where a Token belongs is a mistake that names both."""

    class Mistaken:
        async def fetch(self, request: TokenRequest) -> Token:
            return "a str"  # type: ignore[return-value]  # the mistake

    async with TokenCache(Mistaken(), clock=clock) as cache:
        with pytest.raises(TokenRefusedError, match="returned str, not an aio_authgrpc"):
            await cache.get()


async def test_a_refresh_has_an_end_whatever_the_source_does(clock: FakeClock) -> None:
    """A source that never answers is cut off by the refresh's own budget."""
    source = GatedSource(clock)
    async with TokenCache(source, clock=clock, refresh_timeout=0.0) as cache:
        with pytest.raises(TokenUnavailableError, match="0 s were not enough"):
            await cache.get()


async def test_a_source_that_raises_cancelled_error_has_failed(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """Nobody cancelled the refresh: the back-off holds, and nobody sees CancelledError."""
    waiting = asyncio.create_task(gated_cache.get())
    await source.asked()
    source.fail(asyncio.CancelledError())  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TokenUnavailableError, match="from inside"):
        await waiting
    with pytest.raises(TokenUnavailableError, match="from inside"):
        await gated_cache.get()
    assert len(source.requests) == 1


@pytest.mark.parametrize("kind", [OSError, KeyError])
async def test_an_error_that_is_its_own_cause_is_an_error(
    gated_cache: TokenCache, source: GatedSource, kind: type[Exception]
) -> None:
    """`raise error from error` makes a ring, which must not be walked for ever."""
    error = kind("ring")
    error.__cause__ = error
    waiting = asyncio.create_task(gated_cache.get())
    await source.asked()
    source.fail(error)
    with pytest.raises(AuthRpcError, match="ring"):
        await waiting
    error.__cause__ = None
