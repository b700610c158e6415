"""One run at a time, whose outcome all callers share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Generic, TypeVar

from aio_authgrpc._loop.tasks import start_task

T = TypeVar("T")


class FlightCancelledError(Exception):
    """The run was left, cancelled or broken off: there is no outcome."""


class SingleFlight(Generic[T]):
    """Runs a coroutine function in a task of its own, once at a time, for any number of waiters.

    A waiter that is cancelled or out of time leaves alone; the run goes on. Leaving costs the same however
    many stay: `asyncio.shield` would search a list of all waiters at each departure. The task runs in an
    empty context: the first caller's trace or identity must not leak into the outcome that all get. `run`
    returns its failures as well, and raises none.
    """

    def __init__(self, run: Callable[[], Coroutine[None, None, T]]) -> None:
        self._run = run
        self._task: asyncio.Task[T] | None = None
        self._waiters: set[asyncio.Future[asyncio.Task[T]]] = set()

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

    async def join(self) -> T:
        """Wait for the outcome of the run that is under way, or of a new one."""
        self.start()
        waiter: asyncio.Future[asyncio.Task[T]] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            landed = await waiter
        finally:
            self._waiters.discard(waiter)
        if landed.cancelled() or not landed.done():
            raise FlightCancelledError
        error = landed.exception()
        if error is not None and not isinstance(error, Exception):
            raise FlightCancelledError  # it was the run's to end with: an interrupt ends the program once
        return landed.result()

    def leave(self) -> asyncio.Task[T] | None:
        """Wake all waiters at once, without an outcome; return the run, which goes on."""
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
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(task)
