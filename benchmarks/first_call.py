"""One round of `loop_stall.py`, in an interpreter of its own: connect, make the first call, watch the loop.

It is told on standard input, as JSON, who calls and where; and answers on standard output, as JSON, with the
longest stall of each phase in seconds. Nothing is imported that the package loads by itself at its first use.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
from server_process import EchoStub

import aio_authgrpc

TICK = 0.001
# As long as the token takes: the machine's own hiccups have the same time to show.
IDLE = 0.4

IDLING, OPENING, TOKEN, RPC = "idle", "opening", "waiting for the token", "first RPC"


class StallWatch:
    """Wakes up every millisecond and keeps, for each phase, how late it was at most.

    Args:
        phase: Tells the phase. A stall counts to the one that is on at its end.
    """

    def __init__(self, phase: Callable[[], str]) -> None:
        self._phase = phase
        self.longest: dict[str, float] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(TICK)
            now = time.perf_counter()
            phase = self._phase()
            self.longest[phase] = max(self.longest.get(phase, 0.0), now - last - TICK)
            last = now


class FirstCall:
    """Opens a channel, makes one call, and knows in which phase it is."""

    def __init__(self, target: str, ca_path: str, key_path: str) -> None:
        self._target = target
        self._ca_path = Path(ca_path)
        self._key_path = key_path
        self._phase = IDLING
        self._connection: aio_authgrpc.Connection[EchoStub] | None = None

    def phase(self) -> str:
        """Return the phase that is on."""
        if (
            self._phase is TOKEN
            and self._connection is not None
            and self._connection.auth.status().generation
        ):
            return RPC
        return self._phase

    async def enter(self, phase: str) -> None:
        """Begin a phase, when the last stall of the one before has been seen."""
        await asyncio.sleep(2 * TICK)
        self._phase = phase

    async def plain(self) -> None:
        """Call with metadata passed by hand."""
        await self.enter(OPENING)
        credentials = grpc.ssl_channel_credentials(self._ca_path.read_bytes())
        async with grpc.aio.secure_channel(self._target, credentials) as channel:
            stub = EchoStub(channel)
            await self.enter(RPC)
            await stub.echo(b"x", metadata=(("authorization", "Bearer by-hand"),))
            await self.enter(IDLING)

    async def authorized(self) -> None:
        """Call with a service account's token."""
        await self.enter(OPENING)
        self._connection = aio_authgrpc.connect(
            self._target,
            EchoStub,
            credentials=aio_authgrpc.service_account(self._key_path, scopes=["scope"]),
            ssl_credentials=grpc.ssl_channel_credentials(self._ca_path.read_bytes()),
        )
        async with self._connection as stub:
            await self.enter(TOKEN)
            await stub.echo(b"x")
            await self.enter(IDLING)
        self._connection = None


async def run(who: str, target: str, ca_path: str, key_path: str) -> dict[str, float]:
    """Return the longest stall of each phase."""
    first = FirstCall(target, ca_path, key_path)
    watch = StallWatch(first.phase)
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(IDLE)
    await (first.plain() if who == "plain" else first.authorized())
    watching.cancel()
    return watch.longest


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(run(**json.load(sys.stdin)))))
