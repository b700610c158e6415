"""How a token is fetched: attempts with pauses, a back-off after a failure, and the tasks that do it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any

from aio_authgrpc._checks.arguments import check_count, check_seconds
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._http.token_errors import token_error
from aio_authgrpc._loop.clock import Clock
from aio_authgrpc._loop.single_flight import FlightCancelledError, SingleFlight
from aio_authgrpc._tokens.events import EventBus, RefreshFailed, RefreshStarted, RefreshSucceeded
from aio_authgrpc._tokens.freshness import CachedToken, TokenState, TokenStatus, backoff_window, pause_window
from aio_authgrpc._tokens.source import TokenRequest, TokenSource, fetch_from
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import AuthRpcError, TokenDeadlineExceededError, TokenUnavailableError

_log = logging.getLogger("aio_authgrpc")

# A longer pause becomes the back-off: callers wait out a pause, and the back-off fails them at once.
_LONGEST_PAUSE = 5.0
# Seconds. The timer looks at the clock this often at least: a machine that was suspended notices in a minute.
_LONGEST_SLEEP = 60.0


class Refresher:
    """Fetches the tokens of one source and audience, one refresh at a time, and remembers how that went.

    A refresh is one `fetch()` and then, without an `await` between them, `record_success()` or
    `record_failure()`: a listener of the events finds the cache as the refresh has left it.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        audience: str,
        http: AiohttpRequest,
        attempts: int,
        refresh_timeout: float,
        clock: Clock,
        rng: random.Random,
        events: EventBus,
    ) -> None:
        check_count("attempts", attempts)
        check_seconds("refresh_timeout", refresh_timeout)
        self.generation = 0
        self.last_error: AuthRpcError | None = None
        self._source = source
        self._audience = audience
        self._http = http
        self._attempts = attempts
        self._refresh_timeout = refresh_timeout
        self._clock = clock
        self._rng = rng
        self._events = events
        self._jitter = rng.random()
        self._unwanted: Token | None = None
        self._started_at = 0.0
        self._asked = 0  # within the refresh under way, or the last one
        self._failures = 0  # in a row
        self._next_attempt_at = 0.0  # monotonic

    def next_attempt_in(self) -> float:
        """Return the seconds until the back-off ends; 0 or less where a refresh may start now."""
        return self._next_attempt_at - self._clock.monotonic()

    def due_in(self, served: CachedToken | None) -> float:
        """Return the seconds until a refresh is due: no token, or a stale one, and no back-off."""
        stale_in = 0.0 if served is None else served.stale_in(self._clock.time(), self._clock.monotonic())
        return max(stale_in, self.next_attempt_in())

    def status(self, entry: CachedToken | None) -> TokenStatus:
        now, wait = self._clock.time(), self.next_attempt_in()
        return TokenStatus(
            state=TokenState.EXPIRED if entry is None else entry.state(now, self._clock.monotonic()),
            expires_at=None if entry is None else entry.token.expires_at,
            generation=self.generation,
            last_error=self.last_error,
            next_attempt_at=now + wait if self.last_error is not None and wait > 0 else None,
        )

    def check_backoff(self) -> None:
        """Raise a copy of the last failure until the back-off ends."""
        if self.last_error is not None and self.next_attempt_in() > 0:
            raise self.last_error.copy()

    def token_request(self) -> TokenRequest:
        return TokenRequest(
            http=self._http, audience=self._audience, time=self._clock.time(), unwanted=self._unwanted
        )

    async def fetch(self) -> CachedToken | AuthRpcError:
        """Return a token, or the failure as the error that callers get. Neither is recorded yet."""
        self._started_at, self._asked = self._clock.monotonic(), 0
        self._events.emit(RefreshStarted(at=self._clock.time()))
        budget = asyncio.timeout(self._refresh_timeout)
        try:
            async with budget:
                return self._checked(await self._ask())
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            # This task was not cancelled: the source let a cancellation of its own escape.
            return TokenUnavailableError(
                "The source was cancelled from inside.", hint="A later call asks the source again."
            )
        except (KeyboardInterrupt, GeneratorExit):
            raise  # the terminal's, and that of a coroutine whose loop is gone
        except BaseException as error:  # noqa: BLE001 - a source is users' code: sys.exit() ends its fetch alone
            late = TimeoutError(f"the source returned no token within {self._refresh_timeout:g} s")
            return token_error(late if budget.expired() else error)

    async def _ask(self) -> Token:
        while True:
            self._asked += 1
            try:
                return await fetch_from(self._source, self.token_request())
            except Exception as error:
                pause = self._pause_after(token_error(error))
                if pause is None:
                    raise
            await self._clock.sleep(pause)

    def _pause_after(self, failure: AuthRpcError) -> float | None:
        """Return the seconds before this refresh asks again, or None if this failure is its outcome."""
        # A source may turn the cancellation into an error of its own: it is not asked again then.
        if not failure.retryable or self._asked >= self._attempts or _is_cancelled():
            return None
        retry_after = _retry_after(failure)
        pause = self._rng.uniform(0, pause_window(self._asked)) if retry_after is None else retry_after
        return pause if pause <= _LONGEST_PAUSE else None

    def _checked(self, token: Token) -> CachedToken:
        fetched = CachedToken(token, clock=self._clock, jitter=self._jitter)
        if self._clock.time() >= fetched.expired_at:
            raise TokenUnavailableError(
                "The source returned a token that has expired already.",
                hint="Compare this machine's clock with the token endpoint's.",
            )
        return fetched

    def record_success(self, fetched: CachedToken) -> None:
        if self.last_error is not None:
            _log.info("The token refresh works again after %d failed refreshes.", self._failures)
        self._unwanted = fetched.token
        self.generation += 1
        self._failures, self.last_error, self._next_attempt_at = 0, None, 0.0
        self._events.emit(
            RefreshSucceeded(
                at=self._clock.time(),
                generation=self.generation,
                expires_at=fetched.token.expires_at,
                attempts=self._asked,
                duration=fetched.fetched_at - self._started_at,
            )
        )

    def record_failure(self, error: AuthRpcError, *, served: CachedToken | None) -> None:
        """Begin the back-off, which ends with the token that is still `served`."""
        self._failures += 1
        now, delay = self._clock.monotonic(), self._backoff_after(error, served)
        self.last_error, self._next_attempt_at = error, now + delay
        if self._failures == 1:  # once for a series of failures, which may last for hours
            _log.warning("The token refresh failed: %s", error)
        self._events.emit(
            RefreshFailed(
                at=self._clock.time(),
                error=error.copy(),
                attempts=self._asked,
                duration=now - self._started_at,
                next_attempt_at=self._clock.time() + delay,
            )
        )

    def forget_token(self) -> None:
        self._unwanted = None

    def _backoff_after(self, error: AuthRpcError, served: CachedToken | None) -> float:
        delay = self._rng.uniform(0, backoff_window(self._failures))
        served_for = 0.0 if served is None else served.expired_in(self._clock.time(), self._clock.monotonic())
        if served_for > 0:
            # The endpoint may recover while the token is still served. A back-off past the token's end would
            # then fail calls without need: the first call after that end may ask.
            delay = min(delay, served_for)
        return max(delay, _retry_after(error) or 0.0)


