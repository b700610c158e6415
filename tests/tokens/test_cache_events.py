"""The events that a cache emits, its status, and its arguments."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from typing import Any

import pytest

from aio_authgrpc import AiohttpRequest, ConfigurationError, Token, TokenRequest
from aio_authgrpc._tokens.events import (
    CallReplayed,
    RefreshFailed,
    RefreshStarted,
    RefreshSucceeded,
    StaleServed,
    TokenEvent,
    TokenRejected,
)
from aio_authgrpc.errors import ChannelClosedError, TokenUnavailableError
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache, TokenState, TokenStatus


class Scripted:
    """A source of tokens with these lifetimes, or of these errors; each fetch takes 0.5 s of the clock."""

    def __init__(self, clock: FakeClock) -> None:
        self.outcomes: list[float | Exception] = []
        self.requests: list[TokenRequest] = []
        self._clock = clock

    async def fetch(self, request: TokenRequest) -> Token:
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if self.outcomes else 3600.0
        self._clock.advance(0.5)
        if isinstance(outcome, Exception):
            raise outcome
        return Token(f"t{len(self.requests)}", expires_at=self._clock.time() + outcome)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source(clock: FakeClock) -> Scripted:
    return Scripted(clock)


@pytest.fixture
async def cache(clock: FakeClock, source: Scripted):  # type: ignore[no-untyped-def]  # a fixture
    async with TokenCache(source, audience="aud", clock=clock, rng=random.Random(3), attempts=1) as cache:
        yield cache


@pytest.fixture
def events(cache: TokenCache) -> list[TokenEvent]:
    heard: list[TokenEvent] = []
    cache.subscribe(heard.append)
    return heard


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_refresh_that_works_emits_its_start_and_its_success(
    cache: TokenCache, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """Its start, and then the token, its number and the seconds that it took."""
    began = clock.time()
    await cache.get()
    succeeded = RefreshSucceeded(
        at=began + 0.5, generation=1, expires_at=began + 3600.5, attempts=1, duration=0.5
    )
    assert events == [RefreshStarted(at=began), succeeded]


async def test_a_refresh_that_fails_emits_its_error(
    cache: TokenCache, source: Scripted, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """The error, and when the next refresh may start; the status says the same."""
    source.outcomes = [TokenUnavailableError("down", retry_after=20.0)]
    began = clock.time()
    with pytest.raises(TokenUnavailableError):
        await cache.get()
    failed = events[1]
    assert isinstance(failed, RefreshFailed)
    assert failed.at == began + 0.5
    assert failed.attempts == 1
    assert failed.duration == 0.5
    assert failed.error.message == "down"
    assert failed.next_attempt_at == began + 20.5
    assert cache.status().next_attempt_at == failed.next_attempt_at
    assert failed.error is not cache.status().last_error


async def test_attempts_are_counted_for_each_refresh(source: Scripted, clock: FakeClock) -> None:
    """The generation counts the tokens."""
    heard: list[Any] = []
    async with TokenCache(source, clock=clock, attempts=3) as cache:
        cache.subscribe(heard.append)
        for _ in range(2):
            source.outcomes = [TokenUnavailableError("down", retry_after=0.0)] * 2
            cache.reject(await cache.get())
            clock.advance(3600)
    assert [event.attempts for event in heard if isinstance(event, RefreshSucceeded)] == [3, 3]
    assert [event.generation for event in heard if isinstance(event, RefreshSucceeded)] == [1, 2]


async def test_stale_served_is_emitted_once(
    cache: TokenCache, source: Scripted, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """However often the stale token is served."""
    token = await cache.get()
    clock.advance(3600 - 100)
    events.clear()
    source.outcomes = [OSError("down")]
    served = StaleServed(at=clock.time(), expires_at=token.expires_at)
    assert [cache.current() for _ in range(3)] == [token] * 3
    assert events == [served]
    await settle()
    assert [type(event) for event in events] == [StaleServed, RefreshStarted, RefreshFailed]


async def test_a_rejection_is_emitted_once_with_the_challenge(
    cache: TokenCache, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """Secrets are cut out of the challenge: a careless server may repeat the token."""
    token = await cache.get()
    clock.advance(10)
    events.clear()
    challenge = 'Bearer error="invalid_token", token=ya29.secret'
    assert cache.reject(token, challenge=f"{challenge} eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl")
    assert cache.reject(token)
    told = TokenRejected(
        at=clock.time(),
        taken_back=True,
        challenge='Bearer error="invalid_token", token=[redacted] [redacted]',
    )
    assert events == [told]


@pytest.mark.parametrize(
    ("age", "challenge"), [(9.9, ""), (100.0, 'Bearer error="insufficient_scope"')], ids=["young", "scope"]
)
async def test_a_refusal_that_is_meant_is_emitted_once_and_the_token_stays(
    cache: TokenCache, clock: FakeClock, events: list[TokenEvent], age: float, challenge: str
) -> None:
    """The token is younger than 10 s, or its scope is insufficient (RFC 6750, section 3.1)."""
    token = await cache.get()
    clock.advance(age)
    events.clear()
    assert [cache.reject(token, challenge=challenge) for _ in range(2)] == [False, False]
    assert events == [TokenRejected(at=clock.time(), taken_back=False, challenge=challenge)]
    assert cache.current() is token


async def test_a_replay_is_emitted(cache: TokenCache, clock: FakeClock, events: list[TokenEvent]) -> None:
    """The call that is sent again says so."""
    cache.say_replayed()
    assert events == [CallReplayed(at=clock.time())]


async def test_a_callback_is_not_called_after_its_subscription_has_ended(
    cache: TokenCache, events: list[TokenEvent]
) -> None:
    """Other callbacks are; ending it twice does nothing."""
    heard: list[TokenEvent] = []
    end = cache.subscribe(heard.append)
    end()
    end()
    await cache.get()
    assert heard == []
    assert len(events) == 2


async def test_a_callback_that_raises_harms_neither_the_refresh_nor_others(cache: TokenCache) -> None:
    """The loop's exception handler gets its exception."""
    told: list[Any] = []
    heard: list[TokenEvent] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    cache.subscribe(lambda _: 1 / 0)
    cache.subscribe(heard.append)
    assert (await cache.get()).value == "t1"
    assert [type(error) for error in told] == [ZeroDivisionError] * 2
    assert len(heard) == 2
    assert cache.status().generation == 1


