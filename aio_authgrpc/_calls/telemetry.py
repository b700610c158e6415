"""Telemetry of calls: their begin, their wait for a token, their attempts, their end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

import grpc

from aio_authgrpc._calls.call_status import details_of, final_code
from aio_authgrpc._channels.layer import by_name, of_arity
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc._tokens.metadata import Metadata

_log = logging.getLogger("aio_authgrpc")


class CallTelemetry(Protocol):
    """One call, from the stub's call to its end."""

    @property
    def metadata(self) -> Metadata:
        """What the call sends for the telemetry, such as `traceparent`."""
        ...

    def waited_for_token(self, seconds: float) -> None:
        """Called when the call has waited; once more for a call that is sent again."""
        ...

    def begin_attempt(self) -> Callable[[grpc.StatusCode | None], None]:
        """Called when an RPC is sent. What it returns is called with the RPC's code, None without one."""
        ...

    def end(self, code: grpc.StatusCode | None, details: str) -> None:
        """Called when the call has ended."""
        ...


class ChannelTelemetry(Protocol):
    """The calls of one channel."""

    def begin_call(self, method: str) -> CallTelemetry:
        """Called for each call of a method, `package.Service/Method`, in the context of its caller."""
        ...


class Telemetry(Protocol):
    """What `connect(telemetry=...)` takes, such as `aio_authgrpc.otel.OpenTelemetry`.

    It must not block; what it raises during a call is logged.
    """

    def channel(self, target: str, auth: TokenCache, *, traced: bool) -> ChannelTelemetry:
        """Called for each new channel.

        Args:
            target: What it connects to.
            auth: Its tokens: their events and their state.
            traced: Whether an instrumentation of gRPC's makes spans of the RPCs below.
        """
        ...


current_call: ContextVar[CallTelemetry | None] = ContextVar("aio_authgrpc call telemetry", default=None)
"""The call that is being made in this context."""


class GuardedTelemetry:
    """The telemetry of a channel, whose errors are logged: they must not fail a call."""

    def __init__(self, telemetry: ChannelTelemetry) -> None:
        self._telemetry = telemetry

    def begin_call(self, method: str) -> CallTelemetry:
        with _logged():
            return _GuardedCall(self._telemetry.begin_call(method))
        return _NO_CALL


class _GuardedCall:
    def __init__(self, call: CallTelemetry) -> None:
        self._call = call

    @property
    def metadata(self) -> Metadata:
        with _logged():
            return self._call.metadata
        return ()

    def waited_for_token(self, seconds: float) -> None:
        with _logged():
            self._call.waited_for_token(seconds)

    def begin_attempt(self) -> Callable[[grpc.StatusCode | None], None]:
        with _logged():
            return partial(_end_logged, self._call.begin_attempt())
        return _ignore

    def end(self, code: grpc.StatusCode | None, details: str) -> None:
        with _logged():
            self._call.end(code, details)


class _NoCall:
    """What is told of a call whose telemetry has failed."""

    metadata: Metadata = ()

    def waited_for_token(self, seconds: float) -> None: ...

    def begin_attempt(self) -> Callable[[grpc.StatusCode | None], None]:
        return _ignore

    def end(self, code: grpc.StatusCode | None, details: str) -> None: ...


_NO_CALL = _NoCall()


def _ignore(code: grpc.StatusCode | None) -> None:
    del code


def _end_logged(end: Callable[[grpc.StatusCode | None], None], code: grpc.StatusCode | None) -> None:
    with _logged():
        end(code)


@contextmanager
def _logged() -> Generator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - users' code, which must not fail a call
        _log.warning("Telemetry failed: %s", type(error).__name__)


class _ObservedMethod:
    """One RPC method that tells of its calls."""

    def __init__(self, multi_callable: Callable[..., Any], telemetry: GuardedTelemetry, path: str) -> None:
        self._multi_callable = multi_callable
        self._telemetry = telemetry
        self._method = path.removeprefix("/")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        observed = self._telemetry.begin_call(self._method)
        arguments = by_name(args, kwargs)
        request = arguments.pop("request", None)
        metadata = observed.metadata
        if metadata:
            arguments["metadata"] = (*(arguments.get("metadata") or ()), *metadata)
        token = current_call.set(observed)
        try:
            begun = self._multi_callable(request, **arguments)
        except BaseException as error:
            observed.end(None, type(error).__name__)
            raise
        finally:
            current_call.reset(token)
        begun.add_done_callback(partial(_end, observed))
        return begun


def observed_method(
    arity: str, multi_callable: Callable[..., Any], telemetry: GuardedTelemetry, path: str
) -> Any:
    """Return a multi-callable that tells of its calls."""
    return of_arity(_ObservedMethod, arity)(multi_callable, telemetry, path)


def _end(observed: CallTelemetry, call: Any) -> None:
    observed.end(final_code(call), details_of(call))


def marked(multi_callable: Callable[..., Any]) -> Callable[..., Any]:
    """Return a multi-callable whose calls know their telemetry: a replay may be sent in another context."""

    def mark(*args: Any, **kwargs: Any) -> Any:
        call = multi_callable(*args, **kwargs)
        if hasattr(call, "observed"):
            call.observed = current_call.get()
        return call

    return mark


def observed_attempts(multi_callable: Callable[..., Any]) -> Callable[..., Any]:
    """Return a multi-callable of the channel below that tells of the RPCs."""

    def attempt(*args: Any, **kwargs: Any) -> Any:
        begun = multi_callable(*args, **kwargs)
        observed = current_call.get()
        if observed is not None:
            begun.add_done_callback(partial(_end_attempt, observed.begin_attempt()))
        return begun

    return attempt


def _end_attempt(end: Callable[[grpc.StatusCode | None], None], call: Any) -> None:
    end(final_code(call))
