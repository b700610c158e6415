"""The calls that a stub returns: one state machine for those that have a token and those that wait.

    waiting ──token──▶ started ──status──▶ done
       │                  │ UNAUTHENTICATED, and it may be sent again: back to waiting, once
       └─no token, cancel─┴────────────▶ done

With a token at hand the real call is started at once: no task, no thread, no await. Without one, the
call is handed out all the same; a task of its own starts the real call when the token has come. What
a caller does meanwhile (write, read, cancel, add a callback, ask for the code) means what it means on
a real call. The wait counts against the call's timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from time import monotonic
from typing import Any, TypeVar, cast

import grpc
import grpc.aio

from aio_authgrpc._calls.authorizer import Authorization, Authorizer, CallerMetadata
from aio_authgrpc._channels.connection_hints import explained
from aio_authgrpc.errors import AuthRpcError

Request = TypeVar("Request")
Response = TypeVar("Response")
T = TypeVar("T")

DoneCallback = Callable[[Any], None]
"""Is called with the call when it is done."""

_UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
_CANCELLED_DETAILS = "Locally cancelled by application!"  # what a real call says


CallArguments = tuple[Any, bool | None, grpc.Compression | None]
"""The request or the iterator of requests, wait_for_ready and compression."""


class AuthorizedCall(grpc.aio.Call):
    """What the calls of all four arities have in common.

    Args:
        authorizer: Gives the token.
        inner: The grpc.aio multi-callable that starts the real call.
        arguments: What the stub was called with, beside the next two.
        timeout: The RPC's, in seconds; None for none.
        metadata: The caller's own.
        may_replay: Whether the request can be sent a second time.
    """

    # What most calls never change is a default of the class: an attribute costs time at every call.
    _call: Any = None  # the real call, of the arity's own type
    _end: BaseException | None = None  # why there will never be a real call
    _refused: Any = None  # the real call that was refused; whether to send it again is decided once
    _callbacks: tuple[DoneCallback, ...] = ()
    _is_its_request = True  # one request, and whoever waits for it to be sent stands for the call
    # Kept here, because an intercepted call of grpc.aio does not know its own.
    _deadline: float | None = None

    def __init__(
        self,
        authorizer: Authorizer,
        inner: Callable[..., Any],
        arguments: CallArguments,
        timeout: float | None,
        metadata: CallerMetadata,
        *,
        may_replay: bool,
    ) -> None:
        self._authorizer = authorizer
        self._inner = inner
        self._arguments = arguments
        self._metadata = metadata
        self._may_replay = may_replay
        if timeout is not None:
            self._deadline = monotonic() + timeout
        authorization = authorizer.current()
        if authorization is None:
            self._wait_for_token()
        else:
            self._start_real_call(authorization, timeout)

    # From waiting to started

    def _wait_for_token(self) -> None:
        self._authorizer.waiting.add(self)
        self.waiting_task = asyncio.create_task(self._start_with_token(), name="aio_authgrpc waiting call")
        # Not a `finally` in the coroutine: a task cancelled before its first step never enters it.
        self.waiting_task.add_done_callback(self._stop_waiting)

    def _stop_waiting(self, task: asyncio.Task[None]) -> None:
        self._authorizer.waiting.discard(self)
        if task.cancelled():
            self._end_without_call(asyncio.CancelledError())

    async def _start_with_token(self) -> None:
        try:
            authorization = await self._authorizer.get(self._seconds_left())
            if self._end is not None:
                return
            if self._refused is not None and authorization.metadata == self._authorization.metadata:
                self._call = self._refused  # the source has no other token: the refusal stands
                self._finish()
            else:
                self._start_real_call(authorization, self._seconds_left())
        except Exception as error:  # noqa: BLE001 - also what a real call raises when it is made
            self._end_without_call(error)

    def _start_real_call(self, authorization: Authorization, timeout: float | None) -> None:
        self._authorization = authorization
        metadata = self._metadata + authorization.metadata if self._metadata else authorization.metadata
        request, wait_for_ready, compression = self._arguments
        self._call = call = self._inner(
            request,
            timeout=timeout,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
            compression=compression,
        )
        call.add_done_callback(self._on_done)

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - monotonic())

    async def _real_call(self) -> Any:
        """Return the real call, waiting until it is started.

        Cancelling this wait leaves the call alone, as it does with a real one's metadata or code.
        """
        while self._call is None:
            self._raise_end()
            await asyncio.wait({self.waiting_task})
        return self._call

    async def _real_call_or_cancel(self) -> Any:
        """Return the real call for whoever awaits or reads it: cancelling that cancels the RPC."""
        try:
            return await self._real_call()
        except asyncio.CancelledError:
            self.cancel()
            raise

    def _raise_end(self) -> None:
        if self._end is not None:
            raise self._end.copy() if isinstance(self._end, AuthRpcError) else self._end

    # From started to done, or back to waiting

    def _on_done(self, call: Any) -> None:
        if call is self._call and not self._replay():
            self._finish()

    def _replay(self) -> bool:
        """Decide whether the real call, which is done, is sent again; if so it is under way on return."""
        # Check and set without an await between them: whoever sees the end first decides, once.
        call = self._call
        if call is self._refused or final_code(call) is not _UNAUTHENTICATED:
            return False
        self._refused = call
        worth_it = self._authorizer.reject(self._authorization.token, challenge=challenge_of(call))
        if not (worth_it and self._may_replay) or self._authorizer.closed:
            return False
        self._may_replay = False
        self._call = None
        self._authorizer.say_replayed()
        self._wait_for_token()
        return True

    def _was_replaced(self, call: Any) -> bool:
        """Whether the refusal that `call` just raised is not the caller's business: a replay is under way."""
        return self._call is not call or self._replay()

    def _end_without_call(self, error: BaseException) -> None:
        if self._end is None and self._call is None:
            self._end = error
            self._finish()

    def _finish(self) -> None:
        callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            try:
                callback(self)
            except Exception as error:  # noqa: BLE001 - users' code, which must not keep others from their end
                context = {"message": f"A done callback of {self!r} raised", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    def abandon(self, error: AuthRpcError) -> None:
        """End a call that waits for its token with this error: the channel is closing."""
        self.waiting_task.cancel()
        self._end_without_call(error)

    # grpc.aio.Call

    def cancel(self) -> bool:
        """See `grpc.aio.Call.cancel`."""
        if self._call is not None:
            return bool(self._call.cancel())
        if self._end is not None:
            return False
        self.waiting_task.cancel()
        self._end_without_call(asyncio.CancelledError())
        return True

    def cancelled(self) -> bool:
        """See `grpc.aio.Call.cancelled`."""
        if self._call is not None:
            return bool(self._call.cancelled())
        return isinstance(self._end, asyncio.CancelledError)

    def done(self) -> bool:
        """See `grpc.aio.Call.done`; a call that is sent again is not done."""
        if self._call is not None:
            return bool(self._call.done()) and not self._replay()
        return self._end is not None

    def time_remaining(self) -> float | None:
        """See `grpc.aio.Call.time_remaining`; it counts from when the stub was called."""
        return self._seconds_left()

    def add_done_callback(self, callback: DoneCallback) -> None:
        """See `grpc.aio.Call.add_done_callback`; a replay is not an end."""
        if self.done():
            callback(self)
        else:
            self._callbacks = (*self._callbacks, callback)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """See `grpc.aio.Call.initial_metadata`."""
        return await self._ask(lambda call: call.initial_metadata(), grpc.aio.Metadata)

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """See `grpc.aio.Call.trailing_metadata`."""
        return await self._ask(lambda call: call.trailing_metadata(), grpc.aio.Metadata)

    async def code(self) -> grpc.StatusCode:
        """See `grpc.aio.Call.code`."""
        return await self._ask(lambda call: call.code(), lambda: self._end_status()[0])

    async def details(self) -> str:
        """See `grpc.aio.Call.details`."""
        return await self._ask(lambda call: call.details(), lambda: self._end_status()[1])

    async def debug_error_string(self) -> str:
        """What grpc.aio's calls have beside their public interface; empty where no RPC was made."""
        return await self._ask(lambda call: call.debug_error_string(), str)

    async def wait_for_connection(self) -> None:
        """See `grpc.aio.Call.wait_for_connection`. With one request, to cancel it cancels the RPC, too."""
        while True:
            call = await (self._real_call_or_cancel() if self._is_its_request else self._real_call())
            try:
                await call.wait_for_connection()
                return
            except grpc.aio.AioRpcError:
                if not self._was_replaced(call):
                    raise

    async def _ask(self, question: Callable[[Any], Awaitable[T]], without_call: Callable[[], T]) -> T:
        """Ask the last real call, once it is known to be the last."""
        while True:
            while self._call is None:
                if self._end is not None:
                    return without_call()
                await asyncio.wait({self.waiting_task})
            call = self._call
            answer = await question(call)
            if self._call is call and not await self._is_sent_again(call):
                return answer

    async def _is_sent_again(self, call: Any) -> bool:
        """Whether the real call is done and refused, and sent again."""
        return call.done() and self._replay()

    def _end_status(self) -> tuple[grpc.StatusCode, str]:
        if isinstance(self._end, grpc.aio.AioRpcError):
            return self._end.code(), self._end.details() or ""
        if isinstance(self._end, asyncio.CancelledError):
            return grpc.StatusCode.CANCELLED, _CANCELLED_DETAILS
        return grpc.StatusCode.INTERNAL, f"The call could not be made: {type(self._end).__name__}."

    def __repr__(self) -> str:
        if self._call is not None:
            return f"<{type(self).__name__} of {self._call!r}>"
        state = "waiting for its token" if self._end is None else "ended without an RPC"
        return f"<{type(self).__name__} {state}>"


class UnaryResponseCall(AuthorizedCall):
    """A call that is awaited for its one response."""

    _awaited = False

    def _on_done(self, call: Any) -> None:
        # To ask a call for its code takes a fortieth of the whole RPC. Who awaits it learns of a refusal
        # anyway; where nobody does, or callbacks wait, it has to be asked for.
        if not self._awaited or self._callbacks:
            super()._on_done(call)

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the response. As with a real call, cancelling who awaits it cancels the RPC."""
        self._awaited = True
        while True:
            call = self._call
            if call is None:
                call = yield from self._real_call_or_cancel().__await__()
            try:
                return (yield from call.__await__())  # pyright: ignore[reportUnknownVariableType]  # any message
            except grpc.aio.AioRpcError as error:
                if not self._was_replaced(call):
                    raise explained(error)  # noqa: B904 - mostly the error itself, else it has its cause


class StreamResponseCall(AuthorizedCall):
    """A call whose responses are iterated or read.

    A refusal before the first message may be replayed, one after it may not. Only whoever reads knows
    whether a message was on its way when the status came; while it reads the decision is its.
    """

    _iterator: AsyncIterator[Any] | None = None
    _style = ""
    _reading = False
    _read_has_ended: asyncio.Event | None = None  # made by whoever waits for the reader's decision

    def _on_done(self, call: Any) -> None:
        # As with a unary response, whoever reads to the end learns of a refusal there.
        if not self._reading or (self._callbacks and not self._may_replay):
            super()._on_done(call)

    def _undecided(self, call: Any) -> bool:
        """Whether the real call was refused, and who reads has not said yet if it will be sent again."""
        undecided = self._reading and self._may_replay and call.done()
        return undecided and final_code(call) is _UNAUTHENTICATED

    def done(self) -> bool:
        """See `grpc.aio.Call.done`; a call that may be sent again is not done."""
        if self._call is not None and self._undecided(self._call):
            return False
        return super().done()

    async def _is_sent_again(self, call: Any) -> bool:
        if not self._undecided(call):
            return await super()._is_sent_again(call)
        if self._read_has_ended is None:
            self._read_has_ended = asyncio.Event()
        await self._read_has_ended.wait()
        return True  # ask again: by now it is decided

    def _end_reading(self, call: Any) -> None:
        self._reading = False
        if self._callbacks and self._call is call and call.done():
            self._finish()
        if self._read_has_ended is not None:
            self._read_has_ended.set()
            self._read_has_ended = None

    def _use(self, style: str) -> None:
        """Hold to one of iterating and reading, as a real call does, from before it is started."""
        if self._style and self._style != style:
            raise grpc.aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
        self._style = style

    def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate over the responses. Cancelling who iterates cancels the RPC, as with a real call."""
        self._use("iterate")
        if self._iterator is None:
            self._iterator = self._iterate()
        return self._iterator

    async def _iterate(self) -> AsyncIterator[Any]:
        refused: Any = None
        refusal: grpc.aio.AioRpcError | None = None
        while True:
            call = await self._real_call_or_cancel()
            if refusal is not None and call is refused:
                raise refusal  # it stands; the iterator of a real call raises once only
            self._reading = True
            try:
                async for message in call:
                    self._may_replay = False
                    yield message
                return
            except grpc.aio.AioRpcError as error:
                if not self._was_replaced(call):
                    raise explained(error)  # noqa: B904 - as above
                refused, refusal = call, error
            finally:
                self._end_reading(call)

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        if self._style != "read" and self.done():
            self._raise_end()  # a call that is over answers, whatever was used before
            return await self._call.read()
        self._use("read")
        if self._call is not None and not self._may_replay:
            return await self._call.read()
        while True:
            call = await self._real_call_or_cancel()
            self._reading = True
            try:
                message = await call.read()
                self._may_replay = False
                return message
            except grpc.aio.AioRpcError as error:
                if not self._was_replaced(call):
                    raise explained(error)  # noqa: B904 - as above
            finally:
                self._end_reading(call)


class StreamRequestCall(AuthorizedCall):
    """A call whose requests are written. It is made only where the token has to be waited for."""

    _is_its_request = False

    def __init__(
        self,
        authorizer: Authorizer,
        inner: Callable[..., Any],
        arguments: CallArguments,
        timeout: float | None,
        metadata: CallerMetadata,
    ) -> None:
        self._has_iterator = arguments[0] is not None
        super().__init__(authorizer, inner, arguments, timeout, metadata, may_replay=False)

    def _check_style(self) -> None:
        if self._has_iterator:
            raise grpc.aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")

    async def write(self, request: Any) -> None:
        """Send a request, once the call is started."""
        self._check_style()
        if self.done() and self._call is None:
            raise asyncio.InvalidStateError("RPC already finished.")
        await (await self._real_call()).write(request)

    async def done_writing(self) -> None:
        """Say that no request follows. Does nothing on a call that is done."""
        self._check_style()
        while self._call is None and self._end is None:
            await asyncio.wait({self.waiting_task})
        if self._call is not None:
            await self._call.done_writing()


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


def final_code(call: grpc.aio.Call) -> grpc.StatusCode | None:
    """Return the code of a call that is done, without waiting; None where it is not done.

    `code()` is a coroutine method, but on a call that is done it finishes at its first step.
    """
    return _answer_of(call.code())


def challenge_of(call: grpc.aio.Call) -> str:
    """Return the `www-authenticate` of a call that is done, or "" without one (RFC 6750, 3)."""
    trailing: grpc.aio.Metadata | None = _answer_of(call.trailing_metadata())
    value = None if trailing is None else trailing.get("www-authenticate")
    return value if isinstance(value, str) else ""


def _answer_of(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """Return what a coroutine answers at its first step, or None if it would wait."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return cast("T", finished.value)
    coroutine.close()
    return None
