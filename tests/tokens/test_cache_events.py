"""The events that a cache emits, by callback and by iterator."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest

from aio_authgrpc import ConfigurationError
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError
from aio_authgrpc.events import (
    CallReplayed,
    RefreshFailed,
    RefreshStarted,
    RefreshSucceeded,
    StaleServed,
    TokenEvent,
    TokenRejected,
)
from aio_authgrpc.testing import FakeClock, ScriptedTokens
from aio_authgrpc.tokens import TokenCache

from .gated_source import settle
from .scripted_source import ScriptedSource


@pytest.fixture
def events(scripted_cache: TokenCache) -> list[TokenEvent]:
    """Give the events of the cache from now on."""
    heard: list[TokenEvent] = []
    scripted_cache.subscribe(heard.append)
    return heard


async def test_a_refresh_that_works_emits_its_start_and_its_success(
    scripted_cache: TokenCache, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """Its start, and then the token, its number and the seconds that it took."""
    began = clock.time()
    await scripted_cache.get()
    succeeded = RefreshSucceeded(
        audience="aud", at=began + 0.5, generation=1, expires_at=began + 3600.5, attempts=1, duration=0.5
    )
    assert events == [RefreshStarted(audience="aud", at=began), succeeded]


async def test_a_refresh_that_fails_emits_its_error(
    scripted_cache: TokenCache, scripted: ScriptedSource, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """The error, and when the next refresh may start; the status says the same."""
    scripted.outcomes = [TokenUnavailableError("down", retry_after=20.0)]
    began = clock.time()
    with pytest.raises(TokenUnavailableError):
        await scripted_cache.get()
    failed = events[1]
    assert isinstance(failed, RefreshFailed)
    assert failed.at == began + 0.5
    assert failed.attempts == 1
    assert failed.duration == 0.5
    assert failed.error.details() == "down"
    assert failed.next_attempt_at == began + 20.5
    assert scripted_cache.status().next_attempt_at == failed.next_attempt_at
    assert failed.error is not scripted_cache.status().last_error


async def test_a_slow_log_handler_makes_no_event_of_a_failure_late(
    scripted_cache: TokenCache, scripted: ScriptedSource, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """A reader who compares instants would see a refresh begin before the back-off is over."""

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            clock.advance(5)

    handler, logger = Slow(), logging.getLogger("aio_authgrpc")
    logger.addHandler(handler)
    scripted.outcomes = [TokenUnavailableError("down", retry_after=20.0)]
    try:
        with pytest.raises(TokenUnavailableError):
            await scripted_cache.get()
    finally:
        logger.removeHandler(handler)
    failed = events[1]
    assert isinstance(failed, RefreshFailed)
    assert failed.next_attempt_at == failed.at + 20
    assert failed.next_attempt_at == scripted_cache.status().next_attempt_at


async def test_attempts_are_counted_for_each_refresh(scripted: ScriptedSource, clock: FakeClock) -> None:
    """The generation counts the tokens."""
    heard: list[Any] = []
    async with TokenCache(scripted, clock=clock, attempts=3) as cache:
        cache.subscribe(heard.append)
        for _ in range(2):
            scripted.outcomes = [TokenUnavailableError("down", retry_after=0.0)] * 2
            cache.reject(await cache.get())
            clock.advance(3600)
    assert [event.attempts for event in heard if isinstance(event, RefreshSucceeded)] == [3, 3]
    assert [event.generation for event in heard if isinstance(event, RefreshSucceeded)] == [1, 2]


async def test_stale_served_is_emitted_once(
    scripted_cache: TokenCache, scripted: ScriptedSource, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """However often the stale token is served."""
    token = await scripted_cache.get()
    clock.advance(3600 - 100)
    events.clear()
    scripted.outcomes = [OSError("down")]
    served = StaleServed(audience="aud", at=clock.time(), expires_at=token.expires_at)
    assert [scripted_cache.current() for _ in range(3)] == [token] * 3
    assert events == [served]
    await settle()
    assert [type(event) for event in events] == [StaleServed, RefreshStarted, RefreshFailed]


async def test_a_rejection_is_emitted_once_with_the_challenge(
    scripted_cache: TokenCache, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """Secrets are cut out of the challenge: a careless server may repeat the token."""
    token = await scripted_cache.get()
    clock.advance(10)
    events.clear()
    challenge = 'Bearer error="invalid_token", token=ya29.secret'
    assert scripted_cache.reject(
        token, challenge=f"{challenge} eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"
    )
    assert scripted_cache.reject(token)
    told = TokenRejected(
        audience="aud",
        at=clock.time(),
        taken_back=True,
        challenge='Bearer error="invalid_token", token=[redacted] [redacted]',
    )
    assert events == [told]


@pytest.mark.parametrize(
    ("age", "challenge"), [(9.9, ""), (100.0, 'Bearer error="insufficient_scope"')], ids=["young", "scope"]
)
async def test_a_refusal_that_is_meant_is_emitted_once_and_the_token_stays(
    scripted_cache: TokenCache, clock: FakeClock, events: list[TokenEvent], age: float, challenge: str
) -> None:
    """The token is younger than 10 s, or its scope is insufficient (RFC 6750, section 3.1)."""
    token = await scripted_cache.get()
    clock.advance(age)
    events.clear()
    assert [scripted_cache.reject(token, challenge=challenge) for _ in range(2)] == [False, False]
    assert events == [TokenRejected(audience="aud", at=clock.time(), taken_back=False, challenge=challenge)]
    assert scripted_cache.current() is token


async def test_a_replay_is_emitted(
    scripted_cache: TokenCache, clock: FakeClock, events: list[TokenEvent]
) -> None:
    """The call that is sent again says so."""
    scripted_cache.say_replayed()
    assert events == [CallReplayed(audience="aud", at=clock.time())]


async def test_a_callback_is_not_called_after_its_subscription_has_ended(
    scripted_cache: TokenCache, events: list[TokenEvent]
) -> None:
    """Other callbacks are; ending it twice does nothing."""
    heard: list[TokenEvent] = []
    end = scripted_cache.subscribe(heard.append)
    end()
    end()
    await scripted_cache.get()
    assert heard == []
    assert len(events) == 2


async def test_a_callback_that_raises_harms_neither_the_refresh_nor_others(
    scripted_cache: TokenCache,
) -> None:
    """The loop's exception handler gets its exception."""
    told: list[Any] = []
    heard: list[TokenEvent] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    scripted_cache.subscribe(lambda _: 1 / 0)
    scripted_cache.subscribe(heard.append)
    assert (await scripted_cache.get()).value == "t1"
    assert [type(error) for error in told] == [ZeroDivisionError] * 2
    assert len(heard) == 2
    assert scripted_cache.status().generation == 1


