"""`AuthorizedChannel`, a grpc.aio channel that adds the token to every RPC of another."""

from __future__ import annotations

import random
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import lru_cache, partial
from typing import Any

import grpc
import grpc.aio

from aio_authgrpc._calls.authorizer import Authorizer
from aio_authgrpc._calls.identity_authorizers import MAX_IDENTITIES, IdentityAuthorizers
from aio_authgrpc._calls.identity_channel import WithIdentity
from aio_authgrpc._calls.mistakes import check_cache, check_channel
from aio_authgrpc._calls.multi_callables import (
    AuthorizedMethod,
    MethodContext,
    StreamStreamMethod,
    StreamUnaryMethod,
    UnaryStreamMethod,
    UnaryUnaryMethod,
)
from aio_authgrpc._calls.open_calls import OpenCalls
from aio_authgrpc._calls.plaintext import target_in_the_clear, warn_in_the_clear
from aio_authgrpc._calls.telemetry import (
    ChannelTelemetry,
    GuardedTelemetry,
    marked,
    observed_attempts,
    observed_method,
)
from aio_authgrpc._channels.interceptors import Engine, EngineMethod, InterceptedMethod, OuterInterceptors
from aio_authgrpc._channels.layer import ChannelLayer
from aio_authgrpc._channels.rotating import RotatingChannel
from aio_authgrpc._checks.arguments import check_seconds
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._sources.static import AnonymousTokenSource
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc._tokens.metadata import Metadata, fixed_metadata, holds_secret
from aio_authgrpc._tokens.source import header_of, other_headers_of

# The answer is there already, unless the connection comes up in this very moment.
_FAILURE_TIMEOUT = 1.0
_API_KEY_HEADERS = frozenset(("x-api-key", "x-goog-api-key"))
_METHODS: dict[str, type[AuthorizedMethod]] = {
    "unary_unary": UnaryUnaryMethod,
    "unary_stream": UnaryStreamMethod,
    "stream_unary": StreamUnaryMethod,
    "stream_stream": StreamStreamMethod,
}


