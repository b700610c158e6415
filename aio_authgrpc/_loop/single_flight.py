"""One run at a time, whose outcome all who wait for it get."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Generic, Protocol, TypeVar

from aio_authgrpc._loop.tasks import start_task

T = TypeVar("T")
Outcome_contra = TypeVar("Outcome_contra", contravariant=True)

# How many get the outcome in one step of the loop: ten thousand calls that start at once would stop it.
_AT_ONCE = 100


class Waiter(Protocol[Outcome_contra]):
    """What waits for an outcome, without a task."""

    def landed(self, outcome: Outcome_contra, /) -> None:
        """Go on with it; nothing may be raised. It may come after the waiter has left."""
        ...


class SingleFlight(Generic[T]):
    """Runs a coroutine function in a task of its own, once at a time, for any number of waiters.

    A waiter that is cancelled or out of time leaves alone; the run goes on. Leaving costs the same however
    many stay: `asyncio.shield` would search a list of all waiters at each departure. The task runs in an
    empty context: the first caller's trace or identity must not leak into the outcome that all get.

    Args:
        run: Returns its failures as well, and raises none.
        without_run: Makes the outcome where a run was left, cancelled or broken off.
    """

    def __init__(self, run: Callable[[], Coroutine[None, None, T]], without_run: Callable[[], T]) -> None:
        self._run = run
        self._without_run = without_run
        self._task: asyncio.Task[T] | None = None
        self._waiters: dict[Waiter[T], None] = {}  # in the order of their arrival

    @property
    def running(self) -> bool:
        return self._task is not None

    @property
    def awaited(self) -> bool:
        return bool(self._waiters)

    def start(self) -> None:
        if self._task is not None and self._task.done():
            self._land(self._task)  # its callback is on the way: who comes now wants another run
        # Check and set without an await between them: on one loop this is the lock.
        if self._task is None:
            self._task = start_task(self._run(), name="aio_authgrpc refresh", context=Context())
            self._task.add_done_callback(self._land)

    def add(self, waiter: Waiter[T]) -> None:
        """Tell a waiter the outcome of the run that is under way, or of a new one, and let it go."""
        if self._task is None or self._task.done():
            self.start()
        self._waiters[waiter] = None

    def discard(self, waiter: Waiter[T]) -> None:
        """Let a waiter leave. An outcome that is there already may still reach it."""
        self._waiters.pop(waiter, None)

    async def join(self) -> T:
        """Wait for the outcome of the run that is under way, or of a new one."""
        waiter: _WaitingTask[T] = _WaitingTask()
        self.add(waiter)
        try:
            return await waiter.outcome
        finally:
            self.discard(waiter)

    def leave(self) -> asyncio.Task[T] | None:
        """Wake all waiters, with the outcome without a run; return the run, which goes on."""
        task = self._task
        if task is not None:
            self._land(task)
        return task

    def cancel(self) -> asyncio.Task[T] | None:
        """Do the same, and cancel the run, which may take a while to end."""
        task = self.leave()
        if task is not None:
            task.cancel()
        return task

    def _land(self, task: asyncio.Task[T]) -> None:
        if self._task is not task:
            return
        self._task = None
        waiters, self._waiters = self._waiters, {}
        # An interrupt, say, was the run's to end with: it ends the program once.
        is_there = task.done() and not task.cancelled() and task.exception() is None
        if waiters:
            _hand_out(task.result() if is_there else self._without_run(), list(reversed(waiters)))


def _hand_out(outcome: T, waiters: list[Waiter[T]]) -> None:
    """Tell waiters, the last one first."""
    stay = max(0, len(waiters) - _AT_ONCE)
    try:
        while len(waiters) > stay:
            waiters.pop().landed(outcome)
    finally:  # a waiter may let an interrupt through
        if waiters:
            asyncio.get_running_loop().call_soon(_hand_out, outcome, waiters)


class _WaitingTask(Generic[T]):
    """The task that awaits `join()`."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def landed(self, outcome: T) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)
