"""A connection that comes about when the test says so: what waiting for a token is to a plain call."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from aio_authgrpc.testing import Gate


class HeldConnection:
    """Accept connections on 127.0.0.1 and pass their bytes on once the gate is released.

    A channel to it is connecting until then, and its calls wait as a deferred call does for its token.

    Args:
        port: Of the server behind it.
    """

    def __init__(self, port: int) -> None:
        self.gate = Gate()
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    @property
    def target(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:  # gRPC connected again while the test ended
            writer.transport.abort()
            return
        # Not in the task: one that is cancelled before its first step never enters it.
        self._writers.append(writer)
        self._start(self._pass_on(reader, writer))

    def _start(self, coroutine) -> None:  # type: ignore[no-untyped-def]  # a coroutine
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.gate.pass_through()
        there, onward = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(onward)
        self._start(_copy(there, writer))
        await _copy(reader, onward)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        self._server.close()
        for _ in range(10):  # asyncio tells of a connection that it has accepted some rounds later
            await asyncio.sleep(0)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # an aborted transport is closed in the loop's next round


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
