"""How a token is fetched: attempts with pauses, and a back-off after a failure."""

from __future__ import annotations

import asyncio
import logging
import random

from aio_authgrpc._checks.arguments import check_count, check_seconds
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._http.token_errors import token_error
from aio_authgrpc._loop.clock import Clock
from aio_authgrpc._loop.tasks import is_cancelled
from aio_authgrpc._tokens.events import EventBus, RefreshFailed, RefreshStarted, RefreshSucceeded
from aio_authgrpc._tokens.freshness import (
    EXPIRED_WINDOW,
    STALE_WINDOW,
    CachedToken,
    TokenState,
    TokenStatus,
    backoff_window,
    pause_window,
)
from aio_authgrpc._tokens.source import HoldingTokenSource, TokenRequest, TokenSource, age_of, fetch_from
from aio_authgrpc._tokens.token import Token, is_empty
from aio_authgrpc.errors import AuthRpcError, TokenUnavailableError

_log = logging.getLogger("aio_authgrpc")

# A longer pause becomes the back-off: callers wait out a pause, and the back-off fails them at once.
_LONGEST_PAUSE = 5.0
# Seconds. An endpoint whose tokens live for a moment is not asked for one after the other.
_SHORTEST_INTERVAL = 1.0


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
        self.pausing = False  # between attempts, so that no request is under way
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
        self._tokens_were_short = False

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

    def held(self) -> CachedToken | None:
        """Return the token that the source has, where it is to be served without a fetch, or before it."""
        if not isinstance(self._source, HoldingTokenSource):
            return None
        request = self.token_request()
        try:
            token: object = self._source.current_token(request)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - a source is users' code; what is wrong, its fetch will tell
            return None
        if not isinstance(token, Token) or is_empty(token):
            return None
        if request.unwanted is not None and token.value == request.unwanted.value:
            return None
        held = CachedToken(token, clock=self._clock, jitter=self._jitter, due=True)
        # Without a back-off a fetch returns a token that is far from its end, at once.
        is_near_its_end = held.lifetime is not None and held.lifetime < STALE_WINDOW
        is_wanted = is_near_its_end or (self.last_error is not None and self.next_attempt_in() > 0)
        return held if is_wanted else None

    async def fetch(self) -> CachedToken | AuthRpcError:
        """Return a token, or the failure as the error that callers get. Neither is recorded yet."""
        if self.last_error is None:  # a back-off fails callers, the interval after a success lets them wait
            await self._pause(self.next_attempt_in())
        self._started_at, self._asked = self._clock.monotonic(), 0
        self._events.emit(RefreshStarted(at=self._clock.time()))
        budget = asyncio.timeout(self._refresh_timeout)
        try:
            async with budget:
                return self._checked(await self._ask())
        except asyncio.CancelledError:
            if is_cancelled():
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
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        self.pausing = True
        try:
            await self._clock.sleep(seconds)
        finally:
            self.pausing = False

    def _pause_after(self, failure: AuthRpcError) -> float | None:
        """Return the seconds before this refresh asks again, or None if this failure is its outcome."""
        # A source may turn the cancellation into an error of its own: it is not asked again then.
        if not failure.retryable or self._asked >= self._attempts or is_cancelled():
            return None
        retry_after = _retry_after(failure)
        pause = self._rng.uniform(0, pause_window(self._asked)) if retry_after is None else retry_after
        return pause if pause <= _LONGEST_PAUSE else None

    def _checked(self, token: Token) -> CachedToken:
        age = age_of(self._source, token, self._clock.time())
        fetched = CachedToken(token, clock=self._clock, jitter=self._jitter, age=age)
        if self._clock.time() >= fetched.expired_at:
            raise TokenUnavailableError(
                "The source returned a token that has expired already.",
                hint="Compare this machine's clock with the token endpoint's.",
            )
        return fetched

    def record_success(self, fetched: CachedToken) -> None:
        if self.last_error is not None:
            text = "The token refresh works again after %d failed refreshes."
            _log.info(text, self._failures, extra=self._log_fields())
        self._unwanted = fetched.token
        self.generation += 1
        self._failures, self.last_error = 0, None
        self._next_attempt_at = fetched.fetched_at + _SHORTEST_INTERVAL
        self._warn_of_short_tokens(fetched.lifetime)
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
        # Together: a handler of the log record may take its time before the event.
        now, wall_time = self._clock.monotonic(), self._clock.time()
        delay = self._backoff_after(error, served)
        self.last_error, self._next_attempt_at = error, now + delay
        if self._failures == 1:  # once for a series of failures, which may last for hours
            outcome = type(error).__name__
            _log.warning("The token refresh failed: %s", error, extra=self._log_fields(outcome))
        self._events.emit(
            RefreshFailed(
                at=wall_time,
                error=error.copy(),
                attempts=self._asked,
                duration=now - self._started_at,
                next_attempt_at=wall_time + delay,
            )
        )

    def _warn_of_short_tokens(self, lifetime: float | None) -> None:
        is_short = lifetime is not None and lifetime < EXPIRED_WINDOW
        if is_short and not self._tokens_were_short:
            _log.warning(
                "The token lives for %.3g s, so that calls wait for a new one again and again. Compare the "
                "expiry that the token endpoint gives it, and this machine's clock with the endpoint's.",
                lifetime,
                extra=self._log_fields(),
            )
        self._tokens_were_short = is_short

    def _log_fields(self, outcome: str = "success") -> dict[str, object]:
        """Return what a log record says beside its text, for handlers that write fields."""
        return {"audience": self._audience, "outcome": outcome, "attempts": self._asked}

    def replace(self, token: Token | None) -> None:
        """Name the token that the next refresh has to replace; None forgets it."""
        self._unwanted = token

    def close(self) -> None:
        """Forget the token, and make no more attempts: the one under way is the last."""
        self._unwanted, self._attempts = None, 0

    def _backoff_after(self, error: AuthRpcError, served: CachedToken | None) -> float:
        delay = self._rng.uniform(0, backoff_window(self._failures))
        served_for = 0.0 if served is None else served.expired_in(self._clock.time(), self._clock.monotonic())
        if served_for > 0:
            # The endpoint may recover while the token is still served. A back-off past the token's end would
            # then fail calls without need: the first call after that end may ask.
            delay = min(delay, served_for)
        return max(delay, _retry_after(error) or 0.0)


def _retry_after(error: AuthRpcError) -> float | None:
    return error.retry_after if isinstance(error, TokenUnavailableError) else None
