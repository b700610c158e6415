"""A refresh without a cache: attempts, pauses, budget, back-off, what is recorded and what is emitted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aio_authgrpc import AiohttpRequest, AuthRpcError, ConfigurationError, Token, TokenRequest
from aio_authgrpc._tokens.events import EventBus
from aio_authgrpc._tokens.freshness import CachedToken
from aio_authgrpc._tokens.refresh import Refresher
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError
from aio_authgrpc.events import RefreshFailed, RefreshStarted, RefreshSucceeded, TokenEvent
from aio_authgrpc.testing import FakeClock, ScriptedTokens

from .gated_source import settle


class Longest(random.Random):
    """Draws the end of every interval."""

    def uniform(self, a: float, b: float) -> float:
        """Return the upper bound."""
        return b


@pytest.fixture
def tokens() -> ScriptedTokens:
    return ScriptedTokens()


@pytest.fixture
def events() -> list[TokenEvent]:
    return []


@pytest.fixture
async def make(tokens: ScriptedTokens, clock: FakeClock, events: list[TokenEvent]) -> AsyncIterator[Any]:
    bus = EventBus()
    bus.subscribe(events.append)
    async with AiohttpRequest() as http:

        def make(source: Any = tokens, **arguments: Any) -> Refresher:
            defaults: dict[str, Any] = {"attempts": 3, "refresh_timeout": 60.0, "rng": Longest()}
            shared: dict[str, Any] = {"audience": "aud", "http": http, "clock": clock, "events": bus}
            return Refresher(source, **shared, **(defaults | arguments))

        yield make


@pytest.fixture
async def refresher(make: Any) -> Refresher:
    made: Refresher = make()
    return made


async def fetched(refresher: Refresher, clock: FakeClock) -> tuple[CachedToken | AuthRpcError, list[float]]:
    """Return the outcome of a fetch, and the pauses that the clock was moved through."""
    fetching, pauses = asyncio.ensure_future(refresher.fetch()), list[float]()
    await settle()
    while not fetching.done():
        assert clock.next_wake_up is not None
        pauses.append(clock.next_wake_up)
        clock.advance(clock.next_wake_up)
        await settle()
    return fetching.result(), pauses


# One fetch


async def test_a_fetch_returns_the_sources_token(refresher: Refresher, tokens: ScriptedTokens) -> None:
    """The source is told the audience and the time."""
    outcome = await refresher.fetch()
    assert isinstance(outcome, CachedToken)
    assert outcome.token.value == "token-1"
    assert tokens.requests[0].audience == "aud"
    assert tokens.requests[0].unwanted is None


async def test_a_retryable_failure_is_tried_again_after_a_pause(
    refresher: Refresher, tokens: ScriptedTokens, clock: FakeClock
) -> None:
    """The pauses double from 0.2 s at most."""
    tokens.fail(OSError("down"), times=2)
    outcome, pauses = await fetched(refresher, clock)
    assert isinstance(outcome, CachedToken)
    assert pauses == pytest.approx([0.2, 0.4])


async def test_the_last_attempts_failure_is_the_outcome(
    refresher: Refresher, tokens: ScriptedTokens, clock: FakeClock
) -> None:
    """Three attempts, two pauses."""
    tokens.fail(OSError("down"), times=None)
    outcome, pauses = await fetched(refresher, clock)
    assert isinstance(outcome, TokenUnavailableError)
    assert tokens.fetches == 3
    assert len(pauses) == 2


async def test_a_refusal_is_not_tried_again(refresher: Refresher, tokens: ScriptedTokens) -> None:
    """The same request would be refused again."""
    tokens.fail(TokenRefusedError("no"))
    assert isinstance(await refresher.fetch(), TokenRefusedError)
    assert tokens.fetches == 1


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        pytest.param(0.0, [], id="at-once"),
        pytest.param(5.0, [5.0], id="the-longest-pause"),
    ],
)
async def test_a_short_retry_after_is_the_pause(
    refresher: Refresher, tokens: ScriptedTokens, clock: FakeClock, retry_after: float, expected: list[float]
) -> None:
    """It replaces the jittered pause."""
    tokens.fail(TokenUnavailableError("busy", retry_after=retry_after))
    outcome, pauses = await fetched(refresher, clock)
    assert isinstance(outcome, CachedToken)
    assert pauses == pytest.approx(expected)


async def test_a_retry_after_above_five_seconds_is_not_waited_for(
    refresher: Refresher, tokens: ScriptedTokens
) -> None:
    """Callers wait for the outcome: the back-off takes the rest."""
    tokens.fail(TokenUnavailableError("busy", retry_after=5.1))
    outcome = await refresher.fetch()
    assert isinstance(outcome, TokenUnavailableError)
    assert outcome.retry_after == 5.1
    assert tokens.fetches == 1


async def test_a_source_that_never_answers_is_cut_off(make: Any, tokens: ScriptedTokens) -> None:
    """The budget of the refresh ends it."""
    with tokens.hold():
        outcome = await make(refresh_timeout=1e-9).fetch()
    assert isinstance(outcome, TokenUnavailableError)
    assert "no token within 1e-09 s" in outcome.details()


async def test_a_source_that_turns_the_cut_off_into_an_error_is_not_asked_again(make: Any) -> None:
    """The error is worth a retry, but the budget is spent."""

    class Converting:
        asked = 0

        async def fetch(self, request: TokenRequest) -> Token:
            self.asked += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise OSError("interrupted") from None
            return Token("never")

    source = Converting()
    outcome = await make(source, refresh_timeout=1e-9).fetch()
    assert isinstance(outcome, TokenUnavailableError)
    assert "no token within 1e-09 s" in outcome.details()
    assert source.asked == 1


async def test_a_cancelled_fetch_is_cancelled(refresher: Refresher, tokens: ScriptedTokens) -> None:
    """It has no outcome, and cancels the source's fetch."""
    with tokens.hold() as gate:
        fetching = asyncio.create_task(refresher.fetch())
        await gate.arrived.wait()
        fetching.cancel()
        await asyncio.wait({fetching})
        assert gate.waiting == 0
    assert fetching.cancelled()


