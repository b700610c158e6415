"""What is told of calls to telemetry: their begin, their wait for a token, their attempts, their end."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

import grpc

from aio_authgrpc._calls.call_status import details_of, final_code
from aio_authgrpc._channels.layer import by_name
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc._tokens.metadata import Metadata


class CallTelemetry(Protocol):
    """One call, from the stub's call to its end."""

    @property
    def metadata(self) -> Metadata:
        """What the call sends for the telemetry, such as `traceparent`."""
        ...

    def waited_for_token(self, seconds: float) -> None:
        """Be told that the call has waited; more than once for a call that is sent again."""
        ...

    def begin_attempt(self) -> Callable[[grpc.StatusCode | None], None]:
        """Be told that an RPC is sent; what it returns is called with the RPC's code, None without one."""
        ...

    def end(self, code: grpc.StatusCode | None, details: str) -> None:
        """Be told how the call has ended."""
        ...


class ChannelTelemetry(Protocol):
    """The calls of one channel."""

    def begin_call(self, method: str) -> CallTelemetry:
        """Be told of a call of a method, `package.Service/Method`, in the context of its caller."""
        ...


class Telemetry(Protocol):
    """What `connect(telemetry=...)` takes, such as `aio_authgrpc.otel.OpenTelemetry`. It must not block."""

    def channel(self, target: str, auth: TokenCache, *, traced: bool) -> ChannelTelemetry:
        """Be told of a new channel.

        Args:
            target: What it connects to.
            auth: Its tokens: their events and their state.
            traced: Whether an instrumentation of gRPC's makes spans of the RPCs below.
        """
        ...


current_call: ContextVar[CallTelemetry | None] = ContextVar("aio_authgrpc call telemetry", default=None)
"""The call that is being made in this context."""


def observed_method(
    multi_callable: Callable[..., Any], telemetry: ChannelTelemetry, path: str
) -> Callable[..., Any]:
    """Return a multi-callable that tells of its calls."""
    method = path.removeprefix("/")

    def call(*args: Any, **kwargs: Any) -> Any:
        observed = telemetry.begin_call(method)
        arguments = by_name(args, kwargs)
        request = arguments.pop("request", None)
        arguments["metadata"] = (*(arguments.get("metadata") or ()), *observed.metadata)
        token = current_call.set(observed)
        try:
            begun = multi_callable(request, **arguments)
        except BaseException as error:
            observed.end(None, type(error).__name__)
            raise
        finally:
            current_call.reset(token)
        begun.add_done_callback(partial(_end, observed))
        return begun

    return call


def _end(observed: CallTelemetry, call: Any) -> None:
    observed.end(final_code(call), details_of(call))


def _end_attempt(end: Callable[[grpc.StatusCode | None], None], call: Any) -> None:
    end(final_code(call))


def observed_attempts(multi_callable: Callable[..., Any]) -> Callable[..., Any]:
    """Return a multi-callable of the channel below that tells of the RPCs."""

    def attempt(*args: Any, **kwargs: Any) -> Any:
        begun = multi_callable(*args, **kwargs)
        observed = current_call.get()
        if observed is not None:
            begun.add_done_callback(partial(_end_attempt, observed.begin_attempt()))
        return begun

    return attempt
