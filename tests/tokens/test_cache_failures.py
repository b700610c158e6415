"""A failed refresh: what callers get, how long the endpoint is left alone, which token is served on."""

from __future__ import annotations

import asyncio
import logging

import pytest

from aio_authgrpc import AuthRpcError, Token, TokenRequest
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache, TokenState

from .gated_source import GatedSource, failed, fill, settle


async def test_a_failed_refresh_raises_another_exception_in_each_waiting_caller(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """They have the same text and cause, and are different objects."""
    waiting = [asyncio.create_task(gated_cache.get()) for _ in range(3)]
    await source.asked()
    cause = ConnectionRefusedError("refused")
    source.fail(cause)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [TokenUnavailableError] * 3
    assert len({id(error) for error in errors}) == 3
    assert all(isinstance(error, BaseException) and error.__cause__ is cause for error in errors)


async def test_within_the_backoff_callers_get_the_recorded_error_at_once(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """The token endpoint is left alone, however many callers come."""
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
    """The next caller starts a refresh, and its success clears the status."""
    error = await failed(gated_cache, source, OSError("down"))
    clock.advance(1.0)
    assert (await fill(gated_cache, source)).value == "one"
    assert gated_cache.status().last_error is None
    assert gated_cache.status().next_attempt_at is None
    assert isinstance(error, TokenUnavailableError)


async def test_a_failed_refresh_leaves_a_usable_token_alone(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """It is served until it expires, and refreshes are spaced by the back-off."""
    token = await fill(gated_cache, source)
    clock.advance(3600 - 150)
    assert gated_cache.current() is token
    await source.asked()
    source.fail(OSError("down"))
    await settle()
    for _ in range(100):
        assert await gated_cache.get() is token
    await settle()
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
    """A longer back-off would fail calls although the endpoint had recovered while there was a token."""
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


async def test_an_expired_token_does_not_shorten_the_back_off(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """The endpoint is left alone for all of it."""
    await fill(gated_cache, source, lifetime=3)
    clock.advance(2.9)
    error = await failed(gated_cache, source, OSError("down"))
    assert isinstance(error, TokenUnavailableError)
    status = gated_cache.status()
    assert status.next_attempt_at is not None
    assert status.next_attempt_at - clock.time() > 0.1


async def test_failures_in_a_row_are_logged_once(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A token endpoint that is down for an hour does not fill the log; its recovery is logged too."""
    with caplog.at_level(logging.INFO, logger="aio_authgrpc"):
        for _ in range(3):
            error = await failed(gated_cache, source, OSError("down"))
            assert isinstance(error, TokenUnavailableError)
            clock.advance(60)
        await fill(gated_cache, source)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_the_status_says_when_the_next_refresh_may_start(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """In wall time, within the first back-off window of 1 s."""
    error = await failed(gated_cache, source, OSError("down"))
    status = gated_cache.status()
    assert isinstance(error, TokenUnavailableError)
    assert status.state is TokenState.EXPIRED
    assert status.generation == 0
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
async def test_any_error_of_a_source_becomes_an_rpc_error(
    gated_cache: TokenCache, source: GatedSource, error: Exception, kind: type[AuthRpcError]
) -> None:
    """A source is users' code and may raise anything."""
    waiting = asyncio.create_task(gated_cache.get())
    await source.asked()
    source.fail(error)
    with pytest.raises(kind):
        await waiting


async def test_a_source_that_returns_a_str_is_refused(clock: FakeClock) -> None:
    """The error names both types."""

    class Mistaken:
        async def fetch(self, request: TokenRequest) -> Token:
            return "a str"  # type: ignore[return-value]  # the mistake

    async with TokenCache(Mistaken(), clock=clock) as cache:
        with pytest.raises(TokenRefusedError, match="returned str, not an aio_authgrpc"):
            await cache.get()


async def test_a_source_that_never_answers_is_cut_off(clock: FakeClock) -> None:
    """By `refresh_timeout`, here one that is over at once."""
    source = GatedSource(clock)
    async with TokenCache(source, clock=clock, refresh_timeout=1e-9) as cache:
        with pytest.raises(TokenUnavailableError, match="no token within 1e-09 s"):
            await cache.get()


async def test_a_cancelled_error_of_the_source_is_a_failure(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """The refresh was not cancelled: callers see an RPC error, and the back-off holds."""
    waiting = asyncio.create_task(gated_cache.get())
    await source.asked()
    source.fail(asyncio.CancelledError())
    with pytest.raises(TokenUnavailableError, match="from inside"):
        await waiting
    with pytest.raises(TokenUnavailableError, match="from inside"):
        await gated_cache.get()
    assert len(source.requests) == 1


@pytest.mark.parametrize("kind", [OSError, KeyError])
async def test_an_error_that_is_its_own_cause_is_an_error(
    gated_cache: TokenCache, source: GatedSource, kind: type[Exception]
) -> None:
    """`raise error from error` makes a ring; following the causes must end."""
    error = kind("ring")
    error.__cause__ = error
    waiting = asyncio.create_task(gated_cache.get())
    await source.asked()
    source.fail(error)
    with pytest.raises(AuthRpcError, match="ring"):
        await waiting
    error.__cause__ = None
