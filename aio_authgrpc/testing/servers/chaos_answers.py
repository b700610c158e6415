"""The ways in which a chaos proxy passes on an answer: at once, late, a byte at a time, or broken off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Answer:
    """Passes on the bytes of a server.

    Args:
        writer: The connection to the client.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Pass on some bytes, and return when they have left."""
        self._writer.write(data)
        await self._writer.drain()


class LateAnswer(Answer):
    """Passes each piece on after a pause.

    Args:
        writer: The connection to the client.
        sleep: The pause.
    """

    def __init__(self, writer: asyncio.StreamWriter, sleep: Callable[[], Awaitable[None]]) -> None:
        super().__init__(writer)
        self._sleep = sleep

    async def send(self, data: bytes) -> None:
        """See `Answer.send`."""
        await self._sleep()
        await super().send(data)


class TrickledAnswer(LateAnswer):
    """Passes each byte on after a pause."""

    async def send(self, data: bytes) -> None:
        """See `Answer.send`."""
        for position in range(len(data)):
            await super().send(data[position : position + 1])


class BrokenAnswer(Answer):
    """Passes on some bytes, then ends the connection.

    Args:
        writer: The connection to the client.
        after: The number of bytes.
        end: Ends the connection.
    """

    def __init__(self, writer: asyncio.StreamWriter, after: int, end: Callable[[], None]) -> None:
        super().__init__(writer)
        self._left = after
        self._end = end

    async def send(self, data: bytes) -> None:
        """See `Answer.send`."""
        await super().send(data[: self._left])
        self._left -= len(data)
        if self._left <= 0:
            self._end()
            raise ConnectionAbortedError("as ordered")