class RefreshTasks:
    """One refresh at a time for all waiting callers, and the timer of `keep_warm`.

    `refresh` returns its failure rather than raising it.
    """

    def __init__(
        self,
        refresh: Callable[[], Coroutine[None, None, Token | AuthRpcError]],
        *,
        clock: Clock,
        close_timeout: float,
    ) -> None:
        check_seconds("close_timeout", close_timeout)
        self.flight = SingleFlight(refresh)
        self._clock = clock
        self._close_timeout = close_timeout
        self._timer: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[Any]] = set()

    def start_timer(self, due_in: Callable[[], float]) -> None:
        """Refresh from now on whenever `due_in()` seconds are over. Calling it again does nothing."""
        # Check and set without an await between them.
        if self._timer is None:
            timer = self._refresh_when_due(due_in)
            # In an empty context: it would keep that of the first caller for as long as the channel is open.
            self._timer = asyncio.create_task(timer, name="aio_authgrpc keep_warm", context=Context())

    async def _refresh_when_due(self, due_in: Callable[[], float]) -> None:
        while True:
            seconds = due_in()
            if seconds > 0:
                await self._clock.sleep(min(seconds, _LONGEST_SLEEP))
                continue
            with suppress(FlightCancelledError):
                await self.flight.join()

    async def join(self, timeout: float | None) -> Token:
        """Wait for the refresh under way, or a new one; see `TokenCache.get`."""
        try:
            async with asyncio.timeout(timeout):
                outcome = await self.flight.join()
        except TimeoutError:  # of this scope: a refresh returns its failures
            raise _too_late(timeout or 0.0) from None
        except FlightCancelledError:
            raise TokenUnavailableError("The token refresh was cancelled from outside.") from None
        if isinstance(outcome, AuthRpcError):
            raise outcome.copy()
        return outcome

    def end(self) -> None:
        """Cancel the timer and the refresh, and wake all waiting callers."""
        if self._timer is not None:
            self._timer.cancel()
        self._ending.update(task for task in (self._timer, self.flight.cancel()) if task is not None)

    async def aclose(self) -> None:
        """Wait, `close_timeout` at most, for what `end` has cancelled. May be repeated."""
        if self._ending:
            _, self._ending = await asyncio.wait(self._ending, timeout=self._close_timeout)


def _too_late(timeout: float) -> TokenDeadlineExceededError:
    if timeout <= 0:
        return TokenDeadlineExceededError(
            "The call's time was over when it waited for an access token.",
            hint="timeout= is in seconds from now; None does not limit the call.",
        )
    return TokenDeadlineExceededError(
        f"The call's time ran out: for {timeout:.3g} s it waited for an access token.",
        hint="The token endpoint, or the source, is slow; the refresh goes on and later calls will use it.",
    )


def _retry_after(error: AuthRpcError) -> float | None:
    return error.retry_after if isinstance(error, TokenUnavailableError) else None


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
