"""What the calls of all four arities have in common: one state machine, with a token at hand or without.

    waiting ──token──▶ started ──status──▶ finished
       │                  │ UNAUTHENTICATED, and it may be sent again: back to waiting, once
       │                  │ the stream was refused: back to waiting, see `refused_streams`
       └─no token, cancel─┴────────────▶ finished

With a token at hand the real call is started at once: no task, no thread, no await. Without one, the
call is handed out all the same, and the refresh that brings the token starts the real call. What a
caller does meanwhile (write, read, cancel, add a callback, ask for the code) means what it means on a
real call. The wait counts against the call's timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from time import monotonic
from typing import Any, Protocol

import grpc

from aio_authgrpc._calls.authorizer import Authorization, Authorizer, CallerMetadata
from aio_authgrpc._calls.call_state import CallState
from aio_authgrpc._calls.call_status import answer_of, challenge_of, has_headers
from aio_authgrpc._calls.open_calls import OpenCalls
from aio_authgrpc._calls.refused_streams import Pause, pause_before_resending, was_refused
from aio_authgrpc._calls.sent_metadata import metadata_of_one
from aio_authgrpc._calls.telemetry import current_call
from aio_authgrpc._channels.rotating import RotatingChannel
from aio_authgrpc._checks.frames import without_frames
from aio_authgrpc._tokens.refresh_tasks import too_late
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import TokenDeadlineExceededError

Awaited = Pause | RotatingChannel[Any] | Authorizer
"""What a call waits for, in this order."""

_UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Method(Protocol):
    """The RPC method that a call belongs to."""

    inner: Callable[..., Any]
    """The grpc.aio multi-callable that starts a real call."""
    watched: Any
    """Has, as `_interceptors`, those who see what `inner` is given."""
    open_calls: OpenCalls
    """The calls of the channel."""
    on_done: Callable[[Any], None]
    """Tells `open_calls` the end of a real call: one object for all of them."""

    def connection_to_wait_for(self) -> RotatingChannel[Any] | None: ...


class AuthorizedCall(CallState):
    """A call of `method` that starts a real one once it has a token, and `connection` where one is given.

    `metadata` is the caller's own, and `timeout` counts from here.
    """

    # Defaults of what few calls set.
    _refused: Any = None  # the real call whose token was refused, which led to the next one
    _replayed = False  # whether it was sent with a second token
    _resends = 0  # how often its stream was refused, and sent again
    _may_replay = True  # whether it may be sent again: its request can be, and nothing has come of it yet
    _awaited: Awaited | None = None  # what it waits for itself
    _waiting_since = 0.0
    _context: Context  # the caller's, from when it began to wait

    def __init__(
        self,
        method: Method,
        authorizer: Authorizer,
        request: Any,
        timeout: float | None,
        metadata: CallerMetadata,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> None:
        self._method = method
        self._authorizer = authorizer
        self._request = request
        self._metadata = metadata
        # Not as a tuple: while a thousand calls are under way, each object costs the garbage collector time.
        self._wait_for_ready = wait_for_ready
        self._compression = compression
        self._deadline = None if timeout is None else monotonic() + timeout
        self._call = self._change = self.observed = None
        self._finished = self.is_awaited = False
        self._callbacks = ()
        waits = wait_for_ready and method.connection_to_wait_for() is not None
        authorization = None if waits else authorizer.current()
        if authorization is None:
            self._wait()
        else:
            self._start_real_call(authorization, timeout)

    # From waiting to started

    def _wait(self, pause: Pause | None = None) -> None:
        self._context = copy_context()
        self._wait_for(self._connection_or_token() if pause is None else pause)
        self._method.open_calls.add_waiting(self, self._deadline)

    def _connection_or_token(self) -> Authorizer | RotatingChannel[Any]:
        if not self._wait_for_ready:
            return self._authorizer
        return self._method.connection_to_wait_for() or self._authorizer

    def _wait_for(self, awaited: Awaited) -> None:
        self._awaited, self._waiting_since = awaited, monotonic()
        awaited.wait(self)

    def landed(self, outcome: Token | BaseException | None) -> None:
        """Go on with what came: a pause's end or the connection, both None, then the token or an error."""
        if self._awaited is None:
            return  # it has ended meanwhile
        if outcome is None:
            paused = isinstance(self._awaited, Pause)
            self._wait_for(self._connection_or_token() if paused else self._authorizer)
        elif isinstance(outcome, BaseException):
            self.abandon(outcome)
        elif self._context.run(self._start_with, outcome):
            del self._context  # a stream may be open for days

    def _start_with(self, token: Token) -> bool:
        """Start the real call; return whether the call does not wait again."""
        try:
            self._end_wait(self._awaited)
            authorization = self._authorizer.authorization(token)
            if self._refused is not None and authorization.metadata == self._authorization.metadata:
                self._call = self._refused  # the source has no other token: the refusal stands
                try:
                    self._finish()
                finally:
                    self._method.open_calls.note_end()
            else:
                self._start_real_call(authorization, self.time_remaining())
                self._tell_change()
        except BaseException as error:  # also what is no `Exception`: without an end, the call never would
            self.abandon(error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        return self._awaited is None

    def _stop_waiting(self) -> None:
        awaited = self._awaited
        if awaited is not None:
            awaited.leave(self)
            self._end_wait(awaited)

    def _end_wait(self, awaited: Awaited | None) -> None:
        self._awaited = None
        self._method.open_calls.waiting.discard(self)
        observed = self.observed or self._context.get(current_call)
        if observed is not None and awaited is self._authorizer:
            self.observed = observed
            observed.waited_for_token(monotonic() - self._waiting_since)

    def run_out_of_time(self) -> None:
        """End a call that waits, at its deadline."""
        seconds = (self._deadline or 0.0) - self._waiting_since
        if self._awaited is self._authorizer:
            self.abandon(too_late(seconds))
            return
        text = f"The call's time ran out: for {max(0.0, seconds):.3g} s it waited for its connection."
        hint = "A call without wait_for_ready, or connect(ready_timeout=...), says what is in the way."
        if isinstance(self._awaited, Pause):
            text = "The call's time ran out before it was sent again: the server had refused its stream."
            hint = "The server is asked for more streams at once than it allows."
        self.abandon(TokenDeadlineExceededError(text, hint=hint))

    def _start_real_call(self, authorization: Authorization, timeout: float | None) -> None:
        self._authorization = authorization
        method, metadata = self._method, authorization.metadata
        is_watched = method.watched._interceptors
        if is_watched or self._metadata:
            metadata = metadata_of_one(self._metadata, metadata, is_watched=bool(is_watched))
        # A replay is sent in its reader's context.
        token = None if self.observed is None else current_call.set(self.observed)
        try:
            self._call = call = method.inner(
                self._request,
                timeout=timeout,
                metadata=metadata,
                wait_for_ready=self._wait_for_ready,
                compression=self._compression,
            )
        except Exception as error:
            without_frames(error)  # gRPC's hold the token, as this one does
            raise
        finally:
            if token is not None:
                current_call.reset(token)
        method.open_calls.started[call] = self
        call.add_done_callback(method.on_done)

    async def _real_call_or_cancel(self) -> Any:
        """Return the real call for awaiting or reading it: cancelling that cancels the RPC."""
        try:
            return await self._real_call()
        except asyncio.CancelledError:
            self.cancel()
            raise

    # From started to finished, or back to waiting

    def on_done(self, call: Any) -> None:
        """Decide what the end of a real call means, once, and act: the call finishes, or is sent again.

        The only place that decides to send a call again. Called with a real call that is done.
        """
        # Check and set without an await between them.
        if call is not self._call or self._finished:
            return
        code = answer_of(call.code())
        if code is _UNAUTHENTICATED:
            worth_it = self._authorizer.reject(self._authorization.token, challenge=challenge_of(call))
            if worth_it and not self._replayed and self._can_be_sent_again() and not has_headers(call):
                self._replayed = True
                self._send_again(refused=call)
                self._authorizer.say_replayed()  # last: a listener may cancel the call
                return
        elif code is _UNAVAILABLE and self._can_be_sent_again() and was_refused(call):
            random = self._method.open_calls.random
            seconds = pause_before_resending(self._resends, self.time_remaining(), random)
            if seconds is not None:
                self._resends += 1
                self._send_again(refused=None, pause=Pause(seconds))
                return
        self._finish()

    def _can_be_sent_again(self) -> bool:
        return self._may_replay and self._authorizer.replay and not self._method.open_calls.closed

    def _send_again(self, *, refused: Any, pause: Pause | None = None) -> None:
        self._refused, self._call = refused, None
        self._wait(pause)
        self._tell_change()

    def abandon(self, error: BaseException) -> None:
        """End a call that has no real one, with this error."""
        try:
            self._stop_waiting()
        finally:
            if self._end is None and self._call is None:
                self._end = error
                try:
                    self._finish()
                finally:
                    self._method.open_calls.note_end()

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

    def __repr__(self) -> str:
        if self._call is not None:
            return f"<{type(self).__name__} of {self._call!r}>"
        state = "waiting for its token" if self._end is None else "ended without an RPC"
        if isinstance(self._awaited, Pause):
            state = "waiting to be sent again"
        return f"<{type(self).__name__} {state}>"
