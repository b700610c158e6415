"""Interceptors above the token: they see a call before it has its token, and until its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import grpc.aio

from aio_authgrpc.errors import ConfigurationError

_KINDS: dict[str, type[grpc.aio.ClientInterceptor]] = {
    "unary_unary": grpc.aio.UnaryUnaryClientInterceptor,
    "unary_stream": grpc.aio.UnaryStreamClientInterceptor,
    "stream_unary": grpc.aio.StreamUnaryClientInterceptor,
    "stream_stream": grpc.aio.StreamStreamClientInterceptor,
}
# gRPC looks a name up at a channel's first RPC, and this channel has none.
_NEVER_CONNECTED = "interceptors.invalid"


class OuterInterceptors:
    """The interceptors of a channel that run above its token, a list for each arity, the outermost first.

    Libraries append to the lists of a channel, and their interceptors print what they see. Above the token
    there is no secret: the metadata is the caller's own.

    Attributes:
        lists: The interceptors by arity, such as `"unary_unary"`. They may change at any time.
        channels: What was made to run them; closing it cancels the calls that are with an interceptor.
    """

    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = {arity: [] for arity in _KINDS}
        self.channels: list[grpc.aio.Channel] = []

    def add(self, interceptors: Iterable[grpc.aio.ClientInterceptor]) -> None:
        """Append each one to the lists of all arities that it intercepts."""
        for interceptor in interceptors:
            for arity, kind in _KINDS.items():
                if isinstance(interceptor, kind):
                    self.lists[arity].append(interceptor)

    def engine(self) -> grpc.aio.Channel:
        """Return the channel that runs the lists, made at its first use.

        It never connects: the last interceptor starts the RPC elsewhere.
        """
        if not self.channels:
            self.channels.append(grpc.aio.insecure_channel(target=_NEVER_CONNECTED))
        return self.channels[0]


class InterceptedMethod:
    """One RPC method above the token: its calls go through the interceptors, then to `make_below()`.

    Args:
        outer: The interceptors of the channel.
        arity: The channel's method that was asked, such as `"unary_unary"`.
        path: The RPC method's, `/package.Service/Method`.
        make: Asks the same of another channel.
        make_below: Makes the multi-callable that adds the token.
    """

    def __init__(
        self,
        outer: OuterInterceptors,
        arity: str,
        path: str,
        make: Callable[[grpc.aio.Channel], Any],
        make_below: Callable[[], Any],
    ) -> None:
        self.interceptors = outer.lists[arity]
        self._outer = outer
        self._arity = arity
        self._path = path
        self._make = make
        self.make_below = make_below
        self._made: tuple[Callable[..., Any], _StartBelow] | None = None

    def over(self, make_below: Callable[[], Any]) -> InterceptedMethod:
        """Return the same method over another multi-callable."""
        return InterceptedMethod(self._outer, self._arity, self._path, self._make, make_below)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return grpc.aio's intercepted call, whose task runs the interceptors."""
        engine = self._outer.engine()
        if self._made is None:
            self._made = (self._make(engine), _StartBelow(self._path, self.make_below()))
        intercepted, start = self._made
        # Replaced, not appended to: an instrumentation gives each new channel an interceptor of its own, and
        # has one on the channel below already.
        running: list[Any] = getattr(engine, f"_{self._arity}_interceptors")
        running[:] = [*self.interceptors, _START]
        token = _start.set(start)  # for the call's task, which copies this context
        try:
            return intercepted(*args, **kwargs)
        finally:
            _start.reset(token)


class _StartBelow:
    """Starts a call of one method with its token."""

    def __init__(self, path: str, below: Callable[..., Any]) -> None:
        self._path = path
        self._below = below

    def __call__(self, details: Any, request: Any) -> Any:
        if details.method != self._path.encode():
            raise ConfigurationError(
                f"an interceptor changed the method of {self._path}.",
                field="interceptors",
                hint="Pass it to connect(interceptors=...): there it runs below the token, and may do so.",
            )
        return self._below(
            request,
            timeout=details.timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )


_start: ContextVar[_StartBelow] = ContextVar("aio_authgrpc call below the interceptors")


class _Start(
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
    grpc.aio.StreamStreamClientInterceptor,
):
    """The last interceptor of every call."""

    async def _start(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        del continuation  # it would send the RPC on the channel that never connects
        return _start.get()(client_call_details, request)

    intercept_unary_unary: Any = _start
    intercept_unary_stream: Any = _start
    intercept_stream_unary: Any = _start
    intercept_stream_stream: Any = _start


_START = _Start()
