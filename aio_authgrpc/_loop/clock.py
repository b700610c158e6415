"""Time as a constructor argument: wall time, monotonic time and sleeping, in one object.

Expiry is wall time: a token carries it, and a machine that was suspended must notice that its token has
expired. Intervals, such as a back-off or an age, are monotonic: wall time jumps.
"""

from __future__ import annotations

import asyncio
import time as system_time
from typing import Protocol


class Clock(Protocol):
    """Wall time, monotonic time and sleep: `SystemClock`, or `aio_authgrpc.testing.FakeClock` in tests."""

    def time(self) -> float:
        """Return the wall time in seconds since the epoch (UTC)."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; it never goes backwards."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Wait for `seconds` of monotonic time; cancelling it ends the wait at once."""
        ...


class SystemClock:
    """The machine's clock, the default of every argument `clock`."""

    time = staticmethod(system_time.time)
    monotonic = staticmethod(system_time.monotonic)
    sleep = staticmethod(asyncio.sleep)
