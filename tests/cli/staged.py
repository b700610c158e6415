"""Servers that go wrong in one way each, on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import email.utils
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import trustme
from aiohttp import web
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from aio_authgrpc.testing import Authority, LoopbackGrpcServer
from aio_authgrpc.tokens import SystemClock


def server_context(
    ca: trustme.CA, name: str, *protocols: str, not_after: datetime.datetime | None = None
) -> ssl.SSLContext:
    """Return a context with a certificate for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name, not_after=not_after).configure_cert(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any], context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve connections on a free port, which is given, and end them at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(guarded(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports are closed in the loop's next round


class FrontEnd:
    """Answers each request in HTTP, over HTTP/2 and HTTP/1.1, as the front ends of Google do.

    Args:
        status: The status.
        headers: The headers.
        body: The body.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: str) -> None:
        self._status, self._headers, self._body = status, headers, body.encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() == "h2":
            await self._http2(reader, writer)
        else:
            await self._http1(reader, writer)

    async def _http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = [f"HTTP/1.1 {self._status} X", *(f"{name}: {value}" for name, value in self._headers.items())]
        lines += [f"content-length: {len(self._body)}", "connection: close", "", ""]
        writer.write("\r\n".join(lines).encode() + self._body)
        await writer.drain()
        await reader.read()

    async def _http2(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(24)
        writer.write(_frame(4, 0, 0, b""))
        while True:
            head = await reader.readexactly(9)
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:])
            await reader.readexactly(int.from_bytes(head[:3]))
            if kind == 4 and not flags & 1:
                writer.write(_frame(4, 1, 0, b""))
            if kind == 1:
                fields = {":status": str(self._status), **self._headers}
                writer.write(_frame(1, 4, stream, b"".join(_literal(*pair) for pair in fields.items())))
                writer.write(_frame(0, 1, stream, self._body))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _literal(name: str, value: str) -> bytes:
    """Return a header as HPACK writes it without compression (RFC 7541, 6.2.2)."""
    assert max(len(name), len(value)) < 127
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class NamedGrpcServer(LoopbackGrpcServer):
    """A gRPC server with a certificate for a name of the internet, which refuses every method.

    Args:
        name: The name.
        code: The status of every RPC; OK answers them.
        details: Its text.
        info: The `ErrorInfo` in its details.
        not_after: When its certificate ends.
    """

    def __init__(
        self,
        name: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNIMPLEMENTED,
        details: str = "",
        info: error_details_pb2.ErrorInfo | None = None,
        not_after: datetime.datetime | None = None,
    ) -> None:
        super().__init__()
        self._name, self._not_after = name, not_after
        self._code, self._details, self._info = code, details, info

    def _make_credentials(self) -> grpc.ServerCredentials:
        self._ca = trustme.CA()
        certificate = self._ca.issue_cert(self._name, not_after=self._not_after)
        chain = b"".join(link.bytes() for link in certificate.cert_chain_pems)
        return grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])

    def _register(self, server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((_Everything(self._answer),))

    async def _answer(self, _: bytes, context: Any) -> bytes:
        if self._code is grpc.StatusCode.OK:
            return b"\x08\x01"
        trailing: tuple[tuple[str, bytes], ...] = ()
        if self._info is not None:
            status = status_pb2.Status(code=self._code.value[0], message=self._details)
            packed = any_pb2.Any(
                type_url="type.googleapis.com/google.rpc.ErrorInfo", value=self._info.SerializeToString()
            )
            status.details.append(packed)
            trailing = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(self._code, self._details, trailing)
        raise AssertionError


class _Everything(grpc.GenericRpcHandler):
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def service(self, _: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answer)


class Tunnel:
    """An HTTP proxy that connects to one port, whatever it is asked for, or refuses with a status.

    Args:
        port: The port on 127.0.0.1; None refuses.
        status: The status of a refusal.
    """

    def __init__(self, port: int | None, status: str = "407 Proxy Authentication Required") -> None:
        self._port, self._status = port, status

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        await reader.readuntil(b"\r\n\r\n")
        if self._port is None:
            writer.write(f"HTTP/1.1 {self._status}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            await reader.read()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        finally:
            back.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()


class AheadClock:
    """The machine's clock, moved.

    Args:
        seconds: How far it is ahead.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def time(self) -> float:
        return SystemClock.time() + self._seconds

    def monotonic(self) -> float:
        return SystemClock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await SystemClock.sleep(seconds)


class DatedAuthority(Authority):
    """An authority that dates its responses by its own clock, as every HTTP server does."""

    async def _serve_token(self, request: web.Request) -> web.Response:
        response = await super()._serve_token(request)
        response.headers["Date"] = email.utils.formatdate(self._clock.time(), usegmt=True)
        return response


def written(path: Path, content: str | bytes) -> Path:
    """Write a file, and return its path."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
