"""The token cache: three states, one refresh, back-off, rejection, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import grpc
import pytest

from aio_authgrpc import AuthRpcError, Token, TokenRequest
from aio_authgrpc._tokens.freshness import backoff_window, limits
from aio_authgrpc.errors import (
    ChannelClosedError,
    TokenDeadlineExceededError,
    TokenRefusedError,
    TokenUnavailableError,
    WrongEventLoopError,
)
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache, TokenState


class Source:
    """A source whose every fetch waits for the test: `await source.asked()`, then `source.answer(...)`."""

    def __init__(self, clock: FakeClock, lifetime: float | None = 3600.0) -> None:
        self.requests: list[TokenRequest] = []
        self._clock = clock
        self._lifetime = lifetime
        self._open: list[asyncio.Future[Token]] = []
        self._asked = asyncio.Event()

    async def fetch(self, request: TokenRequest) -> Token:
        self.requests.append(request)
        answer: asyncio.Future[Token] = asyncio.get_running_loop().create_future()
        self._open.append(answer)
        self._asked.set()
        return await answer

    async def asked(self) -> None:
        while not self._open:
            self._asked.clear()
            await self._asked.wait()

    def answer(self, value: str, lifetime: float | None = None) -> None:
        lifetime = self._lifetime if lifetime is None else lifetime
        expires_at = None if lifetime is None else self._clock.time() + lifetime
        self._open.pop(0).set_result(Token(value, expires_at=expires_at))

    def fail(self, error: Exception) -> None:
        self._open.pop(0).set_exception(error)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def source(clock: FakeClock) -> Source:
    return Source(clock)


@pytest.fixture
async def cache(clock: FakeClock, source: Source):  # type: ignore[no-untyped-def]  # a fixture
    async with TokenCache(
        source, audience="https://host", clock=clock, rng=random.Random(1), attempts=1
    ) as cache:
        yield cache


async def fill(cache: TokenCache, source: Source, value: str = "one", lifetime: float | None = None) -> Token:
    getting = asyncio.create_task(cache.get())
    await source.asked()
    source.answer(value, lifetime)
    return await getting


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


# The three states


@pytest.mark.parametrize(
    ("lifetime", "jitter", "stale_before_end", "expired_before_end"),
    [
        pytest.param(3600, 0.0, 225.0, 30.0, id="an-hour"),
        pytest.param(3600, 1.0, 168.75, 30.0, id="an-hour-with-all-the-jitter"),
        pytest.param(3600, 0.5, 196.875, 30.0, id="an-hour-with-half-the-jitter"),
        pytest.param(1125, 0.0, 225.0, 30.0, id="where-the-share-meets-the-window"),
        pytest.param(600, 0.0, 120.0, 30.0, id="ten-minutes"),
        pytest.param(60, 0.0, 12.0, 3.0, id="a-minute"),
        pytest.param(3, 0.0, 0.6, 0.15, id="three-seconds"),
    ],
)
def test_the_limits_follow_the_lifetime(
    lifetime: float, jitter: float, stale_before_end: float, expired_before_end: float
) -> None:
    """Long tokens get Google's window, short ones a share; jitter only makes it later."""
    stale_at, expired_at = limits(now=1_000.0, expires_at=1_000.0 + lifetime, jitter=jitter)
    assert stale_at == pytest.approx(1_000.0 + lifetime - stale_before_end)
    assert expired_at == pytest.approx(1_000.0 + lifetime - expired_before_end)


async def test_a_fresh_token_is_served_and_nothing_is_asked(cache: TokenCache, source: Source) -> None:
    """One request, however often the token is used."""
    token = await fill(cache, source)
    assert all([await cache.get() is token, cache.current() is token])
    assert len(source.requests) == 1
    assert cache.status().state is TokenState.FRESH


