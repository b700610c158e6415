"""The hot path: the multi-callables, which add the token to a call and hand it back at once."""

from __future__ import annotations

from asyncio import _get_running_loop  # pyright: ignore[reportPrivateUsage]  # documented; None without a loop
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar, NoReturn, TypeVar

import grpc
import grpc.aio

from aio_authgrpc._calls.arities import StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall
from aio_authgrpc._calls.authorizer import Authorizer, CallMetadata
from aio_authgrpc._calls.call import AuthorizedCall
from aio_authgrpc._calls.identity import current_identities
from aio_authgrpc._calls.identity_authorizers import IdentityAuthorizers
from aio_authgrpc._calls.mistakes import NotSynchronous
from aio_authgrpc._calls.open_calls import OpenCalls
from aio_authgrpc._calls.sent_metadata import metadata_of_one, watched_by
from aio_authgrpc._channels.interceptors import InterceptedMethod
from aio_authgrpc._channels.rotating import RotatingChannel
from aio_authgrpc._checks.frames import without_frames
from aio_authgrpc.errors import ConfigurationError

Request = TypeVar("Request")
Response = TypeVar("Response")


class MethodContext:
    """What all methods of a channel have in common.

    `wait_for_ready` waits for `connection`. `mark` is applied to a method below interceptors.
    """

    __slots__ = ("authorizer", "connection", "identities", "mark", "on_done", "open_calls")

    def __init__(
        self,
        open_calls: OpenCalls,
        authorizer: Authorizer,
        identities: IdentityAuthorizers,
        connection: RotatingChannel[Any] | None,
        mark: Callable[[Callable[..., Any]], Callable[..., Any]] | None,
    ) -> None:
        self.open_calls = open_calls
        self.on_done = open_calls.on_done  # one bound method for all calls
        self.authorizer = authorizer
        self.identities = identities
        self.connection = connection
        self.mark = mark


class AuthorizedMethod(NotSynchronous):
    """One RPC method of a channel: `inner` starts its real calls.

    With `intercepted`, and interceptors there, calls go to it; they come back to a method without it.
    """

    call_class: ClassVar[Callable[..., AuthorizedCall]]

    def __init__(
        self,
        inner: Callable[..., Any],
        context: MethodContext,
        intercepted: InterceptedMethod | None = None,
    ) -> None:
        self.inner = inner
        self.watched = watched_by(inner)
        self._context = context
        # What each call looks at, once more.
        self.open_calls = context.open_calls
        self.on_done = context.on_done
        self._authorizer = context.authorizer
        self._identities = context.identities
        self._intercepted = intercepted
        self._interceptors: list[Any] = [] if intercepted is None else intercepted.interceptors

    def connection_to_wait_for(self) -> RotatingChannel[Any] | None:
        connection = self._context.connection
        if connection is None or connection.get_state() is grpc.ChannelConnectivity.READY:
            return None
        return connection

    def _above_token(
        self,
        request: Any,
        timeout: float | None,
        metadata: CallMetadata | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Any:
        assert self._intercepted is not None
        call = self._intercepted.begin(
            self._below_interceptors,
            request,
            timeout=timeout,
            metadata=metadata,
            credentials=credentials,
            wait_for_ready=wait_for_ready,
            compression=compression,
        )
        self.open_calls.add_intercepted(call)
        return call

    def _below_interceptors(self) -> Any:
        made: Any = type(self)(self.inner, self._context)
        return made if self._context.mark is None else self._context.mark(made)


class RequestMethod(AuthorizedMethod):
    """A method that takes one request."""

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: CallMetadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Start the RPC; see `grpc.aio.UnaryUnaryMultiCallable`.

        Raises:
            ConfigurationError: `metadata` holds a header that the channel fills, or `credentials` are
                given: they would add a second token to the channel's.
            ChannelClosedError, WrongEventLoopError: The channel cannot be used here.
        """
        open_calls = self.open_calls
        if open_calls.open_on is not _get_running_loop():
            open_calls.check()
        if self._interceptors:
            return self._above_token(request, timeout, metadata, credentials, wait_for_ready, compression)
        others = current_identities.get()
        authorizer = self._identities.of(others) if others else self._authorizer
        if credentials is not None:
            _refuse_call_credentials()
        try:
            own = () if metadata is None else authorizer.checked(metadata)
        except Exception as error:
            without_frames(error)  # they hold the metadata
            raise
        return self.call_class(self, authorizer, request, timeout, own, wait_for_ready, compression)


class RequestStreamMethod(AuthorizedMethod):
    """A method that takes a stream of requests."""

    def __call__(
        self,
        request_iterator: AsyncIterator[Any] | Iterator[Any] | None = None,
        timeout: float | None = None,
        metadata: CallMetadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Start the RPC; see `grpc.aio.StreamUnaryMultiCallable` and `RequestMethod` here.

        With a token at hand this returns the real call: a stream of requests cannot be sent again.
        """
        open_calls = self.open_calls
        if open_calls.open_on is not _get_running_loop():
            open_calls.check()
        if self._interceptors:
            request = request_iterator
            return self._above_token(request, timeout, metadata, credentials, wait_for_ready, compression)
        others = current_identities.get()
        authorizer = self._identities.of(others) if others else self._authorizer
        if credentials is not None:
            _refuse_call_credentials()
        try:
            own = () if metadata is None else authorizer.checked(metadata)
        except Exception as error:
            without_frames(error)  # they hold the metadata
            raise
        waits = wait_for_ready and self.connection_to_wait_for() is not None
        authorization = None if waits else authorizer.current()
        if authorization is None:
            return self.call_class(
                self, authorizer, request_iterator, timeout, own, wait_for_ready, compression
            )
        try:
            sent = authorization.metadata
            is_watched = self.watched._interceptors
            if is_watched or own:
                sent = metadata_of_one(own, sent, is_watched=bool(is_watched))
            call = self.inner(
                request_iterator,
                timeout=timeout,
                metadata=sent,
                wait_for_ready=wait_for_ready,
                compression=compression,
            )
        except Exception as error:
            without_frames(error)  # gRPC's hold the token
            raise
        open_calls.started[call] = authorization
        call.add_done_callback(self.on_done)
        return call


class UnaryUnaryMethod(RequestMethod, grpc.aio.UnaryUnaryMultiCallable[Request, Response]):
    """Calls an RPC with one request and one response."""

    call_class = UnaryUnaryCall


class UnaryStreamMethod(RequestMethod, grpc.aio.UnaryStreamMultiCallable[Request, Response]):
    """Calls an RPC with one request and many responses."""

    call_class = UnaryStreamCall


class StreamUnaryMethod(RequestStreamMethod, grpc.aio.StreamUnaryMultiCallable[Request, Response]):
    """Calls an RPC with many requests and one response."""

    call_class = StreamUnaryCall


class StreamStreamMethod(RequestStreamMethod, grpc.aio.StreamStreamMultiCallable[Request, Response]):
    """Calls an RPC with many requests and many responses."""

    call_class = StreamStreamCall


def _refuse_call_credentials() -> NoReturn:
    raise ConfigurationError(
        "the channel authenticates every call itself, and the server would get two tokens.",
        field="credentials",
        hint="Leave them out, or use a plain grpc.aio channel for this call.",
    )
