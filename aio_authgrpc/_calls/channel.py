"""`AuthorizedChannel`, a grpc.aio channel that adds the token to every RPC of another."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import grpc
import grpc.aio

from aio_authgrpc._calls.authorizer import Authorizer
from aio_authgrpc._calls.identity_authorizers import IdentityAuthorizers
from aio_authgrpc._calls.multi_callables import (
    AuthorizedMethod,
    StreamStreamMethod,
    StreamUnaryMethod,
    UnaryStreamMethod,
    UnaryUnaryMethod,
)
from aio_authgrpc._calls.open_calls import OpenCalls
from aio_authgrpc._channels.interceptors import InterceptedMethod, OuterInterceptors
from aio_authgrpc._channels.layer import ChannelLayer
from aio_authgrpc._channels.pool import close_all
from aio_authgrpc._channels.rotating import RotatingChannel
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc._tokens.metadata import Metadata, fixed_metadata
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


def _list_of(arity: str) -> property:
    def interceptors(channel: AuthorizedChannel) -> list[Any]:
        return channel._outer.lists[arity]  # pyright: ignore[reportPrivateUsage]  # a property of that class

    def assign(channel: AuthorizedChannel, given: Iterable[Any]) -> None:
        interceptors(channel)[:] = given

    return property(interceptors, assign)


class AuthorizedChannel(ChannelLayer):
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
            is a plaintext one to another machine and carries no secret so far. None does not warn.
        outer_interceptors: grpc.aio client interceptors that run above the token; see `connect`.
        replay: Whether a call that is refused as unauthenticated is sent once more; see `connect`.

    Raises:
        ConfigurationError: `header` or `metadata` cannot be sent.
        ChannelClosedError, WrongEventLoopError: `auth` was closed, or belongs to another loop.
    """

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
        outer_interceptors: Iterable[grpc.aio.ClientInterceptor] = (),
        replay: bool = True,
    ) -> None:
        self._closed = True  # until it is complete, so that __del__ has nothing to say
        super().__init__(channel)
        auth.check_usable()
        header = header_of(auth.source, header) or "authorization"
        other_headers = other_headers_of(auth.source)
        fixed = fixed_metadata({header, *other_headers}, None, None, metadata)
        self._auth = auth
        self._close_auth = close_auth
        self._replay = replay
        # What a caller may not send beside it: the tokens' headers, and that of an API key.
        reserved = {header, *other_headers, *(_API_KEY_HEADERS & {key for key, _ in fixed})}
        self._authorizer = Authorizer(auth, header=header, metadata=fixed, reserved=frozenset(reserved))
        self._identities = IdentityAuthorizers(
            self._authorizer, auth, other_headers=other_headers, audience=audience, in_the_clear=in_the_clear
        )
        self._open_calls = OpenCalls()
        self._outer = OuterInterceptors()
        self._outer.add(outer_interceptors)
        # A rotating channel alone can be another one by the time that it is ready.
        untyped: Any = channel
        self._connection = untyped if isinstance(channel, RotatingChannel) else None
        self._closed = False

    @property
    def auth(self) -> TokenCache:
        """The token cache; `channel.auth.status()` tells its state."""
        return self._auth

    # grpc.aio's own channels have these lists, and libraries append to them: google-api-core and google-cloud
    # clients, pymilvus. There is no public way to add an interceptor to a channel.
    _unary_unary_interceptors = _list_of("unary_unary")
    _unary_stream_interceptors = _list_of("unary_stream")
    _stream_unary_interceptors = _list_of("stream_unary")
    _stream_stream_interceptors = _list_of("stream_stream")

    def _multi_callable(
        self, arity: str, path: str, make: Callable[[grpc.aio.Channel], Any]
    ) -> AuthorizedMethod:
        method = partial(
            _METHODS[arity],
            make(self._channel),
            self._open_calls,
            self._authorizer,
            self._identities,
            self._connection,
            self._replay,
        )
        return method(InterceptedMethod(self._outer, arity, path, make, method))

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
        """Refuse new RPCs at once, and end those under way. Calling it again does nothing.

        Args:
            grace: Seconds to let RPCs finish, those included that wait for their token; None or 0
                cancels them now. A call that waits for its token gets `ChannelClosedError`. Cancelling
                this method ends the grace, and closes all the same.
        """
        if self._closed:
            return
        self._closed = True
        self._open_calls.close()
        try:
            await self._open_calls.finish(grace or 0.0)
        finally:  # also where the grace was cut short
            self._open_calls.abandon_waiting()
            try:
                # Without a grace: a channel of grpc.aio whose close() is cancelled stays open for good.
                await close_all([*self._outer.channels, self._channel], None)
            finally:
                await self._close_tokens()

    async def _close_tokens(self) -> None:
        try:
            await self._identities.aclose()
        finally:
            if self._close_auth is not None:
                await self._close_auth()

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(
                "An AuthorizedChannel was never closed.", ResourceWarning, source=self, stacklevel=2
            )