async def test_a_cancellation_that_escapes_from_the_source_is_a_failure(make: Any) -> None:
    """The fetch itself was not cancelled."""

    class Cancelled:
        async def fetch(self, request: TokenRequest) -> Token:
            raise asyncio.CancelledError

    outcome = await make(Cancelled()).fetch()
    assert isinstance(outcome, TokenUnavailableError)
    assert "from inside" in outcome.details()


async def test_a_token_that_comes_expired_is_a_failure(refresher: Refresher, tokens: ScriptedTokens) -> None:
    """The hint says to compare the clocks."""
    tokens.lifetime = -5
    outcome = await refresher.fetch()
    assert isinstance(outcome, TokenUnavailableError)
    assert "clock" in outcome.hint


# What is recorded


async def test_a_success_is_recorded(refresher: Refresher, tokens: ScriptedTokens) -> None:
    """The next refresh names the token as the one to replace, and begins a second later at the earliest."""
    outcome = await refresher.fetch()
    assert isinstance(outcome, CachedToken)
    assert refresher.generation == 0
    refresher.record_success(outcome)
    assert refresher.generation == 1
    assert refresher.token_request().unwanted is outcome.token
    assert refresher.next_attempt_in() == 1.0


async def test_a_fetch_soon_after_a_success_waits(
    refresher: Refresher, tokens: ScriptedTokens, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """Until a second after it, and so does its start: the endpoint whose tokens end at once is left alone."""
    outcome = await refresher.fetch()
    assert isinstance(outcome, CachedToken)
    refresher.record_success(outcome)
    clock.advance(0.25)
    again, pauses = await fetched(refresher, clock)
    assert isinstance(again, CachedToken)
    assert pauses == [0.75]
    assert [event.at for event in events if isinstance(event, RefreshStarted)][1] == clock.time()


async def test_a_closed_refresher_asks_no_more(
    refresher: Refresher, tokens: ScriptedTokens, clock: FakeClock
) -> None:
    """The attempt under way is the last, whatever its outcome."""
    tokens.fail(OSError("down"), times=None)
    with tokens.hold() as gate:
        fetching = asyncio.ensure_future(refresher.fetch())
        await gate.arrived.wait()
        refresher.close()
    await settle()
    assert fetching.done()
    assert isinstance(fetching.result(), TokenUnavailableError)
    assert tokens.fetches == 1


async def test_a_failure_begins_a_backoff(refresher: Refresher, clock: FakeClock) -> None:
    """Up to 1 s after the first, and callers get a copy of the failure meanwhile."""
    error = TokenUnavailableError("down")
    refresher.record_failure(error, served=None)
    assert refresher.last_error is error
    assert refresher.next_attempt_in() == pytest.approx(1.0)
    with pytest.raises(TokenUnavailableError, match="down") as caught:
        refresher.check_backoff()
    assert caught.value is not error
    clock.advance(1.0)
    refresher.check_backoff()
    assert refresher.last_error is error


async def test_the_backoff_grows_with_the_failures_in_a_row(refresher: Refresher) -> None:
    """A success begins a new row."""
    delays = []
    for outcome in ("failure", "failure", "success", "failure"):
        if outcome == "success":
            fetched = await refresher.fetch()
            assert isinstance(fetched, CachedToken)
            refresher.record_success(fetched)
        else:
            refresher.record_failure(TokenUnavailableError("down"), served=None)
        delays.append(max(0.0, refresher.next_attempt_in()))
    assert delays == pytest.approx([1.0, 1.6, 1.0, 1.0])


async def test_the_backoff_is_at_least_the_retry_after(refresher: Refresher) -> None:
    """The token endpoint asked for it."""
    refresher.record_failure(TokenUnavailableError("busy", retry_after=100.0), served=None)
    assert refresher.next_attempt_in() == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("lifetime", "delay"),
    [
        pytest.param(3600.0, 1.0, id="a-token-that-outlives-it"),
        pytest.param(0.5, 0.475, id="a-token-that-ends-within-it"),
    ],
)
async def test_the_backoff_ends_with_the_token_that_is_served(
    refresher: Refresher, clock: FakeClock, lifetime: float, delay: float
) -> None:
    """The first call after the token's end may ask."""
    served = CachedToken(Token("t", expires_at=clock.time() + lifetime), clock=clock, jitter=0.0)
    refresher.record_failure(TokenUnavailableError("down"), served=served)
    assert refresher.next_attempt_in() == pytest.approx(delay, abs=1e-6)


