"""The calls of one channel that wait for a token or a connection, and their deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from math import isnan
from time import monotonic
from typing import Protocol

# Deadlines of calls that wait no more, and how many of them may be there for each call that still waits.
_LEFT_BEHIND = 100
_LEFT_BEHIND_SHARE = 2


class WaitingCall(Protocol):
    """A call without its token or connection."""

    def abandon(self, error: BaseException, /) -> None:
        """End the call with this error."""
        ...

    def run_out_of_time(self) -> None:
        """End the call at its deadline."""
        ...


class WaitingCalls:
    """The calls that wait. One timer serves all deadlines; leaving costs the same however many calls stay."""

    __slots__ = ("_calls", "_deadlines", "_number", "_timer")

    def __init__(self) -> None:
        self._calls: dict[WaitingCall, None] = {}  # smaller than a set while it is empty
        # The next one first; the number decides between equal ones. Those of calls that left stay a while.
        self._deadlines: list[tuple[float, int, WaitingCall]] = []
        self._number = count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[WaitingCall]:
        return iter(tuple(self._calls))

    def add(self, call: WaitingCall, deadline: float | None) -> None:
        """Keep a call until it leaves, and end it at its deadline, an instant of `time.monotonic()`."""
        self._calls[call] = None
        if deadline is not None:
            due = 0.0 if isnan(deadline) else deadline  # which would be before and after all others
            heappush(self._deadlines, (due, next(self._number), call))
            if self._deadlines[0][2] is call:
                self._set_timer()

    def discard(self, call: WaitingCall) -> None:
        self._calls.pop(call, None)
        if self._deadlines:
            self._tidy()

    def _tidy(self) -> None:
        if not self._calls:
            self._deadlines.clear()
            self._set_timer()
        elif len(self._deadlines) > _LEFT_BEHIND + _LEFT_BEHIND_SHARE * len(self._calls):
            self._deadlines = [due for due in self._deadlines if due[2] in self._calls]
            heapify(self._deadlines)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadlines:
            seconds = max(0.0, self._deadlines[0][0] - monotonic())
            self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        now = monotonic()
        try:
            while self._deadlines and self._deadlines[0][0] <= now:
                _, _, call = heappop(self._deadlines)
                if call in self._calls:
                    call.run_out_of_time()
        finally:  # a done callback may let an interrupt through
            self._set_timer()
