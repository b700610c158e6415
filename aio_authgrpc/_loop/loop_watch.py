"""A thread that sees an event loop end, for those in other threads who wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, Protocol, TypeVar

# How late those who wait may learn of it; a wake-up costs microseconds.
_LONGEST_INTERVAL = 1.0


class Waiting(Protocol):
    """Somebody who waits for what the loop has taken over."""

    @property
    def answered(self) -> bool:
        """Whether that is over."""
        ...


WaitingT = TypeVar("WaitingT", bound=Waiting)


class LoopWatch(Generic[WaitingT]):
    """Gives those up whom a loop will not answer: it was closed, or has stopped for too long.

    A stopped loop tells nobody, and keeps the tasks that it has. The thread lives while anybody waits.

    Args:
        patience: Seconds that the loop may stand still between two runs.
        give_up: Called for each who waits, in the thread; with whether the loop was closed.
    """

    def __init__(self, patience: float, give_up: Callable[[WaitingT, bool], None]) -> None:
        self._patience = patience
        self._give_up = give_up
        self._lock = threading.Lock()
        self._waiting: set[WaitingT] = set()
        self._watched = False

    def add(self, waiting: WaitingT, loop: asyncio.AbstractEventLoop) -> None:
        """Watch until this one is answered; not on the loop itself, because it may start the thread."""
        with self._lock:
            self._waiting.add(waiting)
            if not self._watched:
                threading.Thread(
                    target=self._run, args=(loop,), name="aio_authgrpc watch", daemon=True
                ).start()
            self._watched = True

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        pause, ran_at = threading.Event(), monotonic()
        while self._anybody():
            if loop.is_running():
                ran_at = monotonic()
            elif loop.is_closed() or monotonic() - ran_at >= self._patience:
                self._end(closed=loop.is_closed())
            pause.wait(min(_LONGEST_INTERVAL, self._patience / 2))

    def _anybody(self) -> bool:
        with self._lock:
            self._waiting = {waiting for waiting in self._waiting if not waiting.answered}
            self._watched = bool(self._waiting)
            return self._watched

    def _end(self, *, closed: bool) -> None:
        with self._lock:
            given_up, self._waiting = self._waiting, set()
        for waiting in given_up:
            self._give_up(waiting, closed)