async def test_a_refresh_is_due_when_the_token_is_stale_and_the_backoff_over(
    refresher: Refresher, clock: FakeClock
) -> None:
    """Without a token it is due now."""
    served = CachedToken(Token("t", expires_at=clock.time() + 3600), clock=clock, jitter=0.0)
    assert refresher.due_in(None) <= 0
    assert refresher.due_in(served) == pytest.approx(3375.0)
    refresher.record_failure(TokenUnavailableError("down", retry_after=20.0), served=None)
    assert refresher.due_in(None) == pytest.approx(20.0)


# What is emitted


async def test_a_refresh_emits_its_start_and_its_success(
    refresher: Refresher, tokens: ScriptedTokens, events: list[TokenEvent], clock: FakeClock
) -> None:
    """The success counts the attempts and the seconds of this refresh."""
    began = clock.time()
    tokens.fail(TokenUnavailableError("busy", retry_after=2.0))
    outcome, _ = await fetched(refresher, clock)
    assert events == [RefreshStarted(at=began)]
    assert isinstance(outcome, CachedToken)
    refresher.record_success(outcome)
    assert events[1] == RefreshSucceeded(
        at=began + 2.0, generation=1, expires_at=began + 3602.0, attempts=2, duration=2.0
    )


async def test_a_failed_refresh_emits_a_copy_of_its_error(
    refresher: Refresher, tokens: ScriptedTokens, events: list[TokenEvent], clock: FakeClock
) -> None:
    """A listener cannot change what callers get."""
    tokens.fail(TokenRefusedError("no"))
    outcome = await refresher.fetch()
    assert isinstance(outcome, TokenRefusedError)
    refresher.record_failure(outcome, served=None)
    failed = events[1]
    assert isinstance(failed, RefreshFailed)
    assert failed.error.details() == "no"
    assert failed.error is not outcome
    assert failed.attempts == 1
    assert failed.next_attempt_at == pytest.approx(clock.time() + 1.0)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"refresh_timeout": 0}, "refresh_timeout"),
        ({"refresh_timeout": float("nan")}, "refresh_timeout"),
    ],
)
async def test_a_limit_that_is_not_positive_is_refused(
    make: Any, arguments: dict[str, Any], field: str
) -> None:
    """The error names the argument."""
    with pytest.raises(ConfigurationError) as caught:
        make(**arguments)
    assert caught.value.field == field
