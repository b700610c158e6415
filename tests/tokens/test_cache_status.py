"""The status of a cache, its back-off, and what it logs."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from aio_authgrpc.errors import TokenUnavailableError
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache, TokenState, TokenStatus

from .scripted_source import ScriptedSource


async def test_the_status_of_a_new_cache_says_that_there_is_nothing(scripted_cache: TokenCache) -> None:
    """It has no token and no error, and a refresh may start at once."""
    status = scripted_cache.status()
    assert status == TokenStatus(
        state=TokenState.EXPIRED, expires_at=None, generation=0, last_error=None, next_attempt_at=None
    )


async def test_the_status_shows_the_token_and_no_backoff_that_is_over(
    scripted_cache: TokenCache, scripted: ScriptedSource, clock: FakeClock
) -> None:
    """The error stays until a refresh works."""
    scripted.outcomes = [TokenUnavailableError("down", retry_after=20.0)]
    await asyncio.gather(scripted_cache.get(), return_exceptions=True)
    clock.advance(21)
    assert scripted_cache.status().next_attempt_at is None
    assert scripted_cache.status().last_error is not None
    token = await scripted_cache.get()
    assert scripted_cache.status() == TokenStatus(
        state=TokenState.FRESH,
        expires_at=token.expires_at,
        generation=1,
        last_error=None,
        next_attempt_at=None,
    )


class Shortest(random.Random):
    """Draws the start of every interval."""

    def uniform(self, a: float, b: float) -> float:
        """Return the lower bound."""
        return a


async def test_the_backoff_may_be_zero(scripted: ScriptedSource, clock: FakeClock) -> None:
    """Full jitter begins at zero."""
    scripted.outcomes = [OSError("down")]
    async with TokenCache(scripted, clock=clock, rng=Shortest(), attempts=1) as cache:
        await asyncio.gather(cache.get(), return_exceptions=True)
        assert cache.status().next_attempt_at is None
        assert (await cache.get()).value == "t2"


async def test_each_row_of_failures_is_logged_once(
    scripted_cache: TokenCache, scripted: ScriptedSource, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The first failure of each, and the success that ends it, with the number of failures."""
    scripted.outcomes = [OSError("a"), OSError("b"), 3600.0, OSError("c"), 3600.0]
    with caplog.at_level(logging.INFO, logger="aio_authgrpc"):
        for _ in range(5):
            await asyncio.gather(scripted_cache.get(), return_exceptions=True)
            clock.advance(4000)
    texts = [record.getMessage() for record in caplog.records]
    expected = ["OSError: a", "2 failed", "OSError: c", "1 failed"]
    for part, text in zip(expected, texts, strict=True):
        assert part in text
