"""Time as a constructor argument: wall time, monotonic time and sleeping, in one object.

Expiry is wall time, because that is what a token carries and because a suspended machine must
notice that its token has expired. Intervals (back-off, age) are monotonic, because wall time jumps.
"""

from __future__ import annotations

import asyncio
import time as system_time
from typing import Protocol


class Clock(Protocol):
    """The three things that code asks of time. `aio_authgrpc.testing.FakeClock` is the other one."""

    def time(self) -> float:
        """Return the wall time in seconds since the epoch (UTC)."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start, never going backwards."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Wait for `seconds` of monotonic time. Cancelling it ends the wait at once."""
        ...


class SystemClock:
    """The clock of the machine; the default wherever a `Clock` is asked for."""

    time = staticmethod(system_time.time)
    monotonic = staticmethod(system_time.monotonic)
    sleep = staticmethod(asyncio.sleep)
