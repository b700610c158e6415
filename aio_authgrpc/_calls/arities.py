"""The calls of the four arities: one request or many, one response or many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Generator
from typing import Any, TypeVar

import grpc
import grpc.aio

from aio_authgrpc._calls.call import AuthorizedCall
from aio_authgrpc._calls.call_status import end_unsent, is_over, raise_end
from aio_authgrpc._calls.mistakes import NotIterable
from aio_authgrpc._calls.questions import AnsweringCall
from aio_authgrpc._channels.connection_hints import explained

Request = TypeVar("Request")
Response = TypeVar("Response")


_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_AUDIENCE_NOTE = (
    "The token's audience is not the one that the service expects: pass that one as connect(audience=...), "
    "or to the source."
)


# A read that ends with one of these does not mean that the RPC could not be sent.
_ENDS_NO_CALL = (
    grpc.aio.AioRpcError,  # the call's status
    StopAsyncIteration,
    grpc.aio.UsageError,  # a mistake of the reader's, who may go on
    asyncio.InvalidStateError,
)


class ResponseCall(AnsweringCall):
    """A call whose errors say what to do, where the reason is known."""

    def _explained(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        if error.code() in _REFUSED and "audience" in (error.details() or "").lower():
            error.add_note(_AUDIENCE_NOTE)  # the server's own error stays what it is
        return explained(error, plaintext=self._method.open_calls.plaintext)


class UnaryResponseCall(ResponseCall):
    """A call that is awaited for its one response. What awaits it knows its end, and need not ask for it."""

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the response. As with a real call, cancelling the task that awaits it cancels the RPC."""
        while True:
            # See `_real_call_or_cancel`; without its coroutines, as ten thousand calls may wait here.
            while self._call is None:
                if self._end is not None:
                    raise_end(self._end)
                try:
                    yield from self._new_change()
                except asyncio.CancelledError:
                    self.cancel()
                    raise
            call = self._call
            self.is_awaited = True
            try:
                response: Any = yield from call.__await__()  # pyright: ignore[reportUnknownVariableType] - any
            except grpc.aio.AioRpcError as error:
                self.is_awaited = False
                self._method.on_done(call)
                if self._call is call:
                    raise self._explained(error)  # noqa: B904 - mostly the error itself, else it has its cause
            except BaseException as error:
                self.is_awaited = False
                self._end_awaiting(call, error)
                raise
            else:
                self.is_awaited = False
                try:
                    if self._callbacks or self._change is not None or self._more_changes is not None:
                        self._finish()
                    else:  # there is nobody else to tell
                        self._finished = True
                finally:
                    self._method.open_calls.end(call)
                return response  # pyright: ignore[reportUnknownVariableType] - any message

    def _end_awaiting(self, call: Any, error: BaseException) -> None:
        """Settle a real call whose await ended with a cancellation, an interceptor's error, or the loop."""
        if isinstance(error, asyncio.CancelledError):
            self._cancel_with(call)
        elif isinstance(error, Exception):
            end_unsent(call)
        if is_over(call):
            self._method.on_done(call)


class Responses:
    """The responses of a call, one after the other, as the asynchronous generator of a real call gives them.

    The first one, which decides about a replay, is the call's to read; then that generator goes on by itself.
    Another generator around it would cost a short stream more than all else here.
    """

    __slots__ = ("__weakref__", "call", "messages")

    def __init__(self, call: StreamResponseCall) -> None:
        # Until the first response came, or an error in its place.
        self.call: StreamResponseCall | None = call
        # The real call's iterator, from the first response on.
        self.messages: Any = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Awaitable[Any]:
        """Return the next response."""
        if self.messages is not None:
            return self.messages.__anext__()  # type: ignore[no-any-return]  # of any call
        return self.after_first() if self.call is None else self.call.first_response(self)

    async def after_first(self) -> Any:
        """Return the next response where the first one was asked for before, mostly by another task."""
        if self.messages is not None:
            return await self.messages.__anext__()
        if self.call is None:
            raise StopAsyncIteration
        raise RuntimeError("Another task waits for the first response: iterate in one task at a time.")

    async def aclose(self) -> None:
        """Iterate no further. The RPC goes on, as a real call's does.

        Raises:
            RuntimeError: Another task waits for a response.
        """
        if self.messages is not None:
            await self.messages.aclose()
        elif self.call is not None and self.call.first_is_asked_for:
            raise RuntimeError("Another task waits for the first response: close the iterator after it.")
        self.call = None