async def test_events_are_iterated_until_the_cache_is_closed(cache: TokenCache) -> None:
    """Unread events are read after the end."""
    async with cache.events() as events:
        await cache.get()
        await cache.aclose()
        assert [type(event) async for event in events] == [RefreshStarted, RefreshSucceeded]


async def test_an_iterator_waits_for_the_next_event(cache: TokenCache) -> None:
    """It ends with its block."""
    async with cache.events() as events:
        waiting = asyncio.ensure_future(anext(events))
        await settle()
        assert not waiting.done()
        cache.say_replayed()
        assert isinstance(await waiting, CallReplayed)
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_slow_reader_loses_the_oldest(cache: TokenCache, clock: FakeClock) -> None:
    """A stream keeps 1000 unread events."""
    async with cache.events() as events:
        start = clock.time()
        for _ in range(1_001):
            cache.say_replayed()
            clock.advance(1)
        await cache.aclose()
        times = [event.at async for event in events]
    assert len(times) == 1_000
    assert times[0] == start + 1


# Status


async def test_the_status_of_a_new_cache_says_that_there_is_nothing(cache: TokenCache) -> None:
    """It has no token and no error, and a refresh may start at once."""
    status = cache.status()
    assert status == TokenStatus(
        state=TokenState.EXPIRED, expires_at=None, generation=0, last_error=None, next_attempt_at=None
    )


async def test_the_status_shows_the_token_and_no_backoff_that_is_over(
    cache: TokenCache, source: Scripted, clock: FakeClock
) -> None:
    """The error stays until a refresh works."""
    source.outcomes = [TokenUnavailableError("down", retry_after=20.0)]
    await asyncio.gather(cache.get(), return_exceptions=True)
    clock.advance(21)
    assert cache.status().next_attempt_at is None
    assert cache.status().last_error is not None
    token = await cache.get()
    assert cache.status() == TokenStatus(
        state=TokenState.FRESH,
        expires_at=token.expires_at,
        generation=1,
        last_error=None,
        next_attempt_at=None,
    )


class Longest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


class Shortest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return a


async def test_the_backoff_may_be_zero(source: Scripted, clock: FakeClock) -> None:
    """Full jitter begins at zero."""
    source.outcomes = [OSError("down")]
    async with TokenCache(source, clock=clock, rng=Shortest(), attempts=1) as cache:
        await asyncio.gather(cache.get(), return_exceptions=True)
        assert cache.status().next_attempt_at is None
        assert (await cache.get()).value == "t2"


async def test_failures_are_counted_in_a_row(source: Scripted, clock: FakeClock) -> None:
    """The windows grow, and a success begins a new row."""
    delays = []
    async with TokenCache(source, clock=clock, rng=Longest(), attempts=1) as cache:
        for outcome in (OSError("a"), OSError("b"), 3600.0, OSError("c"), OSError("d")):
            source.outcomes = [outcome]
            await asyncio.gather(cache.get(), return_exceptions=True)
            delays.append((cache.status().next_attempt_at or clock.time()) - clock.time())
            clock.advance(4000)
    assert delays == pytest.approx([1.0, 1.6, 0.0, 1.0, 1.6])


