"""What happens to a token, as typed events: for metrics, logs and tests."""

from aio_authgrpc._tokens.events import (
    CallReplayed,
    EventCallback,
    EventStream,
    RefreshFailed,
    RefreshStarted,
    RefreshSucceeded,
    StaleServed,
    TokenEvent,
    TokenRejected,
)

__all__ = [
    "CallReplayed",
    "EventCallback",
    "EventStream",
    "RefreshFailed",
    "RefreshStarted",
    "RefreshSucceeded",
    "StaleServed",
    "TokenEvent",
    "TokenRejected",
]
