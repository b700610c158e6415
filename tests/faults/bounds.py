"""Time limits for these tests, and a clock that skips every pause."""

from __future__ import annotations

import asyncio
import time

from aio_authgrpc.testing import FakeClock
from tests.support.patience import patience

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
# For a real socket that does not answer.
HTTP_TIMEOUT = patience(0.15)
# Longer than any test may take: failures come earlier.
CALL_TIMEOUT = 10.0
# gRPC's minimum.
OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]


class SkippingClock(FakeClock):
    """A clock that advances by itself at every sleep: pauses are recorded, and take no time.

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