async def test_just_before_the_window_nothing_is_asked(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """The window begins 225 s before the end at the earliest."""
    token = await fill(cache, source)
    clock.advance(3600 - 225.1)
    assert cache.current() is token
    await settle()
    assert len(source.requests) == 1


async def test_a_stale_token_is_served_while_refreshing(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """Nobody waits, and the refresh runs once."""
    old = await fill(cache, source)
    clock.advance(3600 - 100)
    assert [cache.current() for _ in range(5)] == [old] * 5
    await source.asked()
    assert cache.status().state is TokenState.STALE
    source.answer("two")
    await settle()
    assert cache.current() is not old
    assert len(source.requests) == 2


async def test_an_expired_token_waits(cache: TokenCache, source: Source, clock: FakeClock) -> None:
    """The last 30 s are not served."""
    await fill(cache, source)
    clock.advance(3600 - 30)
    assert cache.current() is None
    assert (await fill(cache, source, "two")).value == "two"


async def test_a_token_without_an_expiry_stays_fresh(clock: FakeClock) -> None:
    """Until a server refuses it."""
    source = Source(clock, lifetime=None)
    async with TokenCache(source, clock=clock) as cache:
        token = await fill(cache, source)
        clock.advance(10 * 365 * 86_400)
        assert (cache.current(), cache.status().expires_at) == (token, None)


async def test_a_suspended_machine_notices_that_its_token_has_expired(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """Wall time went on while monotonic time stood still."""
    await fill(cache, source)
    clock.jump(7_200)
    assert cache.current() is None


async def test_a_token_that_has_expired_already_is_an_error(cache: TokenCache, source: Source) -> None:
    """It is not served, and the hint is about clocks."""
    with pytest.raises(TokenUnavailableError, match="expired already") as caught:
        await fill(cache, source, lifetime=-5)
    assert "clock" in caught.value.hint


async def test_the_source_is_told_for_whom_and_when(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """The audience and the injected time reach the source."""
    await fill(cache, source)
    assert (source.requests[0].audience, source.requests[0].time) == ("https://host", clock.time())


# Waiting


async def test_a_thousand_who_wait_make_one_request(cache: TokenCache, source: Source) -> None:
    """Single flight."""
    waiting = [asyncio.create_task(cache.get()) for _ in range(1_000)]
    await source.asked()
    source.answer("one")
    assert len({id(token) for token in await asyncio.gather(*waiting)}) == 1
    assert len(source.requests) == 1


async def test_the_first_who_is_cancelled_costs_the_others_nothing(cache: TokenCache, source: Source) -> None:
    """Also the first, who started the refresh."""
    first, *others = [asyncio.create_task(cache.get()) for _ in range(10)]
    await source.asked()
    first.cancel()
    await asyncio.wait({first})
    source.answer("one")
    assert {token.value for token in await asyncio.gather(*others)} == {"one"}
    assert first.cancelled()


async def test_all_are_cancelled_and_the_next_one_uses_the_refresh(cache: TokenCache, source: Source) -> None:
    """What was started is not thrown away."""
    waiting = [asyncio.create_task(cache.get()) for _ in range(3)]
    await source.asked()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    late = asyncio.create_task(cache.get())
    await settle()
    source.answer("one")
    assert (await late).value == "one"
    assert len(source.requests) == 1


async def test_a_wait_that_is_out_of_time_says_that_it_was_the_token(
    cache: TokenCache, source: Source
) -> None:
    """DEADLINE_EXCEEDED, and the refresh goes on."""
    with pytest.raises(TokenDeadlineExceededError, match="waited for an access token") as caught:
        await cache.get(timeout=0.0)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await source.asked()
    source.answer("one")
    await settle()
    assert cache.current() is not None


async def test_cancelled_by_asyncio_timeout_surfaces_as_timeout_error(cache: TokenCache) -> None:
    """A scope around the wait keeps its own exception."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0):
            await cache.get()
    assert not isinstance(caught.value, AuthRpcError)


async def test_cancelled_by_task_cancel_the_task_is_cancelled(cache: TokenCache, source: Source) -> None:
    """Cancellation is never converted."""
    task = asyncio.create_task(cache.get(timeout=60))
    await source.asked()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


# Failing


async def test_a_failed_refresh_reaches_each_waiter_as_an_exception_of_its_own(
    cache: TokenCache, source: Source
) -> None:
    """Same text, same cause, different objects."""
    waiting = [asyncio.create_task(cache.get()) for _ in range(3)]
    await source.asked()
    cause = ConnectionRefusedError("nobody there")
    source.fail(cause)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [TokenUnavailableError] * 3
    assert len({id(error) for error in errors}) == 3
    assert all(isinstance(error, BaseException) and error.__cause__ is cause for error in errors)


async def test_within_the_backoff_callers_get_the_recorded_error_at_once(
    cache: TokenCache, source: Source
) -> None:
    """However many call, the endpoint is left alone."""
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    source.fail(OSError("down"))
    with pytest.raises(TokenUnavailableError):
        await waiting
    for _ in range(100):
        with pytest.raises(TokenUnavailableError, match="down"):
            await cache.get()
    assert len(source.requests) == 1


async def test_after_the_backoff_the_failure_is_forgotten(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """The next caller tries again, and a success clears the record."""
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    source.fail(OSError("down"))
    await asyncio.wait({waiting})
    clock.advance(1.0)
    assert (await fill(cache, source)).value == "one"
    assert (cache.status().last_error, cache.status().next_attempt_at) == (None, None)
    assert waiting.exception() is not None


async def test_a_failed_refresh_leaves_a_usable_token_alone(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """Until its very end, with attempts spaced by the back-off."""
    token = await fill(cache, source)
    clock.advance(3600 - 150)
    assert cache.current() is token
    await source.asked()
    source.fail(OSError("down"))
    await settle()
    for _ in range(100):
        assert await cache.get() is token
    assert len(source.requests) == 2
    assert cache.status().last_error is not None
    clock.advance(60)
    assert cache.current() is token
    await source.asked()
    assert len(source.requests) == 3
    source.answer("two")


async def test_the_back_off_ends_with_the_token_that_is_served(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """Else calls would fail for trouble that was over while there still was a token."""
    await fill(cache, source, lifetime=3)
    clock.advance(2.8)
    assert cache.current() is not None
    await source.asked()
    source.fail(OSError("down for a moment"))
    await settle()
    status = cache.status()
    assert status.next_attempt_at == pytest.approx(clock.time() + 0.05)
    clock.advance(0.05)
    assert (await fill(cache, source, "two")).value == "two"


async def test_the_back_off_without_a_token_is_whole(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """A token that has expired shortens nothing: the endpoint is left alone."""
    await fill(cache, source, lifetime=3)
    clock.advance(2.9)
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    source.fail(OSError("down"))
    await asyncio.wait({waiting})
    assert isinstance(waiting.exception(), TokenUnavailableError)
    status = cache.status()
    assert status.next_attempt_at is not None
    assert status.next_attempt_at - clock.time() > 0.1


async def test_failures_in_a_row_are_logged_once(
    cache: TokenCache, source: Source, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A token endpoint that is down for an hour does not fill the log; its return is told too."""
    with caplog.at_level(logging.INFO, logger="aio_authgrpc"):
        for _ in range(3):
            waiting = asyncio.create_task(cache.get())
            await source.asked()
            source.fail(OSError("down"))
            await asyncio.wait({waiting})
            assert waiting.exception() is not None
            clock.advance(60)
        await fill(cache, source)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1.0), (2, 1.6), (3, 2.56), (10, 60.0), (10_000, 60.0)])
def test_the_backoff_grows_to_a_cap(failures: int, seconds: float) -> None:
    """1 s × 1.6 each time, 60 s at most, also after a week of failures."""
    assert backoff_window(failures) == pytest.approx(seconds)


async def test_the_status_tells_when_the_next_attempt_may_be_made(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """In wall time, within the first window."""
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    source.fail(OSError("down"))
    await asyncio.wait({waiting})
    status = cache.status()
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
    cache: TokenCache, source: Source, error: Exception, kind: type[AuthRpcError]
) -> None:
    """A source is users' code."""
    waiting = asyncio.create_task(cache.get())
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
    source = Source(clock)
    async with TokenCache(source, clock=clock, refresh_timeout=0.0) as cache:
        with pytest.raises(TokenUnavailableError, match="0 s were not enough"):
            await cache.get()


# Rejecting


async def test_a_rejected_token_is_replaced_by_one_refresh(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """The first rejection takes it back; the others find that out."""
    token = await fill(cache, source)
    clock.advance(10)
    assert [cache.reject(token) for _ in range(5)] == [True] * 5
    new = await fill(cache, source, "two")
    assert [cache.reject(token), cache.current() is new] == [True, True]
    assert len(source.requests) == 2


async def test_a_token_younger_than_ten_seconds_is_not_rejected(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """Then the refusal is real, and a refresh for each refused call would be a storm."""
    token = await fill(cache, source)
    clock.advance(9.9)
    assert not cache.reject(token)
    assert cache.current() is token


# Ends


async def test_closing_wakes_all_who_wait(source: Source, clock: FakeClock) -> None:
    """With an error that says so; the refresh is cancelled."""
    cache = TokenCache(source, clock=clock)
    waiting = [asyncio.create_task(cache.get()) for _ in range(3)]
    await source.asked()
    await cache.aclose()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [ChannelClosedError] * 3


async def test_closing_twice_does_nothing(cache: TokenCache, source: Source) -> None:
    """Idempotent."""
    await fill(cache, source)
    await cache.aclose()
    await cache.aclose()
    with pytest.raises(ChannelClosedError):
        await cache.get()


async def test_closing_is_bounded_by_a_source_that_ignores_cancellation(clock: FakeClock) -> None:
    """A refresh that will not end does not hold the application's end."""
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
    assert cache.current() is None
    held.set()
    await settle()


async def test_a_refresh_cancelled_from_outside_is_an_error_that_may_be_retried(
    cache: TokenCache, source: Source
) -> None:
    """Nobody hangs, and nobody who was not cancelled sees CancelledError."""
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    for task in asyncio.all_tasks():
        if task.get_name() == "aio_authgrpc refresh":
            task.cancel()
    with pytest.raises(TokenUnavailableError, match="cancelled from outside"):
        await waiting


def test_another_loop_is_one_clear_error(clock: FakeClock) -> None:
    """A cache made in one thread's loop and used in another's."""
    errors: list[BaseException] = []

    async def use(cache: TokenCache) -> None:
        await cache.load()

    async def make() -> None:
        cache = TokenCache(Source(clock), clock=clock)
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


# keep_warm


async def test_keep_warm_refreshes_without_a_caller(source: Source, clock: FakeClock) -> None:
    """By a timer that follows the token's limits."""
    async with TokenCache(source, clock=clock, keep_warm=True, rng=random.Random(1)) as cache:
        await source.asked()
        source.answer("one")
        while len(source.requests) == 1 and clock.time() < 1_700_003_600:
            await settle()
            clock.advance(60)
        await source.asked()
        source.answer("two")
        await clock.wait_for_sleepers()
        token = cache.current()
        assert token is not None
        assert token.value == "two"


async def test_without_keep_warm_an_idle_cache_asks_for_nothing(
    cache: TokenCache, source: Source, clock: FakeClock
) -> None:
    """No timer, no task."""
    await fill(cache, source)
    clock.advance(7_200)
    await settle()
    assert (clock.sleepers, len(source.requests)) == (0, 1)


@pytest.mark.parametrize("show", [repr, str])
async def test_a_cache_shows_its_state_and_no_secret(
    cache: TokenCache, source: Source, show: Callable[[object], str]
) -> None:
    """For people who print it."""
    await fill(cache, source, "s3cr3t")
    assert "fresh" in show(cache).lower()
    assert "s3cr3t" not in show(cache)


# Sources that misbehave


async def test_a_cache_closed_while_it_loads_starts_no_timer(clock: FakeClock) -> None:
    """keep_warm on a closed cache would spin."""
    loading, release = asyncio.Event(), asyncio.Event()

    class Slow(Source):
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


async def test_keep_warm_works_from_the_first_get(source: Source, clock: FakeClock) -> None:
    """Also where nobody called load()."""
    cache = TokenCache(source, clock=clock, keep_warm=True)
    await fill(cache, source)
    await clock.wait_for_sleepers()
    await cache.aclose()
    assert clock.sleepers == 0


async def test_a_source_that_raises_cancelled_error_has_failed(cache: TokenCache, source: Source) -> None:
    """Nobody cancelled the refresh: the back-off holds, and nobody sees CancelledError."""
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    source.fail(asyncio.CancelledError())  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TokenUnavailableError, match="from inside"):
        await waiting
    with pytest.raises(TokenUnavailableError, match="from inside"):
        await cache.get()
    assert len(source.requests) == 1


@pytest.mark.parametrize("kind", [OSError, KeyError])
async def test_an_error_that_is_its_own_cause_is_an_error(
    cache: TokenCache, source: Source, kind: type[Exception]
) -> None:
    """`raise error from error` makes a ring, which must not be walked for ever."""
    error = kind("ring")
    error.__cause__ = error
    waiting = asyncio.create_task(cache.get())
    await source.asked()
    source.fail(error)
    with pytest.raises(AuthRpcError, match="ring"):
        await waiting
    error.__cause__ = None
