"""What the cache tells: typed events and its status; and what it refuses to be made of."""

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
from aio_authgrpc.tokens import TokenCache, TokenState


class Scripted:
    """A source that returns or raises what the test put in, one after the other."""

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


async def test_a_refresh_that_works_is_told(
    cache: TokenCache, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """When it began, and what it brought, how fast, and which token it is."""
    began = clock.time()
    await cache.get()
    succeeded = RefreshSucceeded(
        at=began + 0.5, generation=1, expires_at=began + 3600.5, attempts=1, duration=0.5
    )
    assert events == [RefreshStarted(at=began), succeeded]


async def test_a_refresh_that_fails_is_told(
    cache: TokenCache, source: Scripted, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """Why, and when the next one may be; the status says the same."""
    source.outcomes = [TokenUnavailableError("down", retry_after=20.0)]
    began = clock.time()
    with pytest.raises(TokenUnavailableError):
        await cache.get()
    failed = events[1]
    assert isinstance(failed, RefreshFailed)
    assert (failed.at, failed.attempts, failed.duration) == (began + 0.5, 1, 0.5)
    assert (failed.error.message, failed.next_attempt_at) == ("down", began + 20.5)
    assert cache.status().next_attempt_at == failed.next_attempt_at
    assert failed.error is not cache.status().last_error


async def test_attempts_are_told_with_the_outcome(source: Scripted, clock: FakeClock) -> None:
    """Of this refresh, not of all."""
    heard: list[Any] = []
    async with TokenCache(source, clock=clock, attempts=3) as cache:
        cache.subscribe(heard.append)
        for _ in range(2):
            source.outcomes = [TokenUnavailableError("down", retry_after=0.0)] * 2
            cache.reject(await cache.get())
            clock.advance(3600)
    assert [event.attempts for event in heard if isinstance(event, RefreshSucceeded)] == [3, 3]
    assert [event.generation for event in heard if isinstance(event, RefreshSucceeded)] == [1, 2]


async def test_a_stale_token_is_told_once(
    cache: TokenCache, source: Scripted, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """However often it is served."""
    token = await cache.get()
    clock.advance(3600 - 100)
    events.clear()
    source.outcomes = [OSError("down")]
    served = StaleServed(at=clock.time(), expires_at=token.expires_at)
    assert [cache.current() for _ in range(3)] == [token] * 3
    assert events == [served]
    await settle()
    assert [type(event) for event in events] == [StaleServed, RefreshStarted, RefreshFailed]


async def test_a_rejection_is_told_once_with_the_challenge(
    cache: TokenCache, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """And without what in it looks like a secret."""
    token = await cache.get()
    clock.advance(10)
    events.clear()
    assert cache.reject(token, challenge='Bearer error="invalid_token", token=ya29.secret')
    assert cache.reject(token)
    told = TokenRejected(
        at=clock.time(), taken_back=True, challenge='Bearer error="invalid_token", token=[redacted]'
    )
    assert events == [told]


@pytest.mark.parametrize(
    ("age", "challenge"), [(9.9, ""), (100.0, 'Bearer error="insufficient_scope"')], ids=["young", "scope"]
)
async def test_a_refusal_that_is_meant_is_told_once_and_the_token_stays(
    cache: TokenCache, clock: FakeClock, events: list[TokenEvent], age: float, challenge: str
) -> None:
    """A token that is seconds old, and one that is good for less than was asked (RFC 6750, 3.1)."""
    token = await cache.get()
    clock.advance(age)
    events.clear()
    assert [cache.reject(token, challenge=challenge) for _ in range(2)] == [False, False]
    assert events == [TokenRejected(at=clock.time(), taken_back=False, challenge=challenge)]
    assert cache.current() is token


async def test_a_replay_is_told(cache: TokenCache, clock: FakeClock, events: list[TokenEvent]) -> None:
    """By the call that is sent again."""
    cache.say_replayed()
    assert events == [CallReplayed(at=clock.time())]


async def test_whoever_has_ended_their_subscription_hears_nothing(
    cache: TokenCache, events: list[TokenEvent]
) -> None:
    """Others do; to end it twice does nothing."""
    heard: list[TokenEvent] = []
    end = cache.subscribe(heard.append)
    end()
    end()
    await cache.get()
    assert (heard, len(events)) == ([], 2)


async def test_a_callback_that_raises_harms_neither_the_refresh_nor_others(cache: TokenCache) -> None:
    """The loop's handler gets what it raised."""
    told: list[Any] = []
    heard: list[TokenEvent] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    cache.subscribe(lambda _: 1 / 0)
    cache.subscribe(heard.append)
    assert (await cache.get()).value == "t1"
    assert ([type(error) for error in told], len(heard)) == ([ZeroDivisionError] * 2, 2)


async def test_events_are_iterated_until_the_cache_is_closed(cache: TokenCache) -> None:
    """Those that came before its end are read after it."""
    async with cache.events() as events:
        await cache.get()
        await cache.aclose()
        assert [type(event) async for event in events] == [RefreshStarted, RefreshSucceeded]


async def test_an_iterator_waits_for_the_next_event(cache: TokenCache) -> None:
    """And ends with its block."""
    async with cache.events() as events:
        waiting = asyncio.ensure_future(anext(events))
        await settle()
        assert not waiting.done()
        cache.say_replayed()
        assert isinstance(await waiting, CallReplayed)
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_slow_reader_loses_the_oldest(cache: TokenCache, clock: FakeClock) -> None:
    """A thousand wait at most."""
    async with cache.events() as events:
        start = clock.time()
        for _ in range(1_001):
            cache.say_replayed()
            clock.advance(1)
        await cache.aclose()
        times = [event.at async for event in events]
    assert (len(times), times[0]) == (1_000, start + 1)


# Status


async def test_the_status_of_a_new_cache_says_that_there_is_nothing(cache: TokenCache) -> None:
    """No token, no error, and an attempt may be made at once."""
    status = cache.status()
    assert (status.state, status.generation, status.expires_at) == (TokenState.EXPIRED, 0, None)
    assert (status.last_error, status.next_attempt_at) == (None, None)


async def test_the_status_tells_the_token_and_forgets_a_backoff_that_is_over(
    cache: TokenCache, source: Scripted, clock: FakeClock
) -> None:
    """The error stays until a refresh works."""
    source.outcomes = [TokenUnavailableError("down", retry_after=20.0)]
    await asyncio.gather(cache.get(), return_exceptions=True)
    clock.advance(21)
    assert (cache.status().next_attempt_at, cache.status().last_error is None) == (None, False)
    token = await cache.get()
    status = cache.status()
    assert (status.state, status.generation, status.expires_at) == (TokenState.FRESH, 1, token.expires_at)
    assert (status.last_error, status.next_attempt_at) == (None, None)


class Longest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


class Shortest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return a


async def test_the_backoff_may_be_no_wait_at_all(source: Scripted, clock: FakeClock) -> None:
    """Full jitter: from zero."""
    source.outcomes = [OSError("down")]
    async with TokenCache(source, clock=clock, rng=Shortest(), attempts=1) as cache:
        await asyncio.gather(cache.get(), return_exceptions=True)
        assert cache.status().next_attempt_at is None
        assert (await cache.get()).value == "t2"


async def test_failures_are_counted_in_a_row(source: Scripted, clock: FakeClock) -> None:
    """The windows grow, and a success begins anew."""
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
    """The first of each, and the success that ends it, with how many there were."""
    source.outcomes = [OSError("a"), OSError("b"), 3600.0, OSError("c"), 3600.0]
    with caplog.at_level(logging.INFO, logger="aio_authgrpc"):
        for _ in range(5):
            await asyncio.gather(cache.get(), return_exceptions=True)
            clock.advance(4000)
    texts = [record.getMessage() for record in caplog.records]
    expected = ["OSError: a", "2 failed", "OSError: c", "1 failed"]
    assert [part in text for part, text in zip(expected, texts, strict=True)] == [True] * 4


async def test_keep_warm_sleeps_through_the_backoff(source: Scripted, clock: FakeClock) -> None:
    """The endpoint is left alone by the timer, too; a minute at most is slept in one go."""
    source.outcomes = [TokenUnavailableError("down", retry_after=20.0), 3600.0]
    rng = Shortest()
    async with TokenCache(source, clock=clock, keep_warm=True, rng=rng, attempts=1) as cache:
        await cache.load()
        await clock.wait_for_sleepers()
        assert (len(source.requests), clock.next_wake_up) == (1, pytest.approx(20.0))
        clock.advance(20.0)
        await clock.wait_for_sleepers()
        assert (len(source.requests), clock.next_wake_up) == (2, pytest.approx(60.0))


# What it is made of


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"source": "a str"}, "source"),
        ({"audience": None}, "audience"),
        ({"request": "a str"}, "request"),
        ({"refresh_timeout": "soon"}, "refresh_timeout"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": 1.0}, "attempts"),
    ],
)
def test_a_mistaken_argument_is_named(source: Scripted, arguments: dict[str, Any], field: str) -> None:
    """At once."""
    with pytest.raises(ConfigurationError) as caught:
        TokenCache(**({"source": source} | arguments))
    assert caught.value.field == field


def test_the_defaults_are_what_the_pages_say() -> None:
    """Three attempts in a minute, and two seconds for a refresh that does not end."""
    parameters = inspect.signature(TokenCache).parameters
    defaults = {name: parameters[name].default for name in ("attempts", "refresh_timeout", "close_timeout")}
    assert defaults == {"attempts": 3, "refresh_timeout": 60.0, "close_timeout": 2.0}


async def test_a_fresh_token_costs_one_look_at_one_clock(source: Scripted) -> None:
    """The other is looked at every 5 s, or where the wall clock was set back."""

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
    """Or with an audience of its own; and it closes what it was given not at all."""
    other = Scripted(clock)
    async with AiohttpRequest() as http, TokenCache(source, audience="a", request=http, clock=clock) as cache:
        for audience, expected in ((None, "a"), ("b", "b")):
            async with cache.of_another(other, audience=audience) as another:
                await another.get()
                assert another.source is other
            asked = other.requests[-1]
            assert (asked.http is http, asked.audience, asked.time) == (True, expected, clock.time() - 0.5)
        assert http.session() is not None


async def test_a_transport_of_its_own_is_closed_with_the_cache(cache: TokenCache, source: Scripted) -> None:
    """Whoever made it closes it."""
    await cache.get()
    http = source.requests[0].http
    await cache.aclose()
    with pytest.raises(Exception, match="was closed"):
        http.session()


async def test_loading_lets_the_source_read_its_files(clock: FakeClock) -> None:
    """Once, with the request that a fetch gets; a source without files needs none."""

    class Loadable(Scripted):
        loaded: list[TokenRequest]

        async def load(self, request: TokenRequest) -> None:
            self.loaded = [request]

    source = Loadable(clock)
    async with TokenCache(source, audience="aud", clock=clock) as cache:
        await cache.load()
    assert ([request.audience for request in source.loaded], source.requests) == (["aud"], [])


async def test_a_closed_cache_hands_out_nothing_and_starts_nothing(
    cache: TokenCache, source: Scripted
) -> None:
    """Neither at once nor after a wait."""
    await cache.get()
    await cache.aclose()
    assert cache.current() is None
    with pytest.raises(ChannelClosedError):
        await cache.load()
    assert len(source.requests) == 1
