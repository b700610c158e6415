"""What is known about a cached token at one moment."""

from __future__ import annotations

from aio_authgrpc._checks.values import FrozenValue
from aio_authgrpc._loop.clock import Clock
from aio_authgrpc._tokens.freshness import CachedToken, TokenState
from aio_authgrpc._tokens.refresh import Refresher
from aio_authgrpc.errors import AuthRpcError


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


def status_of(entry: CachedToken | None, refresher: Refresher, clock: Clock) -> TokenStatus:
    """Return the status of a cached token, or of none, and its refresher. Changes nothing."""
    now, error, wait = clock.time(), refresher.last_error, refresher.next_attempt_in()
    return TokenStatus(
        state=TokenState.EXPIRED if entry is None else entry.state(now, clock.monotonic()),
        expires_at=None if entry is None else entry.token.expires_at,
        generation=refresher.generation,
        last_error=error,
        next_attempt_at=now + wait if error is not None and wait > 0 else None,
    )
