"""What is known of one call while it is under way: its real call or its end, and who is told of a change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import grpc.aio

from aio_authgrpc._calls.authorizer import Authorization
from aio_authgrpc._calls.call_status import raise_end
from aio_authgrpc._calls.telemetry import CallTelemetry

DoneCallback = Callable[[Any], None]
"""Is called with the call when it is done."""


class CallState(grpc.aio.Call):
    """A call with a real one, an end without one, or neither yet. `AuthorizedCall` leads it there."""

    # What most calls set or read is in slots. In a dictionary, which Python keeps out of the garbage
    # collector's sight for some attributes only, a call could be one object more.
    __slots__ = (
        "_authorization",
        "_authorizer",
        "_call",
        "_callbacks",
        "_change",
        "_compression",
        "_deadline",
        "_finished",
        "_metadata",
        "_method",
        "_request",
        "_wait_for_ready",
        "is_awaited",
        "observed",
    )
    _call: Any  # the real call, of the arity's own type
    _authorization: Authorization  # what that was sent with
    # Kept here, because an intercepted call of grpc.aio does not know its own.
    _deadline: float | None
    _finished: bool
    is_awaited: bool  # see `CallOwner`
    _change: asyncio.Future[None] | None  # of who waits until it is in another state
    _callbacks: tuple[DoneCallback, ...]
    observed: CallTelemetry | None
    # Of the others who wait. Mostly one does: a set for each of thirty thousand calls takes 6 MB.
    _more_changes: set[asyncio.Future[None]] | None = None
    _end: BaseException | None = None  # why there will never be a real call

    async def _started(self) -> Any:
        """Return the real call once it is started, or None where there will be none.

        Cancelling this wait leaves the call alone, as it does with a real one's metadata or code.
        """
        while self._call is None and self._end is None:
            await self._next_change()
        return self._call

    async def _next_change(self) -> None:
        """Wait until the call is in another state; cancelling this leaves the call alone."""
        change = self._new_change()
        try:
            await change
        finally:
            if self._change is change:
                self._change = None
            elif self._more_changes is not None:
                self._more_changes.discard(change)

    def _new_change(self) -> asyncio.Future[None]:
        """Return a future that is done when the call is in another state."""
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._change is None:
            self._change = change
        else:
            self._more_changes = self._more_changes or set()
            self._more_changes.add(change)
        return change

    def _tell_change(self) -> None:
        change, self._change = self._change, None
        if change is not None and not change.done():
            change.set_result(None)
        if self._more_changes is None:
            return
        others, self._more_changes = self._more_changes, None
        for change in others:
            if not change.done():
                change.set_result(None)

    async def _real_call(self) -> Any:
        """Return the real call once it is started, or raise why there is none."""
        call = await self._started()
        if self._end is not None:
            raise_end(self._end)
        return call

    def _finish(self) -> None:
        self._finished = True
        if self._change is None and self._more_changes is None and not self._callbacks:
            return
        self._tell_change()
        callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            try:
                callback(self)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - users' code, which must not keep others from their end
                context = {"message": f"A done callback of {self!r} raised", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

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