class StreamResponseCall(NotIterable, ResponseCall):
    """A call whose responses are iterated or read.

    A refusal before the first message may be replayed, one after it may not. A message may still be queued
    when the status arrives. Until the first message, who reads decides about the replay.
    """

    _responses: Responses | None = None  # where it is iterated
    first_is_asked_for = False
    _is_read = False  # rather than iterated
    _refusal: grpc.aio.AioRpcError | None = None  # that led to a second real call

    def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate over the responses. As with a real call, cancelling the iteration cancels the RPC."""
        if self._is_read:
            raise _mixed()
        if self._responses is None:
            self._responses = Responses(self)
        return self._responses

    async def first_response(self, responses: Responses) -> Any:
        """Return the first response; `responses` goes on from there."""
        if self.first_is_asked_for or responses.call is None:
            return await responses.after_first()
        self.first_is_asked_for = True
        try:
            while True:
                call = self._call
                if call is None or self._refusal is not None:
                    call = await self._next_to_read()
                messages = call.__aiter__()
                self.is_awaited = self._may_replay
                try:
                    message = await messages.__anext__()
                except BaseException as error:  # noqa: BLE001 - raised again, unless the call is sent again
                    self._end_reading(call, error)
                else:
                    responses.messages = messages
                    self._note_message(call)
                    return message
        finally:
            responses.call = None

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        if not self._is_read and self._finished:
            # A call that is over answers, whatever was used before.
            return await (await self._real_call()).read()
        if self._responses is not None:
            raise _mixed()
        self._is_read = True
        if self._call is not None and not self._may_replay:
            return await self._call.read()
        while True:
            call = await self._next_to_read()
            self.is_awaited = self._may_replay
            try:
                message = await call.read()
            except BaseException as error:  # noqa: BLE001 - raised again, unless the call is sent again
                self._end_reading(call, error)
            else:
                self._note_message(call)
                return message

    async def _next_to_read(self) -> Any:
        call = await self._real_call_or_cancel()
        if self._refusal is not None and call is self._refused:
            raise self._explained(self._refusal)  # it stands; gRPC may raise it once only
        return call

    def _note_message(self, call: Any) -> None:
        """Note the first message: from now on the call's end is its own."""
        self._may_replay = self.is_awaited = False
        if is_over(call):
            self._method.on_done(call)

    def _end_reading(self, call: Any, error: BaseException) -> None:
        """Decide about a replay where a read ended with an error; raise it unless the call is sent again."""
        self.is_awaited = False
        try:
            try:
                if isinstance(error, asyncio.CancelledError):
                    self._cancel_with(call)
                elif (
                    self._may_replay and isinstance(error, Exception) and not isinstance(error, _ENDS_NO_CALL)
                ):
                    end_unsent(call)
            finally:  # an interceptor's call may raise where it is cancelled
                if is_over(call):
                    self._method.on_done(call)
            if not isinstance(error, grpc.aio.AioRpcError):
                raise error
            if self._call is call:
                raise self._explained(error)
            self._refusal = error.with_traceback(None)  # which holds this call
        finally:
            del error  # else it would hold itself, by its traceback, and the call


class StreamRequestCall(AuthorizedCall):
    """A call whose requests are written. It is made only where the token has to be waited for."""

    _ends_with_connection_wait = False
    _may_replay = False

    @property
    def _done_writing_flag(self) -> bool:
        """grpc.aio's intercepted calls ask the call below for it."""
        return self._call is not None and bool(self._call._done_writing_flag)

    async def write(self, request: Any) -> None:
        """Send a request, once the call is started."""
        if self._request is not None:
            raise _mixed()
        if self._end is not None:
            raise asyncio.InvalidStateError("RPC already finished.")
        await (await self._real_call()).write(request)

    async def done_writing(self) -> None:
        """Say that no request follows. Does nothing on a call that is done."""
        if self._request is not None:
            raise _mixed()
        call = await self._started()
        if call is not None:
            await call.done_writing()


class UnaryUnaryCall(UnaryResponseCall, grpc.aio.UnaryUnaryCall[Request, Response]):
    """One request, one response."""


class UnaryStreamCall(StreamResponseCall, grpc.aio.UnaryStreamCall[Request, Response]):
    """One request, many responses."""


class StreamUnaryCall(
    StreamRequestCall,
    UnaryResponseCall,
    grpc.aio.StreamUnaryCall[Request, Response],
):
    """Many requests, one response, waiting for the token."""


class StreamStreamCall(
    StreamRequestCall,
    StreamResponseCall,
    grpc.aio.StreamStreamCall[Request, Response],
):
    """Many requests, many responses, waiting for the token."""


def _mixed() -> grpc.aio.UsageError:
    return grpc.aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
