"""The token cache: fresh, stale or expired; refreshed behind its users, once at a time, with back-off."""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from aio_authgrpc.clock import Clock, SystemClock
from aio_authgrpc.errors import (
    AuthRpcError,
    ChannelClosedError,
    ConfigurationError,
    TokenDeadlineExceededError,
    TokenUnavailableError,
    WrongEventLoopError,
    check_type,
    token_error,
)
from aio_authgrpc.http import AiohttpRequest
from aio_authgrpc.single_flight import FlightCancelledError, SingleFlight
from aio_authgrpc.token import LoadableTokenSource, Token, TokenRequest, TokenSource

_log = logging.getLogger("aio_authgrpc")

# Google's clients refresh 3 min 45 s ahead: the metadata server hands out the old token until 4 min
# before its end. A short-lived token gives a fifth of its life.
_STALE_WINDOW = 225.0
_STALE_SHARE = 0.20
# Many processes that started together should not refresh together: up to a quarter of the window later.
_JITTER_SHARE = 0.25
# The last seconds are not used: the RPC has to arrive, and clocks differ.
_EXPIRED_WINDOW = 30.0
_EXPIRED_SHARE = 0.05
# The back-off of gRPC's connection attempts, with a shorter cap: a token is worth a request a minute.
_BACKOFF_START = 1.0
_BACKOFF_FACTOR = 1.6
_BACKOFF_CAP = 60.0
# A token refused this soon after it was issued is not outdated: the refusal is meant.
_REFUSAL_IS_REAL_BELOW_AGE = 10.0


class TokenState(enum.Enum):
    """How good the cached token is."""

    FRESH = "fresh"
    """It is served, and nothing else happens."""
    STALE = "stale"
    """It is served while a new one is fetched behind it."""
    EXPIRED = "expired"
    """There is none, or it is not served any more: callers wait for a new one."""


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


class _Entry:
    """A token with its two limits in wall time and the monotonic instant at which it came."""

    __slots__ = ("expired_at", "fetched_at", "stale_at", "token")

    def __init__(self, token: Token, *, stale_at: float, expired_at: float, fetched_at: float) -> None:
        self.token = token
        self.stale_at = stale_at
        self.expired_at = expired_at
        self.fetched_at = fetched_at

    def state(self, now: float) -> TokenState:
        if now < self.stale_at:
            return TokenState.FRESH
        return TokenState.STALE if now < self.expired_at else TokenState.EXPIRED


def limits(*, now: float, expires_at: float | None, jitter: float) -> tuple[float, float]:
    """Return the wall times at which a token fetched now becomes stale, and expired.

    Args:
        now: Wall time of the fetch.
        expires_at: When the token ends; None for never.
        jitter: 0.0 to 1.0, how much of the jitter's share this process takes.
    """
    if expires_at is None:
        return sys.float_info.max, sys.float_info.max
    lifetime = expires_at - now
    window = min(_STALE_WINDOW, _STALE_SHARE * lifetime)
    stale_at = expires_at - window * (1 - _JITTER_SHARE * jitter)
    return stale_at, expires_at - min(_EXPIRED_WINDOW, _EXPIRED_SHARE * lifetime)


