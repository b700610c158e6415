"""A clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

# 2023-11-14 22:13:20 UTC: round, and recognizable in a failure.
_START = 1_700_000_000.0
# Not zero, as on a real machine: zero hides bugs where "never happened" is compared with a time.
_MONOTONIC_START = 10_000.0
# The rounding error of summed floats: it must not keep a sleeper asleep.
_ROUNDING = 1e-6


@dataclass(slots=True, eq=False)
class _Sleeper:
    due_at: float
    woken: asyncio.Event


class FakeClock:
    """Be a `Clock` that only the test moves; nothing waits for real time.

    google-auth dates its tokens by the machine's clock: for those, start with `FakeClock(time.time())`.

    Args:
        time: The wall time to start at, in seconds since the epoch.
        monotonic: The monotonic time to start at, in seconds.
    """

    def __init__(self, time: float = _START, monotonic: float = _MONOTONIC_START) -> None:
        self._time = time
        self._monotonic = monotonic
        self._sleepers: list[_Sleeper] = []
        self._fell_asleep = asyncio.Event()

    def time(self) -> float:
        """Return the wall time in seconds since the epoch."""
        return self._time

    def monotonic(self) -> float:
        """Return the monotonic time in seconds."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance()` has moved the clock by `seconds`; zero or less lets other tasks run once."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        with self._asleep(seconds) as sleeper:
            await sleeper.woken.wait()

    @property
    def sleepers(self) -> int:
        """The number of tasks in `sleep()` that are not due yet."""
        return len(self._sleepers)

    @property
    def next_wake_up(self) -> float | None:
        """The seconds to advance by until the first sleeper is due; None without a sleeper."""
        return min((sleeper.due_at - self._monotonic for sleeper in self._sleepers), default=None)

    def advance(self, seconds: float) -> None:
        """Move both clocks and wake the sleepers that are due, earliest first.

        They run when the caller next awaits.

        Raises:
            ValueError: `seconds` is negative. `jump()` sets the wall clock back.
        """
        if seconds < 0:
            raise ValueError(f"seconds must be zero or more, not {seconds}; jump() sets the wall clock back")
        self._time += seconds
        self._monotonic += seconds
        for sleeper in sorted(self._sleepers, key=lambda sleeper: sleeper.due_at):
            if sleeper.due_at <= self._monotonic + _ROUNDING:
                self._sleepers.remove(sleeper)
                sleeper.woken.set()

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, either way, as suspension or a time server does. It wakes no sleeper."""
        self._time += seconds

    async def wait_for_sleepers(self, count: int = 1) -> None:
        """Wait until at least `count` are asleep, so that an `advance()` cannot come too early."""
        while self.sleepers < count:
            self._fell_asleep.clear()
            await self._fell_asleep.wait()

    @contextmanager
    def _asleep(self, seconds: float) -> Generator[_Sleeper]:
        sleeper = _Sleeper(due_at=self._monotonic + seconds, woken=asyncio.Event())
        self._sleepers.append(sleeper)
        self._fell_asleep.set()
        try:
            yield sleeper
        finally:
            if sleeper in self._sleepers:  # cancelled, rather than woken
                self._sleepers.remove(sleeper)