async def test_each_row_of_failures_is_logged_once(
    cache: TokenCache, source: Scripted, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The first failure of each, and the success that ends it, with the number of failures."""
    source.outcomes = [OSError("a"), OSError("b"), 3600.0, OSError("c"), 3600.0]
    with caplog.at_level(logging.INFO, logger="aio_authgrpc"):
        for _ in range(5):
            await asyncio.gather(cache.get(), return_exceptions=True)
            clock.advance(4000)
    texts = [record.getMessage() for record in caplog.records]
    expected = ["OSError: a", "2 failed", "OSError: c", "1 failed"]
    for part, text in zip(expected, texts, strict=True):
        assert part in text


async def test_keep_warm_sleeps_through_the_backoff(source: Scripted, clock: FakeClock) -> None:
    """The timer leaves the endpoint alone, too; it sleeps 60 s at most at a time."""
    source.outcomes = [TokenUnavailableError("down", retry_after=20.0), 3600.0]
    rng = Shortest()
    async with TokenCache(source, clock=clock, keep_warm=True, rng=rng, attempts=1) as cache:
        await cache.load()
        await clock.wait_for_sleepers()
        assert len(source.requests) == 1
        assert clock.next_wake_up == pytest.approx(20.0)
        clock.advance(20.0)
        await clock.wait_for_sleepers()
        assert len(source.requests) == 2
        assert clock.next_wake_up == pytest.approx(60.0)


# Its arguments


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"source": "a str"}, "source"),
        ({"audience": None}, "audience"),
        ({"request": "a str"}, "request"),
        ({"refresh_timeout": "soon"}, "refresh_timeout"),
        ({"refresh_timeout": 0}, "refresh_timeout"),
        ({"refresh_timeout": float("nan")}, "refresh_timeout"),
        ({"close_timeout": "soon"}, "close_timeout"),
        ({"close_timeout": 0.0}, "close_timeout"),
        ({"close_timeout": float("inf")}, "close_timeout"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": 1.0}, "attempts"),
    ],
)
def test_a_mistaken_argument_is_named(source: Scripted, arguments: dict[str, Any], field: str) -> None:
    """The constructor raises."""
    with pytest.raises(ConfigurationError) as caught:
        TokenCache(**({"source": source} | arguments))
    assert caught.value.field == field


def test_the_defaults_are_what_the_pages_say() -> None:
    """Three attempts in a minute, and 2 s for a cancelled refresh to end."""
    parameters = inspect.signature(TokenCache).parameters
    defaults = {name: parameters[name].default for name in ("attempts", "refresh_timeout", "close_timeout")}
    assert defaults == {"attempts": 3, "refresh_timeout": 60.0, "close_timeout": 2.0}


async def test_a_fresh_token_costs_one_look_at_one_clock(source: Scripted) -> None:
    """The other clock is read every 5 s, or after the wall clock was set back."""

    class Counting(FakeClock):
        looks = 0

        def monotonic(self) -> float:
            self.looks += 1
            return super().monotonic()

    clock = source._clock = Counting()
    async with TokenCache(source, clock=clock) as cache:
        await cache.get()
        looks = []
        for jump in (0.0, 4.9, 0.1, 4.9, -5.0, 0.0):
            before = clock.looks
            clock.jump(jump)
            assert cache.current() is not None
            looks.append(clock.looks - before)
    assert looks == [0, 0, 1, 0, 1, 0]


async def test_another_source_gets_a_cache_with_the_same_transport_clock_and_audience(
    source: Scripted, clock: FakeClock
) -> None:
    """Or with an audience of its own; closing it leaves the transport open."""
    other = Scripted(clock)
    async with AiohttpRequest() as http, TokenCache(source, audience="a", request=http, clock=clock) as cache:
        for audience, expected in ((None, "a"), ("b", "b")):
            async with cache.of_another(other, audience=audience) as another:
                await another.get()
                assert another.source is other
            asked = other.requests[-1]
            assert asked.http is http
            assert asked.audience == expected
            assert asked.time == clock.time() - 0.5
        assert http.session() is not None


async def test_a_transport_of_its_own_is_closed_with_the_cache(cache: TokenCache, source: Scripted) -> None:
    """The cache made it, so the cache closes it."""
    await cache.get()
    http = source.requests[0].http
    await cache.aclose()
    with pytest.raises(Exception, match="was closed"):
        http.session()


async def test_loading_lets_the_source_read_its_files(clock: FakeClock) -> None:
    """The source is told the audience, and is asked for no token."""

    class Loadable(Scripted):
        loaded: list[TokenRequest]

        async def load(self, request: TokenRequest) -> None:
            self.loaded = [request]

    source = Loadable(clock)
    async with TokenCache(source, audience="aud", clock=clock) as cache:
        await cache.load()
    assert [request.audience for request in source.loaded] == ["aud"]
    assert source.requests == []


async def test_a_closed_cache_hands_out_nothing_and_starts_nothing(
    cache: TokenCache, source: Scripted
) -> None:
    """`current()` returns None, and `load()` raises."""
    await cache.get()
    await cache.aclose()
    assert cache.current() is None
    with pytest.raises(ChannelClosedError):
        await cache.load()
    assert len(source.requests) == 1
