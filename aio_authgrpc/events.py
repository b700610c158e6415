"""What happens to a token, as typed events, and what telemetry of calls implements."""

from aio_authgrpc._calls.telemetry import CallTelemetry, ChannelTelemetry, Telemetry
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
    "CallTelemetry",
    "ChannelTelemetry",
    "EventCallback",
    "EventStream",
    "RefreshFailed",
    "RefreshStarted",
    "RefreshSucceeded",
    "StaleServed",
    "Telemetry",
    "TokenEvent",
    "TokenRejected",
]