def backoff_window(failures: int) -> float:
    """Return the longest wait, in seconds, after this many failures in a row (1 or more)."""
    # 1.6 ** 9 is above the cap already; a larger power would overflow one day.
    return min(_BACKOFF_CAP, _BACKOFF_START * _BACKOFF_FACTOR ** min(failures - 1, 10))


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
        refresh_timeout: Seconds that one refresh may take, whatever the source does inside.
        close_timeout: Seconds that `aclose` waits for a cancelled refresh to end; one that honours
            cancellation needs none of them.
        clock: Wall and monotonic time.
        rng: Randomness for jitter and back-off.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        audience: str = "",
        request: AiohttpRequest | None = None,
        keep_warm: bool = False,
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
        self._source = source
        self._audience = audience
        self._http = AiohttpRequest() if request is None else request
        self._owns_http = request is None
        self._keep_warm = keep_warm
        self._refresh_timeout = refresh_timeout
        self._close_timeout = close_timeout
        self._clock: Clock = SystemClock() if clock is None else clock
        self._rng = random.Random() if rng is None else rng  # noqa: S311 - spreads load, guards nothing
        self._jitter = self._rng.random()
        self._flight = SingleFlight(self._refresh)
        self._entry: _Entry | None = None
        self._generation = 0
        self._failures = 0
        self._last_error: AuthRpcError | None = None
        self._next_attempt_at = 0.0
        self._warmer: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

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
        return TokenCache(source, audience=whose, request=self._http, clock=self._clock)

    async def load(self) -> None:
        """Let the source read its files, so that a mistake in them shows before the first RPC.

        Raises:
            ConfigurationError: The source cannot be used.
        """
        self.check_usable()
        if isinstance(self._source, LoadableTokenSource):
            await self._source.load(self._token_request())
            self.check_usable()  # it may have been closed meanwhile
        self._start_warmer()

    def current(self) -> Token | None:
        """Return the token if it can be used now, and start a refresh behind it if it is stale.

        Never waits. Must be called on the running loop.
        """
        entry = self._entry
        if entry is None:
            return None
        now = self._clock.time()
        if now < entry.stale_at:
            return entry.token
        if now >= entry.expired_at:
            return None
        # Check and start without an await between them, or two callers would both start.
        if not self._closed and self._clock.monotonic() >= self._next_attempt_at:
            self._flight.start()
        return entry.token

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

    def reject(self, token: Token) -> bool:
        """Take back a token that a server refused.

        Many calls may be refused with the same token: the first takes it back, the others find that
        out here, and together they cause one refresh.

        Returns:
            Whether it is worth sending the call again. False where the token is so young that the
            refusal must be meant; then the token stays.
        """
        # Check and set without an await between them.
        entry = self._entry
        if entry is None or entry.token is not token:
            return True
        if self._clock.monotonic() - entry.fetched_at < _REFUSAL_IS_REAL_BELOW_AGE:
            return False
        self._entry = None
        return True

    def status(self) -> TokenStatus:
        """Return what the cache knows now."""
        entry, wait = self._entry, self._next_attempt_at - self._clock.monotonic()
        return TokenStatus(
            state=TokenState.EXPIRED if entry is None else entry.state(self._clock.time()),
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
        self._entry = None
        if self._warmer is not None:
            self._warmer.cancel()
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

    def _start_warmer(self) -> None:
        if self._keep_warm and self._warmer is None:
            self._warmer = asyncio.get_running_loop().create_task(
                self._refresh_when_stale(), name="aio_authgrpc keep_warm"
            )

    def _token_request(self) -> TokenRequest:
        return TokenRequest(http=self._http, audience=self._audience, time=self._clock.time())

    async def _refresh(self) -> Token | AuthRpcError:
        """Fetch one token and keep it; the body of the flight. A failure is returned, not raised."""
        budget = asyncio.timeout(self._refresh_timeout)
        try:
            async with budget:
                token = await self._source.fetch(self._token_request())
            return self._keep(token)
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

    def _keep(self, token: Token) -> Token:
        fetched: object = token
        if not isinstance(fetched, Token):
            raise ConfigurationError(
                f"the source returned {type(fetched).__name__}, not an aio_authgrpc.Token.",
                field="credentials",
            )
        now = self._clock.time()
        stale_at, expired_at = limits(now=now, expires_at=token.expires_at, jitter=self._jitter)
        if now >= expired_at:
            raise TokenUnavailableError(
                "The source returned a token that has expired already.",
                hint="Compare this machine's clock with the token endpoint's.",
            )
        if self._closed:  # a source that ignored its cancellation: nothing is kept any more
            return token
        if self._last_error is not None:
            _log.info("The token refresh works again after %d failed attempts.", self._failures)
        fetched_at = self._clock.monotonic()
        self._entry = _Entry(token, stale_at=stale_at, expired_at=expired_at, fetched_at=fetched_at)
        self._generation += 1
        self._failures, self._last_error, self._next_attempt_at = 0, None, 0.0
        return token

    def _record(self, error: AuthRpcError) -> AuthRpcError:
        self._failures += 1
        delay = self._rng.uniform(0, backoff_window(self._failures))
        self._next_attempt_at = self._clock.monotonic() + delay
        if self._failures == 1:  # once in a row, not once an attempt
            _log.warning("The token refresh failed: %s", error)
        self._last_error = error
        return error

    async def _refresh_when_stale(self) -> None:
        """The body of the `keep_warm` task: sleep until a refresh is due, start it, and so on."""
        while not self._closed:
            due_in = 0.0 if self._entry is None else self._entry.stale_at - self._clock.time()
            due_in = max(due_in, self._next_attempt_at - self._clock.monotonic())
            if due_in > 0:
                await self._clock.sleep(min(due_in, _BACKOFF_CAP))  # a suspended machine notices in a minute
                continue
            with suppress(FlightCancelledError):
                await self._flight.join()
