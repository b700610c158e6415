"""`AuthorizedChannel`, a grpc.aio channel that adds the token to every RPC of another."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
import grpc.aio

from aio_authgrpc._calls.authorizer import Authorizer
from aio_authgrpc._calls.multi_callables import (
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from aio_authgrpc._channels.rotating import RotatingChannel
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc._tokens.metadata import Metadata, checked_header, fixed_metadata

Request = TypeVar("Request")
Response = TypeVar("Response")

# The answer is there already, unless the connection comes up in this very moment.
_FAILURE_TIMEOUT = 1.0


class AuthorizedChannel(grpc.aio.Channel):
    """A `grpc.aio.Channel` that adds a token to every RPC of another channel, in all four arities.

    Any generated stub takes it. Made on the loop that uses it, and closed with it: `await
    channel.close()`, or `async with`.

    Args:
        channel: The channel that carries the RPCs. It is closed with this one.
        auth: Where the tokens are.
        header: The metadata key that they go to.
        metadata: What else every RPC carries.
        audience: For whom the tokens of other identities are (see `identity`); that of `auth` if None.
        close_auth: What closing the channel awaits last, such as `auth.aclose`. None leaves `auth` open,
            for whoever made it to close.
        in_the_clear: The target to name in a warning when another identity is first used, where `channel`
            is a plaintext one to another machine and carries no secret so far. None does not warn.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        auth: TokenCache,
        *,
        header: str = "authorization",
        metadata: Metadata = (),
        audience: str | None = None,
        close_auth: Callable[[], Awaitable[None]] | None = None,
        in_the_clear: str | None = None,
    ) -> None:
        self._closed = True  # until it is complete, so that __del__ has nothing to say
        self._channel = channel
        # Generated stubs pass `_registered_method`, which the type stubs of grpc.aio.Channel lack.
        self._untyped_channel: Any = channel
        self._auth = auth
        self._close_auth = close_auth
        header = checked_header(header)
        fixed = fixed_metadata(header, None, None, metadata)
        rotating = cast("RotatingChannel[object]", channel) if isinstance(channel, RotatingChannel) else None
        self._authorizer = Authorizer(
            auth,
            header=header,
            metadata=fixed,
            audience=audience,
            in_the_clear=in_the_clear,
            connection=rotating,
        )
        self._closed = False

    @property
    def auth(self) -> TokenCache:
        """The token cache; `channel.auth.status()` tells its state."""
        return self._auth

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnaryMultiCallable[Request, Response]:
        """See `grpc.aio.Channel.unary_unary`."""
        inner: grpc.aio.UnaryUnaryMultiCallable[Request, Response] = self._untyped_channel.unary_unary(
            method, request_serializer, response_deserializer, _registered_method
        )
        return UnaryUnaryMultiCallable(inner, self._authorizer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStreamMultiCallable[Request, Response]:
        """See `grpc.aio.Channel.unary_stream`."""
        inner: grpc.aio.UnaryStreamMultiCallable[Request, Response] = self._untyped_channel.unary_stream(
            method, request_serializer, response_deserializer, _registered_method
        )
        return UnaryStreamMultiCallable(inner, self._authorizer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnaryMultiCallable[Request, Response]:
        """See `grpc.aio.Channel.stream_unary`."""
        inner: grpc.aio.StreamUnaryMultiCallable[Request, Response] = self._untyped_channel.stream_unary(
            method, request_serializer, response_deserializer, _registered_method
        )
        return StreamUnaryMultiCallable(inner, self._authorizer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStreamMultiCallable[Request, Response]:
        """See `grpc.aio.Channel.stream_stream`."""
        inner: grpc.aio.StreamStreamMultiCallable[Request, Response] = self._untyped_channel.stream_stream(
            method, request_serializer, response_deserializer, _registered_method
        )
        return StreamStreamMultiCallable(inner, self._authorizer)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel.get_state`."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel.wait_for_state_change`."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the server is connected; the token is not asked for."""
        await self._channel.channel_ready()

    async def connection_failure(self) -> grpc.aio.AioRpcError | None:
        """Return why gRPC has failed to connect, in its own words; None where it has not, or still tries.

        gRPC tells that to RPCs alone. One on a channel that has failed ends at once, before it is sent, so
        this makes one, without a token.
        """
        if self.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            return None
        call: Any = self._untyped_channel.unary_unary("/aio_authgrpc.Connection/Failure")
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
        ends_at = monotonic() + (grace or 0.0)
        self._authorizer.refuse_new_calls()
        try:
            await self._authorizer.wait_for_waiting_calls(grace or 0.0)
            await self._authorizer.wait_for_running_calls(ends_at - monotonic())
        finally:  # whoever cancels the wait gets no more of it
            self._authorizer.abandon_waiting_calls()
            try:
                # Without a grace: a channel of grpc.aio whose close() is cancelled stays open for good.
                await self._channel.close()
            finally:
                await self._close_identities()

    async def _close_identities(self) -> None:
        try:
            await self._authorizer.aclose_identities()
        finally:
            if self._close_auth is not None:
                await self._close_auth()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(
                "An AuthorizedChannel was never closed.", ResourceWarning, source=self, stacklevel=2
            )
