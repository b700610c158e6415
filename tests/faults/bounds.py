"""How long things may take in these tests, and a clock that lets none of them wait."""

from __future__ import annotations

import asyncio
import time

from aio_authgrpc.testing import FakeClock

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
# What a real socket may take where it does not answer. A test that ends in time has not waited for it long.
HTTP_TIMEOUT = 0.15
# No test may need it: whatever fails, fails before.
CALL_TIMEOUT = 10.0
# gRPC's smallest.
OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]


class SkippingClock(FakeClock):
    """A clock that moves on by itself when somebody sleeps: pauses are noted, and take no time.

    Attributes:
        pauses: How long each was, in seconds.
    """

    def __init__(self) -> None:
        super().__init__(time.time())  # google-auth dates tokens by the machine's clock
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)
