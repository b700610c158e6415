"""What happens to a token, as typed events: for metrics, logs and tests. No event carries a secret."""

from __future__ import annotations

from collections.abc import Callable

from aio_authgrpc._checks.values import FrozenValue
from aio_authgrpc.errors import AuthRpcError


class TokenEvent(FrozenValue):
    """Base of all events: immutable, equal by value, built with keywords.

    Attributes:
        at: Wall time in seconds since the epoch.
    """

    at: float


class RefreshStarted(TokenEvent):
    """A refresh began: there is no usable token, or the token is stale."""


class RefreshSucceeded(TokenEvent):
    """A refresh fetched a token.

    Attributes:
        generation: How many tokens the cache has fetched so far, this one included.
        expires_at: When the token expires, in seconds since the epoch; None for never.
        attempts: How often the source was asked.
        duration: Seconds from the refresh's start to the token.
    """

    generation: int
    expires_at: float | None
    attempts: int
    duration: float


class RefreshFailed(TokenEvent):
    """A refresh failed. A token that is still usable is served on.

    Attributes:
        error: The reason; a call without a usable token raises a copy of it.
        attempts: How often the source was asked.
        duration: Seconds from the refresh's start to its failure.
        next_attempt_at: Wall time, in seconds since the epoch, before which no refresh is tried.
    """

    error: AuthRpcError
    attempts: int
    duration: float
    next_attempt_at: float


class StaleServed(TokenEvent):
    """A stale token was handed out; emitted once for each token.

    Attributes:
        expires_at: When the token expires, in seconds since the epoch.
    """

    expires_at: float | None


class TokenRejected(TokenEvent):
    """A server answered UNAUTHENTICATED to a call with this token; emitted once for each token.

    Attributes:
        taken_back: Whether the cache dropped the token. A token younger than 10 s is kept.
        challenge: The server's `www-authenticate` header, secrets cut out; empty without one.
    """

    taken_back: bool
    challenge: str


class CallReplayed(TokenEvent):
    """A refused call is sent once more, as soon as there is a new token."""


EventCallback = Callable[[TokenEvent], None]
"""Called at once, on the event loop; it must not block. The loop's exception handler gets what it raises."""
