"""How good a token still is, and when to try again: decisions alone, without I/O."""

from __future__ import annotations

import enum
import sys

from aio_authgrpc._loop.clock import Clock
from aio_authgrpc._tokens.token import Token

# Google's clients refresh 3 min 45 s ahead: the metadata server hands out the old token until 4 min
# before its end. A short-lived token gives a fifth of its life.
_STALE_WINDOW = 225.0
_STALE_SHARE = 0.20
# Many processes that started together should not refresh together: up to a quarter of the window later.
_JITTER_SHARE = 0.25
# The last seconds are not used: the RPC has to arrive, and clocks differ.
_EXPIRED_WINDOW = 30.0
_EXPIRED_SHARE = 0.05
# How long one look at both clocks is believed, as long as the wall clock stays near it.
_BELIEVED_FOR = 5.0
# A token refused this soon after it was fetched cannot be outdated.
_REFUSAL_IS_MEANT_BELOW_AGE = 10.0
# The back-off of gRPC's connection attempts, with a shorter cap: a token is worth a request a minute.
_BACKOFF_START = 1.0
_BACKOFF_FACTOR = 1.6
_BACKOFF_CAP = 60.0
# Within one refresh callers wait: a lost connection is tried again soon.
_FIRST_PAUSE = 0.2


class TokenState(enum.Enum):
    """How good the cached token is."""

    FRESH = "fresh"
    """It is served, and nothing else happens."""
    STALE = "stale"
    """It is served while a new one is fetched behind it."""
    EXPIRED = "expired"
    """There is none, or it is not served any more: callers wait for a new one."""


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
    """Return the longest wait, in seconds, after this many failed refreshes in a row (1 or more)."""
    # 1.6 ** 9 is above the cap already; a larger power would overflow one day.
    return min(_BACKOFF_CAP, _BACKOFF_START * _BACKOFF_FACTOR ** min(failures - 1, 10))


def pause_window(attempts: int) -> float:
    """Return the longest pause, in seconds, after this many failed attempts of one refresh (1 or more)."""
    return _FIRST_PAUSE * 2.0 ** (attempts - 1)


class CachedToken:
    """A token with its limits on both clocks.

    The wall clock knows of a machine that was suspended, the monotonic one of a wall clock that was set
    back: the token is as old as the older of the two says.

    Args:
        token: The token.
        clock: Dates the fetch as now.
        jitter: See `limits`.

    Attributes:
        token: As above.
        fetched_at: The monotonic time of the fetch.
        stale_at: The wall time from which it is stale.
        expired_at: The wall time from which it is not served.
        sure_from: Between this wall time
        sure_until: and this one it is fresh, without a look at the other clock.
        stale_was_said: For whoever says that only once.
        refusal_was_said: The same.
    """

    __slots__ = (
        "_ahead",
        "_believed_for",
        "expired_at",
        "fetched_at",
        "refusal_was_said",
        "stale_at",
        "stale_was_said",
        "sure_from",
        "sure_until",
        "token",
    )

    def __init__(self, token: Token, *, clock: Clock, jitter: float) -> None:
        now = clock.time()
        self.token = token
        self.fetched_at = clock.monotonic()
        self.stale_at, self.expired_at = limits(now=now, expires_at=token.expires_at, jitter=jitter)
        # What the wall clock was ahead of the monotonic one, which says what it should be later.
        self._ahead = now - self.fetched_at
        # Never longer than what is left unused at the token's end.
        unused = _BELIEVED_FOR if token.expires_at is None else token.expires_at - self.expired_at
        self._believed_for = min(_BELIEVED_FOR, unused)
        self._believe(now)
        self.stale_was_said = self.refusal_was_said = False

    def state(self, now: float, monotonic: float) -> TokenState:
        """Return how good the token is, at a wall time and a monotonic time of the same moment."""
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
        """Return in how many seconds it becomes stale; less than 0 where it has."""
        return self.stale_at - max(now, monotonic + self._ahead)

    def expired_in(self, now: float, monotonic: float) -> float:
        """Return in how many seconds it is not served any more; less than 0 where it has expired."""
        return self.expired_at - max(now, monotonic + self._ahead)

    def refusal_is_meant(self, monotonic: float, challenge: str) -> bool:
        """Return whether a server that refused the token would refuse a new one as well.

        Args:
            monotonic: The monotonic time of the refusal.
            challenge: The server's `www-authenticate`: a token of insufficient scope is good (RFC 6750, 3.1).
        """
        is_young = monotonic - self.fetched_at < _REFUSAL_IS_MEANT_BELOW_AGE
        return is_young or "insufficient_scope" in challenge

    def _believe(self, now: float) -> None:
        self.sure_from = now
        self.sure_until = min(now + self._believed_for, self.stale_at)
