"""The hot path: the four multi-callables, which add the token to a call and hand it back at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import NoReturn, TypeVar
from weakref import ref

import grpc
import grpc.aio

from aio_authgrpc._calls.authorizer import Authorizer, CallMetadata
from aio_authgrpc._calls.call import (
    StreamStreamCall,
    StreamUnaryCall,
    UnaryStreamCall,
    UnaryUnaryCall,
    challenge_of,
    final_code,
)
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import ConfigurationError

Request = TypeVar("Request")
Response = TypeVar("Response")


class UnaryUnaryMultiCallable(grpc.aio.UnaryUnaryMultiCallable[Request, Response]):
    """Calls an RPC with one request and one response."""

    def __init__(
        self, inner: grpc.aio.UnaryUnaryMultiCallable[Request, Response], authorizer: Authorizer
    ) -> None:
        self._inner = inner
        self._authorizer = authorizer

    def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: CallMetadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.UnaryUnaryCall[Request, Response]:
        """Start the RPC; see `grpc.aio.UnaryUnaryMultiCallable`.

        Raises:
            ConfigurationError: `metadata` holds a header that the channel fills, or `credentials` are
                given: they would add a second identity to the channel's.
            ChannelClosedError, WrongEventLoopError: The channel cannot be used here.
        """
        authorizer = self._authorizer.for_caller()
        if wait_for_ready:
            authorizer = authorizer.once_ready()
        if credentials is not None:
            refuse_call_credentials()
        own = () if metadata is None else authorizer.checked(metadata)
        arguments = (request, wait_for_ready, compression)
        call: UnaryUnaryCall[Request, Response] = UnaryUnaryCall(
            authorizer, self._inner, arguments, timeout, own, may_replay=True
        )
        authorizer.running.add(ref(call, authorizer.running.discard))
        return call


class UnaryStreamMultiCallable(grpc.aio.UnaryStreamMultiCallable[Request, Response]):
    """Calls an RPC with one request and many responses."""

    def __init__(
        self, inner: grpc.aio.UnaryStreamMultiCallable[Request, Response], authorizer: Authorizer
    ) -> None:
        self._inner = inner
        self._authorizer = authorizer

    def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: CallMetadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.UnaryStreamCall[Request, Response]:
        """Start the RPC; see `grpc.aio.UnaryStreamMultiCallable` and `UnaryUnaryMultiCallable` here."""
        authorizer = self._authorizer.for_caller()
        if wait_for_ready:
            authorizer = authorizer.once_ready()
        if credentials is not None:
            refuse_call_credentials()
        own = () if metadata is None else authorizer.checked(metadata)
        arguments = (request, wait_for_ready, compression)
        call: UnaryStreamCall[Request, Response] = UnaryStreamCall(
            authorizer, self._inner, arguments, timeout, own, may_replay=True
        )
        authorizer.running.add(ref(call, authorizer.running.discard))
        return call


class StreamUnaryMultiCallable(grpc.aio.StreamUnaryMultiCallable[Request, Response]):
    """Calls an RPC with many requests and one response."""

    def __init__(
        self, inner: grpc.aio.StreamUnaryMultiCallable[Request, Response], authorizer: Authorizer
    ) -> None:
        self._inner = inner
        self._authorizer = authorizer

    def __call__(
        self,
        request_iterator: AsyncIterator[Request] | Iterator[Request] | None = None,
        timeout: float | None = None,
        metadata: CallMetadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamUnaryCall[Request, Response]:
        """Start the RPC; see `grpc.aio.StreamUnaryMultiCallable` and `UnaryUnaryMultiCallable` here.

        With a token at hand this returns the real call: a stream of requests cannot be sent again.
        """
        authorizer = self._authorizer.for_caller()
        if wait_for_ready:
            authorizer = authorizer.once_ready()
        if credentials is not None:
            refuse_call_credentials()
        own = () if metadata is None else authorizer.checked(metadata)
        authorization = authorizer.current()
        if authorization is not None:
            call = self._inner(
                request_iterator,
                timeout=timeout,
                metadata=own + authorization.metadata,
                wait_for_ready=wait_for_ready,
                compression=compression,
            )
            call.add_done_callback(partial(reject_if_refused, authorizer, authorization.token))
            authorizer.running.add(ref(call, authorizer.running.discard))
            return call
        arguments = (request_iterator, wait_for_ready, compression)
        waiting: StreamUnaryCall[Request, Response] = StreamUnaryCall(
            authorizer, self._inner, arguments, timeout, own
        )
        authorizer.running.add(ref(waiting, authorizer.running.discard))
        return waiting


class StreamStreamMultiCallable(grpc.aio.StreamStreamMultiCallable[Request, Response]):
    """Calls an RPC with many requests and many responses."""

    def __init__(
        self, inner: grpc.aio.StreamStreamMultiCallable[Request, Response], authorizer: Authorizer
    ) -> None:
        self._inner = inner
        self._authorizer = authorizer

    def __call__(
        self,
        request_iterator: AsyncIterator[Request] | Iterator[Request] | None = None,
        timeout: float | None = None,
        metadata: CallMetadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamStreamCall[Request, Response]:
        """Start the RPC; see `grpc.aio.StreamStreamMultiCallable` and `StreamUnaryMultiCallable` here."""
        authorizer = self._authorizer.for_caller()
        if wait_for_ready:
            authorizer = authorizer.once_ready()
        if credentials is not None:
            refuse_call_credentials()
        own = () if metadata is None else authorizer.checked(metadata)
        authorization = authorizer.current()
        if authorization is not None:
            call = self._inner(
                request_iterator,
                timeout=timeout,
                metadata=own + authorization.metadata,
                wait_for_ready=wait_for_ready,
                compression=compression,
            )
            call.add_done_callback(partial(reject_if_refused, authorizer, authorization.token))
            authorizer.running.add(ref(call, authorizer.running.discard))
            return call
        arguments = (request_iterator, wait_for_ready, compression)
        waiting: StreamStreamCall[Request, Response] = StreamStreamCall(
            authorizer, self._inner, arguments, timeout, own
        )
        authorizer.running.add(ref(waiting, authorizer.running.discard))
        return waiting


def refuse_call_credentials() -> NoReturn:
    """Refuse credentials of one call's own: the server would get two tokens."""
    raise ConfigurationError(
        "the channel authenticates every call itself, and the server would get two tokens.",
        field="credentials",
        hint="Leave them out, or use a plain grpc.aio channel for this call.",
    )


def reject_if_refused(authorizer: Authorizer, token: Token, call: grpc.aio.Call) -> None:
    """Take the token of a call that ended with UNAUTHENTICATED back; the call itself stays as it is."""
    if final_code(call) is grpc.StatusCode.UNAUTHENTICATED:
        authorizer.reject(token, challenge=challenge_of(call))
