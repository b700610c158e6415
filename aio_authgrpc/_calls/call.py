"""What the calls of all four arities have in common: one state machine, with a token at hand or without.

    waiting ──token──▶ started ──status──▶ finished
       │                  │ UNAUTHENTICATED, and it may be sent again: back to waiting, once
       │                  │ the stream was refused: back to waiting, see `refused_streams`
       └─no token, cancel─┴────────────▶ finished

With a token at hand the real call is started at once: no task, no thread, no await. Without one, the
call is handed out all the same; a task of its own starts the real call when the token has come. What
a caller does meanwhile (write, read, cancel, add a callback, ask for the code) means what it means on
a real call. The wait counts against the call's timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import grpc
import grpc.aio

from aio_authgrpc._calls.authorizer import Authorization, Authorizer, CallerMetadata
from aio_authgrpc._calls.call_status import challenge_of, final_code, has_headers, raise_end
from aio_authgrpc._calls.open_calls import OpenCalls
from aio_authgrpc._calls.refused_streams import pause_before_resending, was_refused
from aio_authgrpc._calls.telemetry import CallTelemetry, current_call
from aio_authgrpc._channels.rotating import RotatingChannel
from aio_authgrpc._checks.frames import without_frames

DoneCallback = Callable[[Any], None]
"""Is called with the call when it is done."""

_UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
MAY_BE_SENT_AGAIN = frozenset((_UNAUTHENTICATED, _UNAVAILABLE))

CallArguments = tuple[Any, bool | None, grpc.Compression | None]
"""The request or the iterator of requests, wait_for_ready and compression."""


class Method(Protocol):
    """The RPC method that a call belongs to."""

    inner: Callable[..., Any]
    """The grpc.aio multi-callable that starts a real call."""
    open_calls: OpenCalls
    """The calls of the channel."""

    def connection_to_wait_for(self) -> RotatingChannel[Any] | None: ...


class AuthorizedCall(grpc.aio.Call):
    """A call of `method` that starts a real one once it has a token, and `connection` where one is given.

    `metadata` is the caller's own, and `timeout` counts from here.
    """

    # Class-level defaults: most calls never set these, and each instance attribute costs about 30 ns a call.
    _call: Any = None  # the real call, of the arity's own type
    _end: BaseException | None = None  # why there will never be a real call
    _refused: Any = None  # the real call whose token was refused, which led to the next one
    _replayed = False  # whether it was sent with a second token
    _resends = 0  # how often its stream was refused, and sent again
    _finished = False
    _decision: asyncio.Future[None] | None = None  # made by questions that wait for `_settle`
    _callbacks: tuple[DoneCallback, ...] = ()
    _may_replay = True  # whether the request can be sent again
    observed: CallTelemetry | None = None
    # Kept here, because an intercepted call of grpc.aio does not know its own.
    _deadline: float | None = None

    def __init__(
        self,
        method: Method,
        authorizer: Authorizer,
        arguments: CallArguments,
        timeout: float | None,
        metadata: CallerMetadata,
        connection: RotatingChannel[Any] | None = None,
    ) -> None:
        self._method = method
        self._authorizer = authorizer
        self._arguments = arguments
        self._metadata = metadata
        if timeout is not None:
            self._deadline = monotonic() + timeout
        authorization = None if connection is not None else authorizer.current()
        if authorization is None:
            self._wait(connection)
        else:
            self._start_real_call(authorization, timeout)

    # From waiting to started

    def _wait(self, connection: RotatingChannel[Any] | None, pause: float = 0.0) -> None:
        self._method.open_calls.waiting.add(self)
        starting = self._start_when_ready(connection, pause)
        self.waiting_task = asyncio.create_task(starting, name="aio_authgrpc waiting call")
        # Not a `finally` in the coroutine: a task cancelled before its first step never enters it.
        self.waiting_task.add_done_callback(self._stop_waiting)

    def _stop_waiting(self, task: asyncio.Task[None]) -> None:
        self._method.open_calls.waiting.discard(self)
        # Also what is no `Exception`, such as pytest.fail() in a fake: without an end, the call never would.
        end = asyncio.CancelledError() if task.cancelled() else task.exception()
        if end is not None:
            self._end_without_call(end)

    async def _start_when_ready(self, connection: RotatingChannel[Any] | None, pause: float) -> None:
        try:
            if pause:
                await asyncio.sleep(pause)
            if connection is not None:
                await connection.wait_until_ready(self.time_remaining())
            authorization = await self._authorization_in_time()
            if self._end is not None:
                return
            if self._refused is not None and authorization.metadata == self._authorization.metadata:
                self._call = self._refused  # the source has no other token: the refusal stands
                self._finish()
            else:
                self._start_real_call(authorization, self.time_remaining())
        except Exception as error:  # noqa: BLE001 - also what a real call raises when it is made
            self._end_without_call(error)

    async def _authorization_in_time(self) -> Authorization:
        observed, began = self.observed or current_call.get(), monotonic()
        try:
            return await self._authorizer.get(self.time_remaining())
        finally:
            if observed is not None:
                self.observed = observed
                observed.waited_for_token(monotonic() - began)

    def _start_real_call(self, authorization: Authorization, timeout: float | None) -> None:
        self._authorization = authorization
        metadata = self._metadata + authorization.metadata if self._metadata else authorization.metadata
        request, wait_for_ready, compression = self._arguments
        # A replay is sent in its reader's context.
        token = None if self.observed is None else current_call.set(self.observed)
        try:
            self._call = call = self._method.inner(
                request,
                timeout=timeout,
                metadata=metadata,
                wait_for_ready=wait_for_ready,
                compression=compression,
            )
        except Exception as error:
            without_frames(error)  # gRPC's hold the token, as this one does
            raise
        finally:
            if token is not None:
                current_call.reset(token)
        call.add_done_callback(self._on_done)

    async def _started(self) -> Any:
        """Return the real call once it is started, or None where there will be none.

        Cancelling this wait leaves the call alone, as it does with a real one's metadata or code.
        """
        while self._call is None and self._end is None:
            await asyncio.wait({self.waiting_task})
        return self._call

    async def _real_call(self) -> Any:
        """Return the real call once it is started, or raise why there is none."""
        call = await self._started()
        if self._end is not None:
            raise_end(self._end)
        return call

    async def _real_call_or_cancel(self) -> Any:
        """Return the real call for awaiting or reading it: cancelling that cancels the RPC."""
        try:
            return await self._real_call()
        except asyncio.CancelledError:
            self.cancel()
            raise

    # From started to finished, or back to waiting

    def _settle(self, call: Any) -> None:
        """Decide what the end of a real call means, once, and act: the call finishes, or is sent again.

        The only place that decides to send a call again. Called with a real call that is done.
        """
        # Check and set without an await between them.
        if call is not self._call or self._finished:
            return
        code = final_code(call)
        if code is _UNAUTHENTICATED:
            worth_it = self._authorizer.reject(self._authorization.token, challenge=challenge_of(call))
            if worth_it and not self._replayed and self._can_be_sent_again() and not has_headers(call):
                self._replayed = True
                self._send_again(refused=call)
                self._authorizer.say_replayed()  # last: a listener may cancel the call
                return
        elif code is _UNAVAILABLE and self._can_be_sent_again() and was_refused(call):
            pause = pause_before_resending(self._resends, self.time_remaining(), self._method.open_calls.rng)
            if pause is not None:
                self._resends += 1
                self._send_again(refused=None, pause=pause)
                return
        self._finish()

    def _can_be_sent_again(self) -> bool:
        return self._may_replay and self._authorizer.replay and not self._method.open_calls.closed

    def _send_again(self, *, refused: Any, pause: float = 0.0) -> None:
        self._refused, self._call = refused, None
        self._wait(self._method.connection_to_wait_for() if self._arguments[1] else None, pause)
        self._tell_decision()

    _on_done = _settle

    def _end_without_call(self, error: BaseException) -> None:
        if self._end is None and self._call is None:
            self._end = error
            self._finish()

    def _finish(self) -> None:
        self._finished = True
        self._tell_decision()
        callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            try:
                callback(self)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - users' code, which must not keep others from their end
                context = {"message": f"A done callback of {self!r} raised", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    def _tell_decision(self) -> None:
        if self._decision is not None:
            self._decision.set_result(None)
            self._decision = None

    def abandon(self, error: BaseException) -> None:
        """End a call that waits, with this error."""
        self.waiting_task.cancel()
        self._end_without_call(error)

    # grpc.aio.Call

    def cancel(self) -> bool:
        self._may_replay = False
        if self._call is not None:
            return bool(self._call.cancel())
        if self._end is not None:
            return False
        self.abandon(asyncio.CancelledError())
        return True

    def _cancel_with(self, call: Any) -> None:
        """End the call whose real call a cancelled task was awaiting: a refused one is not sent again."""
        self._may_replay = False
        if self._call is not call:
            self.cancel()
        else:
            call.cancel()  # gRPC's own read does not, where it is cancelled in its first steps

    def cancelled(self) -> bool:
        if self._call is not None:
            return bool(self._call.cancelled())
        return isinstance(self._end, asyncio.CancelledError)

    def done(self) -> bool:
        """See `grpc.aio.Call.done`; a call that is, or may be, sent again is not done."""
        return self._finished or self.cancelled()

    def time_remaining(self) -> float | None:
        """See `grpc.aio.Call.time_remaining`; it counts from when the stub was called."""
        return None if self._deadline is None else max(0.0, self._deadline - monotonic())

    def add_done_callback(self, callback: DoneCallback) -> None:
        """See `grpc.aio.Call.add_done_callback`; a replay is not an end."""
        if self._finished:
            callback(self)
        else:
            self._callbacks = (*self._callbacks, callback)

    def __repr__(self) -> str:
        if self._call is not None:
            return f"<{type(self).__name__} of {self._call!r}>"
        state = "waiting for its token" if self._end is None else "ended without an RPC"
        return f"<{type(self).__name__} {state}>"
