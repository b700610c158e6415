"""Interceptors above the token: they see a call before it has its token, and until its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar, copy_context
from typing import Any

import grpc.aio

from aio_authgrpc.errors import ConfigurationError

_KINDS: dict[str, type[grpc.aio.ClientInterceptor]] = {
    "unary_unary": grpc.aio.UnaryUnaryClientInterceptor,
    "unary_stream": grpc.aio.UnaryStreamClientInterceptor,
    "stream_unary": grpc.aio.StreamUnaryClientInterceptor,
    "stream_stream": grpc.aio.StreamStreamClientInterceptor,
}
_log = logging.getLogger("aio_authgrpc")

# gRPC looks a name up at a channel's first RPC, and this channel has none.
_NEVER_CONNECTED = "engine.invalid"

Start = Callable[[Any, Any], Awaitable[Any]]
"""Takes grpc.aio's `ClientCallDetails` and the request, and returns the call."""


class OuterInterceptors:
    """The interceptors of a channel that run above its token, a list for each arity, the outermost first.

    Libraries append to the lists of a channel, and their interceptors print what they see. Above the token
    there is no secret: the metadata is the caller's own.

    They may change at any time.
    """

    __slots__ = tuple(_KINDS)

    def __init__(self, interceptors: Iterable[grpc.aio.ClientInterceptor] = ()) -> None:
        given = tuple(interceptors)
        for arity, kind in _KINDS.items():
            # Into the lists of all arities that it intercepts; grpc.aio stops at the first.
            setattr(self, arity, [one for one in given if isinstance(one, kind)])

    def of(self, arity: str) -> list[Any]:
        """Return the list of an arity, such as `"unary_unary"`."""
        interceptors: list[Any] = getattr(self, arity)
        return interceptors


def _list_of(arity: str) -> property:
    def interceptors(channel: Intercepted) -> list[Any]:
        return channel.outer_interceptors.of(arity)

    def assign(channel: Intercepted, given: Iterable[Any]) -> None:
        interceptors(channel)[:] = given

    return property(interceptors, assign)


class Intercepted:
    """The lists that grpc.aio's own channels have; there is no public way to add an interceptor to a channel.

    Libraries append to them, and some assign them: google-api-core, google-cloud clients, pymilvus.
    """

    outer_interceptors: OuterInterceptors

    _unary_unary_interceptors = _list_of("unary_unary")
    _unary_stream_interceptors = _list_of("unary_stream")
    _stream_unary_interceptors = _list_of("stream_unary")
    _stream_stream_interceptors = _list_of("stream_stream")


class Engine:
    """grpc.aio's intercepted calls, for calls that have asynchronous work to do before they can be started.

    It is a channel that never connects: the last interceptor starts the RPC elsewhere. Made on the loop that
    uses it, at the first such call.
    """

    __slots__ = ("_channel",)

    def __init__(self) -> None:
        self._channel: grpc.aio.Channel | None = None

    def begin(
        self, method: EngineMethod, interceptors: Iterable[Any], start: Start, request: Any, **arguments: Any
    ) -> Any:
        """Return a call of a method, whose task runs the interceptors, and then `start`."""
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(target=_NEVER_CONNECTED)
        last = _Last(start)
        # A list of the call's own: its task reads it later. In place of the channel's, not appended to it: an
        # instrumentation gives each new channel an interceptor, and has one on the channel below already.
        setattr(self._channel, f"_{method.arity}_interceptors", [*interceptors, last])
        token = _begun.set(last)  # for the call's task, which copies this context
        try:
            return method.make(self._channel)(request, **arguments)
        finally:
            _begun.reset(token)

    async def close(self) -> None:
        """Cancel the calls under way. No call can be begun after it."""
        if self._channel is None:
            return
        try:
            await self._channel.close()
        except Exception as error:  # noqa: BLE001 - grpc.aio fails on a call that an interceptor answered itself
            _log.warning("Calls with an interceptor could not be cancelled: %s", type(error).__name__)


class EngineMethod:
    """One RPC method as a channel is asked for it: `make` asks for a method of this arity."""

    __slots__ = ("arity", "make")

    def __init__(self, arity: str, make: Callable[[grpc.aio.Channel], Any]) -> None:
        self.arity = arity
        self.make = make


class InterceptedMethod:
    """One RPC method above the token: its calls go through the interceptors, then to the one below.

    Args:
        engine: Runs the interceptors.
        interceptors: Those of the method's arity.
        path: The RPC method's, `/package.Service/Method`.
        method: The method, as the engine is asked for it.
    """

    __slots__ = ("_below", "_engine", "_method", "_path", "interceptors")

    def __init__(
        self,
        engine: Engine,
        interceptors: list[Any],
        path: str,
        method: EngineMethod,
    ) -> None:
        self.interceptors = interceptors
        self._engine = engine
        self._path = path
        self._method = method
        self._below: Any = None

    def begin(self, make_below: Callable[[], Any], request: Any, **arguments: Any) -> Any:
        """Begin a call; `make_below` makes the multi-callable that adds the token, at the first one."""
        if self._below is None:
            self._below = make_below()
        return self._engine.begin(self._method, self.interceptors, self._start, request, **arguments)

    async def _start(self, details: Any, request: Any) -> Any:
        if details.method != self._path.encode():
            raise ConfigurationError(
                f"an interceptor changed the method of {self._path}.",
                field="interceptors",
                hint="Pass it to connect(interceptors=...): there it runs below the token, and may do so.",
            )
        return start_call(self._below, details, request, details.timeout)


def start_call(multi_callable: Any, details: Any, request: Any, timeout: float | None) -> Any:
    """Call a multi-callable with what the interceptors have left of the arguments."""
    return multi_callable(
        request,
        timeout=timeout,
        metadata=details.metadata,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


class _Last(
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
    grpc.aio.StreamStreamClientInterceptor,
):
    """The last interceptor of one call: it starts the RPC.

    An interceptor may hand its continuation to a task of its own, such as a queue's. The RPC is started in
    the context of its caller then, with the caller's identity.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._context = copy_context()

    async def _intercept(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        del continuation  # it would send the RPC on the channel that never connects
        starting = self._start(client_call_details, request)
        if _begun.get(None) is self:
            return await starting
        return await asyncio.create_task(_awaited(starting), context=self._context)

    intercept_unary_unary: Any = _intercept
    intercept_unary_stream: Any = _intercept
    intercept_stream_unary: Any = _intercept
    intercept_stream_stream: Any = _intercept


async def _awaited(starting: Awaitable[Any]) -> Any:
    return await starting


_begun: ContextVar[_Last | None] = ContextVar("aio_authgrpc call with interceptors", default=None)
"""The last interceptor of the call in whose task this runs."""
