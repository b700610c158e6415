"""A server that answers with HTTP/2 frames of the test's own: what no gRPC server sends on demand."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING = 0, 1, 3, 4, 6
_ACK = _END_STREAM = 1
_END_HEADERS = 4

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reset:
    """RST_STREAM with this error code (RFC 9113, 7)."""

    code: int


class RawHttp2Server:
    """Answers each request on 127.0.0.1 with `answers` in turn, the last of them again and again.

    Args:
        answers: The frames of each: headers, bytes, trailers and resets, all sent at once, unless an event
            among them is to be waited for. The last ends the stream.

    Attributes:
        requests: How many requests came.
    """

    def __init__(self, *answers: Sequence[Headers | bytes | Reset | asyncio.Event]) -> None:
        self.requests = 0
        self._answers = answers
        self._connections: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._server.close()
        for _round in range(10):  # asyncio tells of a connection that it has accepted some rounds later
            await asyncio.sleep(0)
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def target(self) -> str:
        """The address, as gRPC takes it."""
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:  # gRPC connected again while the test ended
            writer.transport.abort()
            return
        # A task of our own: asyncio's complains of one that is cancelled, and gRPC keeps its connection.
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(24)  # the client's preface
            writer.write(_frame(_SETTINGS, 0, 0, b""))
            while True:
                head = await reader.readexactly(9)
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if kind in (_SETTINGS, _PING) and not flags & _ACK:
                    writer.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
                if kind == _DATA and flags & _END_STREAM:
                    await self._answer(writer, stream)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has closed
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, stream: int) -> None:
        *frames, last = self._answers[min(self.requests, len(self._answers) - 1)]
        self.requests += 1
        for frame in frames:
            if isinstance(frame, asyncio.Event):
                await frame.wait()
            else:
                writer.write(_content(frame, stream, 0))
        assert not isinstance(last, asyncio.Event)
        writer.write(_content(last, stream, _END_STREAM))


def _content(content: Headers | bytes | Reset, stream: int, flags: int) -> bytes:
    if isinstance(content, Reset):
        return _frame(_RST_STREAM, 0, stream, struct.pack(">I", content.code))
    if isinstance(content, bytes):
        return _frame(_DATA, flags, stream, content)
    # Literal header fields without indexing and without Huffman coding (RFC 7541, 6.2.2).
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in content)
    return _frame(_HEADERS, flags | _END_HEADERS, stream, block)


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()  # one byte of length: shorter than 127


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