async def test_events_are_iterated_until_the_cache_is_closed(scripted_cache: TokenCache) -> None:
    """Unread events are read after the end."""
    async with scripted_cache.events() as events:
        await scripted_cache.get()
        await scripted_cache.aclose()
        assert [type(event) async for event in events] == [RefreshStarted, RefreshSucceeded]


async def test_an_iterator_waits_for_the_next_event(scripted_cache: TokenCache) -> None:
    """It ends with its block."""
    async with scripted_cache.events() as events:
        waiting = asyncio.ensure_future(anext(events))
        await settle()
        assert not waiting.done()
        scripted_cache.say_replayed()
        assert isinstance(await waiting, CallReplayed)
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_reader_that_was_closed_is_forgotten(scripted_cache: TokenCache) -> None:
    """A health check that opens one each time would fill the memory with the cache's events."""
    async with scripted_cache.events() as events:
        reader = weakref.ref(events)
    del events
    gc.collect()
    assert reader() is None


async def test_one_function_may_subscribe_twice(scripted_cache: TokenCache) -> None:
    """Two channels may share a cache and a callback; the end of one of them leaves the other's."""
    heard: list[TokenEvent] = []
    first, _ = (scripted_cache.subscribe(heard.append) for _ in range(2))
    first()
    first()
    scripted_cache.say_replayed()
    assert len(heard) == 1


async def test_after_the_end_no_callback_is_called(scripted_cache: TokenCache) -> None:
    """The cache may live on in a call that was begun before."""
    heard: list[TokenEvent] = []
    scripted_cache.subscribe(heard.append)
    await scripted_cache.aclose()
    scripted_cache.say_replayed()
    assert heard == []


async def test_events_of_a_closed_cache_end_at_once(scripted_cache: TokenCache) -> None:
    """A reader that comes late waits for nothing."""
    await scripted_cache.aclose()
    assert [event async for event in scripted_cache.events()] == []


async def test_a_slow_reader_loses_the_oldest(scripted_cache: TokenCache, clock: FakeClock) -> None:
    """A stream keeps 1000 unread events."""
    async with scripted_cache.events() as events:
        start = clock.time()
        for _ in range(1_001):
            scripted_cache.say_replayed()
            clock.advance(1)
        await scripted_cache.aclose()
        times = [event.at async for event in events]
    assert len(times) == 1_000
    assert times[0] == start + 1


async def test_a_coroutine_function_cannot_subscribe(scripted_cache: TokenCache) -> None:
    """It would never run."""

    async def listen(event: TokenEvent) -> None:
        pytest.fail("it ran")

    with pytest.raises(ConfigurationError, match="not a coroutine function"):
        scripted_cache.subscribe(listen)  # type: ignore[arg-type]  # the mistake


async def test_an_event_says_for_whom_the_token_is(clock: FakeClock) -> None:
    """The audience of the cache."""
    heard: list[TokenEvent] = []
    async with TokenCache(ScriptedTokens(), audience="https://a.example", clock=clock) as cache:
        cache.subscribe(heard.append)
        await cache.get()
    assert [event.audience for event in heard] == ["https://a.example"] * 2


async def test_a_log_record_has_fields(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """For handlers that write them."""
    tokens = ScriptedTokens()
    tokens.fail(KeyError("a bug"))
    async with TokenCache(tokens, audience="https://a.example", clock=clock) as cache:
        with pytest.raises(TokenRefusedError):
            await cache.get()
    (record,) = caplog.records
    fields = vars(record)
    assert fields["audience"] == "https://a.example"
    assert fields["outcome"] == "TokenRefusedError"
    assert fields["attempts"] == 1
