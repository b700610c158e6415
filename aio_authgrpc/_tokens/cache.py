"""The token cache: fresh, stale or expired; refreshed behind its users, once at a time, with back-off."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._http.token_errors import token_error
from aio_authgrpc._loop.clock import Clock, SystemClock
from aio_authgrpc._loop.fork import lose_loop_at_fork
from aio_authgrpc._loop.single_flight import FlightCancelledError, SingleFlight
from aio_authgrpc._tokens.events import (
    CallReplayed,
    EventBus,
    EventCallback,
    EventStream,
    RefreshFailed,
    RefreshStarted,
    RefreshSucceeded,
    StaleServed,
    TokenRejected,
)
from aio_authgrpc._tokens.freshness import CachedToken, TokenState, backoff_window, pause_window
from aio_authgrpc._tokens.source import LoadableTokenSource, TokenRequest, TokenSource
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import (
    AuthRpcError,
    ChannelClosedError,
    ConfigurationError,
    TokenDeadlineExceededError,
    TokenUnavailableError,
    WrongEventLoopError,
)

_log = logging.getLogger("aio_authgrpc")

# A token refused this soon after it was issued is not outdated: the refusal is meant.
_REFUSAL_IS_REAL_BELOW_AGE = 10.0
# How often keep_warm looks at the clock at least: a suspended machine notices in a minute.
_LONGEST_SLEEP = 60.0
# A refresh with waiting callers does not sleep longer than this; the back-off does, and fails them at once.
_LONGEST_PAUSE = 5.0
# How many events wait for a reader.
_MOST_EVENTS = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenStatus:
    """What a `TokenCache` knows at one moment, without a secret.

    Attributes:
        state: Fresh, stale or expired.
        expires_at: Wall time in seconds since the epoch; None without a token, or where it never expires.
        generation: How many tokens were fetched so far.
        last_error: Why the last refresh failed; None after one that succeeded.
        next_attempt_at: Wall time before which no refresh is tried; None when one may be tried at once.
    """

    state: TokenState
    expires_at: float | None
    generation: int
    last_error: AuthRpcError | None
    next_attempt_at: float | None


class TokenCache:
    """Holds one token of one source and audience, for any number of channels on one event loop.

    While the token is fresh, `current()` hands it out without waiting. When it is stale it is still
    handed out, and a refresh is started behind it. When it is expired, `get()` waits for the one
    refresh that serves all who wait. A refresh that fails never harms a token that is still usable;
    it is tried again after a jittered back-off, during which callers without a usable token get the
    recorded error at once.

    Whoever makes a cache closes it: `aclose()`, or `async with`. A channel closes only a cache of its own.

    Args:
        source: Where tokens come from.
        audience: For whom they are, as the source is told; `https://<host>` for a channel's own cache.
        request: The HTTP transport that the source is given. None makes one, closed with the cache; one
            that is handed in stays the caller's.
        keep_warm: Refresh by a timer too, so that a token is at hand after a quiet hour. Without it an
            idle cache asks for nothing.
        attempts: How often one refresh asks the source while its failures are worth a retry
            (`TokenUnavailableError` and what becomes one), with jittered pauses below a second, or what
            `Retry-After` says.
        refresh_timeout: Seconds that one refresh may take in all, whatever the source does inside.
        close_timeout: Seconds that `aclose` waits for a cancelled refresh to end; one that honours
            cancellation needs none of them.
        clock: Wall and monotonic time.
        rng: Randomness for jitter and back-off.
    """

    def __init__(  # noqa: PLR0913 - what it needs, and what tests and operators set
        self,
        source: TokenSource,
        *,
        audience: str = "",
        request: AiohttpRequest | None = None,
        keep_warm: bool = False,
        attempts: int = 3,
        refresh_timeout: float = 60.0,
        close_timeout: float = 2.0,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if not isinstance(source, TokenSource):
            raise ConfigurationError(
                f"expected a TokenSource, not {type(source).__name__}.",
                field="source",
                hint="connect() and the channel factories also take google-auth's credentials.",
            )
        check_type("audience", audience, str)
        check_type("request", request, AiohttpRequest, type(None))
        check_type("refresh_timeout", refresh_timeout, int, float)
        check_type("attempts", attempts, int)
        if attempts < 1:
            raise ConfigurationError(f"{attempts!r} is less than 1.", field="attempts")
        self._source = source
        self._audience = audience
        self._http = AiohttpRequest() if request is None else request
        self._owns_http = request is None
        self._keep_warm = keep_warm
        self._attempts = attempts
        self._refresh_timeout = refresh_timeout
        self._close_timeout = close_timeout
        self._clock: Clock = SystemClock() if clock is None else clock
        self._rng = random.Random() if rng is None else rng  # noqa: S311 - spreads load, guards nothing
        self._jitter = self._rng.random()
        self._flight = SingleFlight(self._refresh)
        self._entry: CachedToken | None = None
        self._unwanted: Token | None = None  # the last one, whatever became of it
        self._generation = 0
        self._started_at, self._asked = 0.0, 0  # of the refresh that is under way, or the last one
        self._failures = 0
        self._last_error: AuthRpcError | None = None
        self._next_attempt_at = 0.0
        self._events = EventBus()
        self._warmer: asyncio.Task[None] | None = None
        self._loop: object = None  # an event loop; after a fork, what is none
        self._closed = False
        lose_loop_at_fork(self)

    @property
    def closed(self) -> bool:
        """Whether `aclose()` was called."""
        return self._closed

    @property
    def source(self) -> TokenSource:
        """Where the tokens come from."""
        return self._source

    def of_another(self, source: TokenSource, *, audience: str | None = None) -> TokenCache:
        """Return an empty cache for another source, with this one's HTTP transport and clock.

        Whoever calls this closes it, before this one.

        Args:
            source: Where its tokens come from.
            audience: For whom they are; this cache's if None.
        """
        whose = self._audience if audience is None else audience
        return TokenCache(
            source,
            audience=whose,
            request=self._http,
            attempts=self._attempts,
            refresh_timeout=self._refresh_timeout,
            close_timeout=self._close_timeout,
            clock=self._clock,
        )

    async def load(self) -> None:
        """Let the source read its files, so that a mistake in them shows before the first RPC.

        Raises:
            ConfigurationError: The source cannot be used.
        """
        self.check_usable()
        if isinstance(self._source, LoadableTokenSource):
            await self._source.load(self._token_request())
        self.start()

    def start(self) -> None:
        """Belong to the running loop, and begin to refresh by a timer if `keep_warm` says so.

        Raises:
            ChannelClosedError, WrongEventLoopError: The cache was closed, or belongs to another loop.
        """
        self.check_usable()
        self._start_warmer()

    def current(self) -> Token | None:
        """Return the token if it can be used now, and start a refresh behind it if it is stale.

        Never waits. Must be called on the running loop.
        """
        entry = self._entry
        if entry is None:
            return None
        now = self._clock.time()
        if entry.sure_from <= now < entry.sure_until:
            return entry.token
        state = entry.state(now, self._clock.monotonic())
        if state is TokenState.STALE:
            self._serve_stale(entry)
        return None if state is TokenState.EXPIRED else entry.token

    def _serve_stale(self, entry: CachedToken) -> None:
        # Check and start without an await between them, or two callers would both start.
        if not self._closed and self._clock.monotonic() >= self._next_attempt_at:
            self._flight.start()
        if self._events.wanted and not entry.stale_was_said:
            entry.stale_was_said = True
            self._events.emit(StaleServed(at=self._clock.time(), expires_at=entry.token.expires_at))

    async def get(self, *, timeout: float | None = None) -> Token:
        """Return a usable token, waiting for the refresh if there is none.

        Cancelling it, or running out of time, costs no other caller anything: the refresh goes on.

        Args:
            timeout: Seconds to wait; None waits as long as the refresh may take.

        Raises:
            TokenUnavailableError, TokenRefusedError: The refresh failed, now or within the back-off.
            TokenDeadlineExceededError: `timeout` was over first.
            ChannelClosedError: The cache was closed.
            WrongEventLoopError: The cache was first used on another loop.
        """
        self.check_usable()
        self._start_warmer()
        token = self.current()
        if token is not None:
            return token
        if self._last_error is not None and self._clock.monotonic() < self._next_attempt_at:
            raise self._last_error.copy()
        try:
            async with asyncio.timeout(timeout):
                outcome = await self._flight.join()
        except TimeoutError:  # of this scope: a flight returns its failures
            raise TokenDeadlineExceededError(
                f"The call's time ran out: for {timeout:.3g} s it waited for an access token.",
                hint="The token endpoint is slow; the refresh goes on and later calls will use it.",
            ) from None
        except FlightCancelledError:
            self.check_usable()
            raise TokenUnavailableError("The token refresh was cancelled from outside.") from None
        if isinstance(outcome, AuthRpcError):
            raise outcome.copy()
        return outcome

    def reject(self, token: Token, *, challenge: str = "") -> bool:
        """Take back a token that a server refused.

        Many calls may be refused with the same token: the first takes it back, the others find that
        out here, and together they cause one refresh.

        Args:
            token: The one that the call was made with.
            challenge: The server's `www-authenticate`, for whoever listens to the events.

        Returns:
            Whether it is worth sending the call again. False where the token is so young that the
            refusal must be meant, or where the challenge says that the token is good and its scope is
            not (RFC 6750, 3.1); then the token stays.
        """
        # Check and set without an await between them.
        entry = self._entry
        if entry is None or entry.token is not token:
            return True
        is_young = self._clock.monotonic() - entry.fetched_at < _REFUSAL_IS_REAL_BELOW_AGE
        taken_back = not is_young and "insufficient_scope" not in challenge
        if taken_back:
            self._entry = None
        if self._events.wanted and not entry.refusal_was_said:
            entry.refusal_was_said = True
            self._events.emit(
                TokenRejected(at=self._clock.time(), taken_back=taken_back, challenge=redacted(challenge))
            )
        return taken_back

    def subscribe(self, callback: EventCallback) -> Callable[[], None]:
        """Call `callback` with every event of this cache from now on, on the event loop.

        Returns:
            A function that ends it. Closing the cache ends it too.
        """
        return self._events.subscribe(callback)

    def events(self) -> EventStream:
        """Return the events of this cache from now on, to iterate with `async for`.

        Use it with `async with`, so that it ends with the block; it also ends with the cache. A reader
        who is more than 1000 events behind loses the oldest.
        """
        return self._events.stream(_MOST_EVENTS)

    def say_replayed(self) -> None:
        """Tell whoever listens that a call which was refused with a token of this cache is sent again."""
        if self._events.wanted:
            self._events.emit(CallReplayed(at=self._clock.time()))

    def status(self) -> TokenStatus:
        """Return what the cache knows now."""
        entry, wait = self._entry, self._next_attempt_at - self._clock.monotonic()
        return TokenStatus(
            state=TokenState.EXPIRED
            if entry is None
            else entry.state(self._clock.time(), self._clock.monotonic()),
            expires_at=None if entry is None else entry.token.expires_at,
            generation=self._generation,
            last_error=self._last_error,
            next_attempt_at=self._clock.time() + wait if self._last_error and wait > 0 else None,
        )

    async def aclose(self) -> None:
        """Cancel the refresh, wake all who wait with `ChannelClosedError`, and close what is owned.

        Takes a few seconds at most, whatever the source does. Calling it again does nothing.
        """
        if self._closed:
            return
        self._closed = True
        self._entry = self._unwanted = None
        if self._warmer is not None:
            self._warmer.cancel()
        self._events.end()
        ending = {task for task in (self._warmer, self._flight.cancel()) if task is not None}
        try:
            if ending:
                await asyncio.wait(ending, timeout=self._close_timeout)
        finally:
            if self._owns_http:
                await self._http.aclose()

    async def __aenter__(self) -> Self:
        await self.load()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "_closed"):  # its constructor raised, and a debugger looks at it
            return "<TokenCache that was not made>"
        return f"<TokenCache of {type(self._source).__name__}: {self.status()}>"

    def check_usable(self) -> None:
        """Raise unless the cache is open and this is its loop; the first loop to ask becomes it.

        Raises:
            ChannelClosedError, WrongEventLoopError: As their names say.
        """
        if self._closed:
            raise ChannelClosedError(
                "The channel was closed.",
                hint="Use it inside of its `async with`; a closed one stays closed.",
            )
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise WrongEventLoopError(
                "The channel belongs to another event loop.",
                hint="Open it on the loop, and in the process, that uses it: after a fork, not before.",
            )

    def lose_loop(self) -> None:
        """See `fork.LoopBound`."""
        if self._loop is not None:
            self._loop = object()

    def _start_warmer(self) -> None:
        if self._keep_warm and self._warmer is None:
            self._warmer = asyncio.get_running_loop().create_task(
                self._refresh_when_stale(), name="aio_authgrpc keep_warm"
            )

    def _token_request(self) -> TokenRequest:
        now = self._clock.time()
        return TokenRequest(http=self._http, audience=self._audience, time=now, unwanted=self._unwanted)

    async def _refresh(self) -> Token | AuthRpcError:
        """Fetch one token and keep it; the body of the flight. A failure is returned, not raised."""
        self._started_at, self._asked = self._clock.monotonic(), 0
        if self._events.wanted:
            self._events.emit(RefreshStarted(at=self._clock.time()))
        budget = asyncio.timeout(self._refresh_timeout)
        try:
            async with budget:
                return self._keep(await self._fetch())
        except TimeoutError as error:
            text = f"{self._refresh_timeout:g} s were not enough" if budget.expired() else str(error)
            return self._record(token_error(TimeoutError(text)))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this task: the source let a cancellation of its own escape.
            return self._record(TokenUnavailableError("The source was cancelled from inside."))
        except Exception as error:  # noqa: BLE001 - a source is users' code: whatever it raises is the outcome
            return self._record(token_error(error))

    async def _fetch(self) -> Token:
        """Ask the source, again where its failure is worth it."""
        while True:
            self._asked += 1
            try:
                return await self._source.fetch(self._token_request())
            except Exception as error:
                failure = token_error(error)
                if not failure.retryable or self._asked >= self._attempts or self._closed:
                    raise
                asked_for = getattr(failure, "retry_after", None)
                pause = self._rng.uniform(0, pause_window(self._asked)) if asked_for is None else asked_for
                if pause > _LONGEST_PAUSE:
                    raise
            await self._clock.sleep(pause)

    def _keep(self, token: Token) -> Token:
        fetched: object = token
        if not isinstance(fetched, Token):
            raise ConfigurationError(
                f"the source returned {type(fetched).__name__}, not an aio_authgrpc.Token.",
                field="credentials",
            )
        entry = CachedToken(token, clock=self._clock, jitter=self._jitter)
        if self._clock.time() >= entry.expired_at:
            raise TokenUnavailableError(
                "The source returned a token that has expired already.",
                hint="Compare this machine's clock with the token endpoint's.",
            )
        if self._closed:  # a source that ignored its cancellation: nothing is kept any more
            return token
        if self._last_error is not None:
            _log.info("The token refresh works again after %d failed attempts.", self._failures)
        self._entry, self._unwanted = entry, token
        self._generation += 1
        self._failures, self._last_error, self._next_attempt_at = 0, None, 0.0
        if self._events.wanted:
            self._events.emit(
                RefreshSucceeded(
                    at=self._clock.time(),
                    generation=self._generation,
                    expires_at=token.expires_at,
                    attempts=self._asked,
                    duration=entry.fetched_at - self._started_at,
                )
            )
        return token

    def _record(self, error: AuthRpcError) -> AuthRpcError:
        self._failures += 1
        now = self._clock.monotonic()
        delay = self._rng.uniform(0, backoff_window(self._failures))
        served_for = -1.0 if self._entry is None else self._entry.expired_in(self._clock.time(), now)
        if served_for > 0:
            # The token may end before the back-off, and the endpoint's trouble before the token: then no
            # call should fail. Who finds the token expired may therefore ask.
            delay = min(delay, served_for)
        delay = max(delay, getattr(error, "retry_after", None) or 0.0)
        self._next_attempt_at = now + delay
        if self._failures == 1:  # once in a row, not once an attempt
            _log.warning("The token refresh failed: %s", error)
        self._last_error = error
        if self._events.wanted:
            self._events.emit(
                RefreshFailed(
                    at=self._clock.time(),
                    error=error.copy(),
                    attempts=self._asked,
                    duration=now - self._started_at,
                    next_attempt_at=self._clock.time() + delay,
                )
            )
        return error

    async def _refresh_when_stale(self) -> None:
        """The body of the `keep_warm` task: sleep until a refresh is due, start it, and so on."""
        while not self._closed:
            now, monotonic = self._clock.time(), self._clock.monotonic()
            due_in = 0.0 if self._entry is None else self._entry.stale_in(now, monotonic)
            due_in = max(due_in, self._next_attempt_at - monotonic)
            if due_in > 0:
                await self._clock.sleep(min(due_in, _LONGEST_SLEEP))
                continue
            with suppress(FlightCancelledError):
                await self._flight.join()