class AuthorizedChannel(WithIdentity, ChannelLayer):
    """A `grpc.aio.Channel` that adds a token to every RPC of another channel, in all four arities.

    Any generated stub takes it. Made on the loop that uses it, and closed with it: `await
    channel.close()`, or `async with`.

    Args:
        channel: The channel that carries the RPCs. It is closed with this one.
        auth: Where the tokens are.
        header: The metadata key that they go to; the source's own, or `authorization`, if None.
        metadata: What else every RPC carries.
        audience: For whom the tokens of other identities are (see `identity`); that of `auth` if None.
        close_auth: What closing the channel awaits last, such as `auth.aclose`. None leaves `auth` open:
            the caller who made it closes it.
        in_the_clear: The target to name in a warning when another identity is first used, where `channel`
            is a plaintext one to another machine and carries no secret so far; "" does not warn. None finds
            out where `channel` is one of grpc.aio's, and warns at once if it carries a secret already.
        max_identities: How many other identities' tokens are kept (see `identity`).
        plaintext: Whether `channel` is a plaintext one, for what errors say; None if it is not known.
        replay: Whether a call that is refused as unauthenticated is sent once more; see `connect`.
        outer_interceptors: The interceptors that run above the token; none yet if None.
        telemetry: Is told of the calls.
        rng: The randomness of pauses before a call whose stream was refused is sent again; for tests.

    Attributes:
        paths: Where it is a set, the methods that stubs ask for, `/package.Service/Method`, are added to it.

    Raises:
        ConfigurationError: `header` or `metadata` cannot be sent, or another argument cannot be used.
        ChannelClosedError, WrongEventLoopError: `auth` was closed, or belongs to another loop.
    """

    @hiding_arguments
    def __init__(  # noqa: PLR0913 - what it needs, and what `connect` passes on
        self,
        channel: grpc.aio.Channel,
        auth: TokenCache,
        *,
        header: str | None = None,
        metadata: Metadata = (),
        audience: str | None = None,
        close_auth: Callable[[], Awaitable[None]] | None = None,
        in_the_clear: str | None = None,
        max_identities: int = MAX_IDENTITIES,
        plaintext: bool | None = None,
        replay: bool = True,
        outer_interceptors: OuterInterceptors | None = None,
        telemetry: ChannelTelemetry | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._closed = True  # until it is complete, so that __del__ has nothing to say
        self._all_closed = False
        check_channel(channel)
        check_cache(auth)
        super().__init__(channel)
        auth.check_usable()
        header = header_of(auth.source, header) or "authorization"
        other_headers = other_headers_of(auth.source)
        fixed = fixed_metadata({header, *other_headers}, None, None, metadata)
        if in_the_clear is None:
            in_the_clear = target_in_the_clear(channel) or ""
            if in_the_clear and (not isinstance(auth.source, AnonymousTokenSource) or holds_secret(fixed)):
                warn_in_the_clear(in_the_clear, stacklevel=3)  # past the decorator
                in_the_clear = ""  # once
        self._auth = auth
        self._close_auth = close_auth
        # What a caller may not send beside it: the tokens' headers, and that of an API key.
        reserved = _one_for_all({header, *other_headers, *(_API_KEY_HEADERS & {key for key, _ in fixed})})
        self._authorizer = Authorizer(auth, header=header, metadata=fixed, reserved=reserved, replay=replay)
        self._identities = IdentityAuthorizers(
            self._authorizer,
            auth,
            other_headers=other_headers,
            audience=audience,
            in_the_clear=in_the_clear or None,
            max_identities=max_identities,
        )
        self._open_calls = OpenCalls(
            connect=partial(channel.get_state, try_to_connect=True), plaintext=plaintext, rng=rng
        )
        self.outer_interceptors = OuterInterceptors() if outer_interceptors is None else outer_interceptors
        self.paths: set[str] | None = None
        self._engine = Engine()
        self._telemetry = None if telemetry is None else GuardedTelemetry(telemetry)
        untyped: Any = channel
        self._methods = MethodContext(
            self._open_calls,
            self._authorizer,
            self._identities,
            # It alone can be another channel by the time that it is ready.
            connection=untyped if isinstance(channel, RotatingChannel) else None,
            mark=None if telemetry is None else marked,
        )
        self._closed = False

    @property
    def auth(self) -> TokenCache:
        """The token cache; `channel.auth.status()` tells its state.

        Channels of `connect()` with the same tokens share it. It is closed with the last of them, and its own
        `aclose()` does nothing.
        """
        return self._auth

    def _multi_callable(self, arity: str, path: str, make: Callable[[grpc.aio.Channel], Any]) -> Any:
        below = make(self._channel)
        if self.paths is not None:
            self.paths.add(path)
        interceptors = self.outer_interceptors.of(arity)
        intercepted = InterceptedMethod(self._engine, interceptors, path, EngineMethod(arity, make))
        telemetry = self._telemetry
        if telemetry is None:
            return _METHODS[arity](below, self._methods, intercepted)
        method: Any = _METHODS[arity](observed_attempts(below), self._methods, intercepted)
        return observed_method(arity, marked(method), telemetry, path)

    async def connection_failure(self) -> grpc.aio.AioRpcError | None:
        """Return why gRPC has failed to connect, in its own words; None where it has not, or still tries.

        gRPC tells that to RPCs alone. One on a channel that has failed ends at once, before it is sent, so
        this makes one, without a token.
        """
        if self.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            return None
        channel: Any = self._channel
        call = channel.unary_unary("/aio_authgrpc.ReplaceableConnection/Failure")
        try:
            await call(b"", timeout=_FAILURE_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            return error if error.code() is grpc.StatusCode.UNAVAILABLE else None
        return None

    async def close(self, grace: float | None = None) -> None:
        """Refuse new RPCs at once, and end those under way.

        Calling it again does nothing, ends the grace of the first call, or does the rest where that was
        cancelled.

        Args:
            grace: Seconds to let RPCs finish, those included that wait for their token; None or 0
                cancels them now. A call that waits for its token gets `ChannelClosedError`. Cancelling
                this method ends the grace, and closes all the same.

        Raises:
            ConfigurationError: `grace` is no number of seconds; nothing is closed.
        """
        if grace != 0:
            check_seconds("grace", grace, none_means="to end them at once")
        if self._all_closed:
            return
        self._closed = True
        self._open_calls.close()
        # Whatever the others raise. Each does what needs no wait at once: a cancelled scope of anyio cancels
        # every wait.
        async with AsyncExitStack() as closing:
            if self._close_auth is not None:
                closing.push_async_callback(self._close_auth)
            closing.push_async_callback(self._identities.aclose)
            # Without a grace: a channel of grpc.aio whose close() is cancelled stays open for good.
            closing.push_async_callback(self._channel.close)
            closing.push_async_callback(self._engine.close)
            closing.callback(self._open_calls.abandon_waiting)
            await self._open_calls.finish(grace or 0.0)
        self._all_closed = True

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(
                "An AuthorizedChannel was never closed: await its close(), or open it with 'async with'.",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


@lru_cache(maxsize=64)
def _one_of(keys: tuple[str, ...]) -> frozenset[str]:
    return frozenset(keys)


def _one_for_all(keys: set[str]) -> frozenset[str]:
    """Return the same object for the same keys: a service may have thousands of channels."""
    return _one_of(tuple(sorted(keys)))
