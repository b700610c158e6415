"""A thread that notices the end of an event loop, for requests from other threads that it will not answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, Protocol, TypeVar

# Seconds by which the end may be noticed late; a wake-up costs microseconds.
_LONGEST_INTERVAL = 1.0


class Request(Protocol):
    """What the loop was asked for, by another thread."""

    @property
    def answered(self) -> bool:
        """Whether the answer was given."""
        ...


RequestT = TypeVar("RequestT", bound=Request)


class LoopWatch(Generic[RequestT]):
    """Gives up the requests that a loop will not answer, because it was closed or has stopped for too long.

    A stopped loop raises nothing and keeps its tasks. The thread lives while a request waits.

    Args:
        patience: Seconds that the loop may stand still between two runs.
        give_up: Called in the thread for each request, with whether the loop was closed.
    """

    def __init__(self, patience: float, give_up: Callable[[RequestT, bool], None]) -> None:
        self._patience = patience
        self._give_up = give_up
        self._lock = threading.Lock()
        self._waiting: set[RequestT] = set()
        self._watched = False

    def add(self, request: RequestT, loop: asyncio.AbstractEventLoop) -> None:
        """Watch the loop until the request is answered. Call it off the loop: it may start a thread."""
        with self._lock:
            self._waiting.add(request)
            if not self._watched:
                threading.Thread(
                    target=self._run, args=(loop,), name="aio_authgrpc watch", daemon=True
                ).start()
            self._watched = True

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        pause, ran_at = threading.Event(), monotonic()
        while self._any_waits():
            if loop.is_running():
                ran_at = monotonic()
            elif loop.is_closed() or monotonic() - ran_at >= self._patience:
                self._end(closed=loop.is_closed())
            pause.wait(min(_LONGEST_INTERVAL, self._patience / 2))

    def _any_waits(self) -> bool:
        with self._lock:
            self._waiting = {request for request in self._waiting if not request.answered}
            self._watched = bool(self._waiting)
            return self._watched

    def _end(self, *, closed: bool) -> None:
        with self._lock:
            given_up, self._waiting = self._waiting, set()
        for request in given_up:
            self._give_up(request, closed)
