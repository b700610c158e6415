"""An HTTP proxy that routes host names of the internet to servers on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import urllib.parse
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

import trustme

from aio_authgrpc.testing.servers.certificates import client_context, issue_pem, server_context
from aio_authgrpc.testing.servers.http_server import LoopbackHttpServer
from aio_authgrpc.testing.servers.lifecycle import Lifecycle
from aio_authgrpc.testing.servers.sockets import bound_socket, stop_accepting

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CHUNK = 65536
# The client has to answer the end of TLS; after these seconds its connection is cut.
_TLS_END_TIMEOUT = 1.0


class InterceptingProxy(Lifecycle):
    """Proxy plain HTTP and CONNECT; end TLS itself, with a certificate from an authority of its own.

    An unchanged client that takes its proxy from the environment, and trusts `ca_pem`, then reaches
    hard-coded addresses such as `https://oauth2.googleapis.com/token` on this machine. A host name without a
    route is refused: nothing leaves the machine.

    Args:
        routes: The server for a host name, or for a pattern such as `*.googleapis.com`; the first match
            counts. The server records the host name in the `Host` header.
        mutual_tls: Host names, or patterns, that demand a client certificate of `issue_client_certificate`.

    Attributes:
        refused: The host names without a route, in order.
    """

    def __init__(self, routes: Mapping[str, LoopbackHttpServer], *, mutual_tls: Collection[str] = ()) -> None:
        self.refused: list[str] = []
        self._routes = routes
        self._mutual_tls = tuple(mutual_tls)
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._ca: trustme.CA | None = None
        self._listening: socket.socket | None = None
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Its address.

        Raises:
            RuntimeError: It is not open.
        """
        if self._server is None:
            raise self._not_open()
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def ca_pem(self) -> bytes:
        """The certificate of its authority, PEM.

        Raises:
            RuntimeError: It is not open.
        """
        return self._authority().cert_pem.bytes()

    def client_context(self) -> ssl.SSLContext:
        """Return a TLS context for clients that trusts its authority alone."""
        return client_context(self._authority())

    def issue_client_certificate(self, name: str = "client@example.com") -> tuple[bytes, bytes]:
        """Return a client's certificate chain and private key, PEM, from its authority."""
        return issue_pem(self._authority(), name)

    def _authority(self) -> trustme.CA:
        if self._ca is None:
            raise self._not_open()
        return self._ca

    async def _open(self) -> None:
        self._ca = await asyncio.to_thread(trustme.CA)
        self._listening = bound_socket()
        self._server = await asyncio.start_server(self._serve, sock=self._listening)

    async def _close(self) -> None:
        if self._listening is None:
            return
        await stop_accepting(self._listening)
        if self._server is not None:
            self._server.close()
        self._listening.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "start_server makes one"
        self._connections.add(task)
        # A client may leave at any time, and closing cancels.
        with contextlib.suppress(OSError, EOFError, ssl.SSLError, TimeoutError, asyncio.CancelledError):
            await self._answer(reader, writer)
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), _TLS_END_TIMEOUT)
        writer.transport.abort()
        await asyncio.sleep(0)  # the transport is closed in the loop's next round
        self._connections.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, address, *_ = head.decode("latin-1").split(" ")
        tunnel = method == "CONNECT"
        host = urllib.parse.urlsplit(f"//{address}" if tunnel else address).hostname or ""
        server = next((self._routes[name] for name in self._routes if fnmatchcase(host, name)), None)
        if server is None:
            self.refused.append(host)
            writer.write(_BAD_GATEWAY)
            return
        if tunnel:
            writer.write(_ESTABLISHED)
            # No await in between: the client's next bytes belong to TLS.
            await writer.start_tls(self._context_for(host))
            head = b""
        # A plain connection may continue with other hosts: all requests of a connection go to one server.
        await _pipe_to(server, head, reader, writer)

    def _context_for(self, host: str) -> ssl.SSLContext:
        if host not in self._contexts:
            context = server_context(self._authority(), host)
            if any(fnmatchcase(host, name) for name in self._mutual_tls):
                self._authority().configure_trust(context)
                context.verify_mode = ssl.CERT_REQUIRED
            self._contexts[host] = context
        return self._contexts[host]


async def _pipe_to(
    server: LoopbackHttpServer, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    port = urllib.parse.urlsplit(server.url).port
    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
    there_writer.write(head)
    pipes = [
        asyncio.create_task(_pipe(reader, there_writer)),
        asyncio.create_task(_pipe(there_reader, writer)),
    ]
    try:
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
    finally:
        there_writer.close()
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
