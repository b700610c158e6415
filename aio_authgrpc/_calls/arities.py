"""The calls of the four arities: one request or many, one response or many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio

from aio_authgrpc._calls.call import MAY_BE_SENT_AGAIN, AuthorizedCall
from aio_authgrpc._calls.call_status import end_unsent, final_code, is_over, raise_end
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


class ResponseCall(AnsweringCall):
    """A call whose errors say what to do, where the reason is known."""

    def _explained(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        if error.code() in _REFUSED and "audience" in (error.details() or "").lower():
            error.add_note(_AUDIENCE_NOTE)  # the server's own error stays what it is
        return explained(error, plaintext=self._method.open_calls.plaintext)


class UnaryResponseCall(ResponseCall):
    """A call that is awaited for its one response. What awaits it knows its end, and need not ask for it."""

    def on_done(self, call: Any) -> bool:
        if not self._is_awaited:
            self._settle(call)
        return not self._is_awaited

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the response. As with a real call, cancelling the task that awaits it cancels the RPC."""
        while True:
            call = self._call
            if call is None:
                call = yield from self._started_or_cancelled()
            self._is_awaited = True
            try:
                response: Any = yield from call.__await__()  # pyright: ignore[reportUnknownVariableType] - any
            except grpc.aio.AioRpcError as error:
                self._is_awaited = False
                self._method.on_done(call)
                if self._call is call:
                    raise self._explained(error)  # noqa: B904 - mostly the error itself, else it has its cause
            except BaseException as error:
                self._is_awaited = False
                self._end_awaiting(call, error)
                raise
            else:
                self._is_awaited = False
                try:
                    if not self._finished:
                        self._finish()
                finally:
                    self._method.open_calls.end(call)
                return response  # pyright: ignore[reportUnknownVariableType] - any message

    def _started_or_cancelled(self) -> Generator[Any, None, Any]:
        """See `_real_call_or_cancel`; without its coroutines, as ten thousand calls may wait here."""
        try:
            while self._call is None and self._end is None:
                yield from self._new_change()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self._end is not None:
            raise_end(self._end)
        return self._call

    def _end_awaiting(self, call: Any, error: BaseException) -> None:
        """Settle a real call whose await ended with a cancellation, an interceptor's error, or the loop."""
        if isinstance(error, asyncio.CancelledError):
            self._cancel_with(call)
        elif isinstance(error, Exception):
            end_unsent(call)
        if is_over(call):
            self._method.on_done(call)


class StreamResponseCall(NotIterable, ResponseCall):
    """A call whose responses are iterated or read.

    A refusal before the first message may be replayed, one after it may not. A message may still be queued
    when the status arrives. While a reader is active, it decides about the replay.
    """

    _iterator: AsyncIterator[Any] | None = None
    _style = ""
    _refusal: grpc.aio.AioRpcError | None = None  # that led to a second real call

    def on_done(self, call: Any) -> bool:
        undecided = self._is_awaited and self._may_replay
        if undecided and final_code(call) in MAY_BE_SENT_AGAIN:
            return False  # the reader will
        self._settle(call)
        return True

    @contextmanager
    def _reading_from(self, call: Any) -> Generator[None]:
        """Decide about a replay where the read ends; without an error the next call is to be read."""
        self._is_awaited = True
        try:
            yield
        except grpc.aio.AioRpcError as error:
            self._end_reading(call)
            if self._call is call:
                raise self._explained(error)  # noqa: B904 - mostly the error itself, else it has its cause
            self._refusal = error
        except asyncio.CancelledError:
            self._cancel_with(call)
            raise
        except (grpc.aio.UsageError, asyncio.InvalidStateError):
            raise  # a mistake of the reader's, who may go on
        except Exception:
            if self._may_replay:
                end_unsent(call)
            raise
        finally:
            self._end_reading(call)

    def _end_reading(self, call: Any) -> None:
        self._is_awaited = False
        if call.done():
            self._method.on_done(call)

    def _use(self, style: str) -> None:
        """Hold to one of iterating and reading, as a real call does, from before it is started."""
        if self._style and self._style != style:
            raise grpc.aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
        self._style = style

    def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate over the responses. As with a real call, cancelling the iteration cancels the RPC."""
        self._use("iterate")
        if self._iterator is None:
            self._iterator = self._iterate()
        return self._iterator

    async def _iterate(self) -> AsyncIterator[Any]:
        while True:
            call = await self._next_to_read()
            with self._reading_from(call):
                async for message in call:
                    self._may_replay = False
                    yield message
                return

    async def _next_to_read(self) -> Any:
        call = await self._real_call_or_cancel()
        if self._refusal is not None and call is self._refused:
            raise self._explained(self._refusal)  # it stands; gRPC may raise it once only
        return call

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        if self._style != "read" and self._finished:
            # A call that is over answers, whatever was used before.
            return await (await self._real_call()).read()
        self._use("read")
        if self._call is not None and not self._may_replay:
            return await self._call.read()
        while True:
            call = await self._next_to_read()
            with self._reading_from(call):
                message = await call.read()
                self._may_replay = False
                return message


class StreamRequestCall(AuthorizedCall):
    """A call whose requests are written. It is made only where the token has to be waited for."""

    _ends_with_connection_wait = False
    _may_replay = False

    @property
    def _done_writing_flag(self) -> bool:
        """grpc.aio's intercepted calls ask the call below for it."""
        return self._call is not None and bool(self._call._done_writing_flag)

    def _check_style(self) -> None:
        if self._request is not None:
            raise grpc.aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")

    async def write(self, request: Any) -> None:
        """Send a request, once the call is started."""
        self._check_style()
        if self._end is not None:
            raise asyncio.InvalidStateError("RPC already finished.")
        await (await self._real_call()).write(request)

    async def done_writing(self) -> None:
        """Say that no request follows. Does nothing on a call that is done."""
        self._check_style()
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
