"""Whether a token is fresh, and how long to wait before the next attempt: decisions, without I/O."""

from __future__ import annotations

import enum
import math
import sys

from aio_authgrpc._checks.values import FrozenValue
from aio_authgrpc._loop.clock import Clock
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import AuthRpcError

# Seconds. Google's clients refresh 3 min 45 s ahead: the metadata server hands out the old token until 4 min
# before its end. A token that lives for less than 19 min is refreshed after four fifths of its life.
STALE_WINDOW = 225.0
_STALE_SHARE = 0.20
# Processes that started together should not refresh together: each up to a quarter of the window later.
_JITTER_SHARE = 0.25
# Seconds. The end of a token's life is left unused: the RPC has to arrive, and clocks differ.
EXPIRED_WINDOW = 30.0
_EXPIRED_SHARE = 0.05
# Seconds for which one look at both clocks holds, unless the wall clock was set back.
_BELIEVED_FOR = 5.0
# Seconds. A token refused this soon after it was fetched cannot be outdated.
_REFUSAL_IS_MEANT_BELOW_AGE = 10.0
# Seconds. The back-off of gRPC's connection attempts with a shorter cap: a token is worth a request a minute.
_BACKOFF_START = 1.0
_BACKOFF_FACTOR = 1.6
_BACKOFF_CAP = 60.0
# Seconds. Callers wait while a refresh pauses: a lost connection is tried again soon.
_FIRST_PAUSE = 0.2


class TokenState(enum.Enum):
    """How good the cached token is."""

    FRESH = "fresh"
    """The token is served, and nothing else happens."""
    STALE = "stale"
    """The token is served while a new one is fetched in the background."""
    EXPIRED = "expired"
    """The token is no longer served, or there is none: callers wait for a new one."""


class TokenStatus(FrozenValue):
    """What a `TokenCache` knows at one moment, without a secret. Instants are seconds since the epoch.

    Attributes:
        state: Fresh, stale or expired; expired as well where there is no token.
        expires_at: When the token expires; None without a token, or for one that never does.
        generation: How many tokens the cache has fetched so far.
        last_error: Why the last refresh failed; None after one that succeeded.
        next_attempt_at: The wall time before which no refresh is tried; None if one may start at once.
    """

    state: TokenState
    expires_at: float | None
    generation: int
    last_error: AuthRpcError | None
    next_attempt_at: float | None


def limits(*, now: float, expires_at: float | None, jitter: float) -> tuple[float, float]:
    """Return the wall times at which a token fetched now becomes stale, and expired.

    A `jitter` of 1.0 makes it stale later by the whole of the jitter's share, 0.0 by nothing.
    """
    if expires_at is None:
        return sys.float_info.max, sys.float_info.max
    lifetime = expires_at - now
    window = min(STALE_WINDOW, _STALE_SHARE * lifetime)
    stale_at = expires_at - window * (1 - _JITTER_SHARE * jitter)
    return stale_at, expires_at - min(EXPIRED_WINDOW, _EXPIRED_SHARE * lifetime)


def backoff_window(failures: int) -> float:
    """Return the longest wait, in seconds, after this many failed refreshes in a row (1 or more)."""
    # 1.6 ** 9 is above the cap; a power that grows without limit would overflow after 1500 failures.
    return min(_BACKOFF_CAP, _BACKOFF_START * _BACKOFF_FACTOR ** min(failures - 1, 10))


def pause_window(attempts: int) -> float:
    """Return the longest pause, in seconds, after this many failed attempts of one refresh (1 or more)."""
    return _FIRST_PAUSE * 2.0 ** (attempts - 1)


class CachedToken:
    """A token with its limits on both clocks.

    Its age is the larger of the ages by the two clocks. The monotonic clock stands still while the machine is
    suspended, and the wall clock may be set back.

    It was fetched `age` seconds ago. With `due` the source had it already and has yet to fetch another: it is
    stale, and of unknown age.

    Attributes:
        fetched_at: Monotonic time; all other instants are wall time.
        lifetime: Seconds that were left of its life then; None for ever.
        sure_from, sure_until: Where the token is fresh by the last look at both clocks.
        stale_was_said, refusal_was_said: Whether `StaleServed`, and `TokenRejected`, were emitted for it.
    """

    def __init__(
        self, token: Token, *, clock: Clock, jitter: float, due: bool = False, age: float = 0.0
    ) -> None:
        now, monotonic = clock.time(), clock.monotonic()
        self.token = token
        self.fetched_at = -math.inf if due else monotonic - age
        self.lifetime = None if token.expires_at is None else token.expires_at - now
        self.stale_at, self.expired_at = limits(now=now - age, expires_at=token.expires_at, jitter=jitter)
        if due:
            self.stale_at = now
        # By how much the wall clock is ahead; with it, the monotonic clock tells wall time as well.
        self._ahead = now - monotonic
        # Never longer than the part of the token's life that is left unused at its end.
        unused = _BELIEVED_FOR if token.expires_at is None else token.expires_at - self.expired_at
        self._believed_for = min(_BELIEVED_FOR, unused)
        self._believe(now)
        self.stale_was_said = self.refusal_was_said = False

    def state(self, now: float, monotonic: float) -> TokenState:
        oldest = max(now, monotonic + self._ahead)
        if oldest < self.stale_at:
            return TokenState.FRESH
        return TokenState.STALE if oldest < self.expired_at else TokenState.EXPIRED

    def look(self, now: float, monotonic: float) -> TokenState:
        """Return the state, and if it is fresh, move the window in which the next look can be left out."""
        state = self.state(now, monotonic)
        if state is TokenState.FRESH:
            self._believe(now)
        return state

    def stale_in(self, now: float, monotonic: float) -> float:
        return self.stale_at - max(now, monotonic + self._ahead)

    def expired_in(self, now: float, monotonic: float) -> float:
        return self.expired_at - max(now, monotonic + self._ahead)

    def refusal_is_meant(self, monotonic: float, challenge: str) -> bool:
        """Return whether a server that refused the token would refuse a new one as well.

        A token of insufficient scope is good (RFC 6750, section 3.1).
        """
        is_young = monotonic - self.fetched_at < _REFUSAL_IS_MEANT_BELOW_AGE
        return is_young or "insufficient_scope" in challenge

    def _believe(self, now: float) -> None:
        self.sure_from = now
        self.sure_until = min(now + self._believed_for, self.stale_at)
