"""A server on the loopback interface that leaves each connection to an attack."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

Attack = Callable[[asyncio.StreamWriter], Awaitable[None]]


class HostileServer:
    """Begin the attack when the first bytes of a connection have come, and read on meanwhile.

    Args:
        attack: Writes to the connection.
        begins_after: What the client has to send before.

    Attributes:
        port: Where it listens.
        attacks: The number of connections that were attacked.
        received: All bytes of all connections.
    """

    def __init__(self, attack: Attack, *, begins_after: bytes = b"") -> None:
        self.port = 0
        self.attacks = 0
        self.received = bytearray()
        self._attack = attack
        self._begins_after = begins_after
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for _ in range(10):  # asyncio tells of a connection that it has accepted some rounds later
            await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # until the transports are closed

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        seen = b""
        attacks: list[asyncio.Task[None]] = []
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    seen += data
                    self.received += data
                    if self._begins_after in seen and not attacks:
                        self.attacks += 1
                        attacks.append(asyncio.create_task(self._run(writer)))
        finally:
            for attack in attacks:
                attack.cancel()
            await asyncio.gather(*attacks, return_exceptions=True)
            writer.transport.abort()

    async def _run(self, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await self._attack(writer)
            await writer.drain()
            writer.write_eof()


def once(answer: bytes) -> Attack:
    """Send an answer."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return send


def endless(begin: bytes, piece: bytes) -> Attack:
    """Send a piece again and again, until the client has left."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # drain() alone does not yield to a client that reads as fast

    return send


def drip(begin: bytes, piece: bytes) -> Attack:
    """Send a piece now and then, until the client has left."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while not writer.is_closing():
            writer.write(piece)
            await asyncio.sleep(0.002)

    return send
