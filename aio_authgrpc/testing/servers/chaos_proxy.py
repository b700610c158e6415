"""A TCP proxy on the loopback interface that does to connections what networks do to them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import struct
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import grpc
import trustme

from aio_authgrpc._loop.clock import Clock, SystemClock
from aio_authgrpc.testing.servers.chaos_answers import Answer, BrokenAnswer, LateAnswer, TrickledAnswer
from aio_authgrpc.testing.servers.lifecycle import Lifecycle
from aio_authgrpc.testing.servers.misbehaviour import ANYWHERE, Gate, Script

_CHUNK = 65536
_BACKLOG = 1024
# TLS ends with a farewell of the client; one that forgets it is cut off.
_GOODBYE = 1.0
_NAMES = ("localhost", "127.0.0.1")
# A token response of 900 bytes then takes three quarters of a minute: longer than any time-out lets it.
_TRICKLE_PAUSE = 0.05


_Manner: TypeAlias = Callable[[asyncio.StreamWriter], Answer]


class ChaosProxy(Lifecycle):
    """Pass TCP connections on to a server, and spoil them when told to.

    Put it between a client and an `Authority`, or a client and a gRPC server; it knows nothing of either
    protocol. What it can do:

    - to the next `times` connections (None: until `behave()`): `hold`, `delay`, `trickle`,
      `reset_connections`, `end_connections`. A connection is held before anything of it is read; of the
      other orders each connection gets one, in the order of their ordering;
    - to all connections, also those that are open: `freeze`, `cut`;
    - to the address: `go_down`, `come_up`;
    - with `tls=True`, to the certificate: `change_certificate`.

    Clients keep connections: an order for the next one meets a client that has one only after a `cut`.

    Args:
        target: The server: a `host:port` or a URL.
        tls: End TLS here, with a certificate for `localhost` and `127.0.0.1` from an authority of its own;
            the server then gets plaintext. False passes the bytes on as they are, TLS included.
        clock: What `delay` and `trickle` wait by; None means the machine's clock.

    Attributes:
        connections: How many connections it has accepted.
    """

    def __init__(self, target: str, *, tls: bool = False, clock: Clock | None = None) -> None:
        parts = urllib.parse.urlsplit(target if "//" in target else f"//{target}")
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"target must be a host:port or a URL with a port, not {target!r}")
        self.connections = 0
        self._server = (parts.hostname, parts.port)
        self._tls = tls
        self._clock: Clock = SystemClock() if clock is None else clock
        self._reserved: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._gates: list[Gate] = []
        self._frozen: Gate | None = None
        self._waits: Script[Callable[[], Awaitable[None]]] = Script()
        self._faults: Script[_Manner] = Script()
        self._ca: trustme.CA | None = None
        self._context: ssl.SSLContext | None = None

    # Where it is

    @property
    def port(self) -> int:
        """The port it listens on, also while it is down.

        Raises:
            RuntimeError: It is not open.
        """
        if self._reserved is None:
            raise self._not_open()
        return int(self._reserved.getsockname()[1])

    @property
    def target(self) -> str:
        """What a gRPC channel connects to: `localhost` and the port."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """The address for HTTP, without a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def ca_pem(self) -> bytes:
        """The certificate of its authority, PEM.

        Raises:
            RuntimeError: It is not open, or without TLS.
        """
        return self._authority().cert_pem.bytes()

    @property
    def ssl_credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials that trust its authority alone."""
        return grpc.ssl_channel_credentials(self.ca_pem)

    def client_context(self) -> ssl.SSLContext:
        """Return a TLS context for HTTP clients that trusts its authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority().configure_trust(context)
        return context

    @property
    def open_connections(self) -> int:
        """How many connections are open now, those included that are held."""
        return len(self._serving)

    async def wait_until_idle(self) -> None:
        """Wait until no connection is open: until whoever had one has closed it, or it was cut."""
        while self._serving:
            await asyncio.wait(self._serving)

    # What it does to the next connections

    def hold(self, *, times: int | None = None) -> Gate:
        """Accept connections, and neither read nor send until the gate is released: half-open."""
        gate = self._new_gate()
        self._waits.add(gate.pass_through, times=times, where=ANYWHERE)
        return gate

    def delay(self, seconds: float, *, times: int | None = None) -> None:
        """Pass each piece of what the server sends on after `seconds` of the clock."""
        sleep = functools.partial(self._clock.sleep, seconds)
        self._order(lambda writer: LateAnswer(writer, sleep), times)

    def trickle(self, *, pause: float = _TRICKLE_PAUSE, times: int | None = 1) -> None:
        """Pass what the server sends on a byte at a time, each after `pause` seconds of the clock."""
        sleep = functools.partial(self._clock.sleep, pause)
        self._order(lambda writer: TrickledAnswer(writer, sleep), times)

    def reset_connections(self, *, after: int = 0, times: int | None = 1) -> None:
        """Reset connections (TCP RST) in place of passing more than `after` bytes of an answer on."""
        self._order(lambda writer: BrokenAnswer(writer, after, lambda: _reset(writer)), times)

    def end_connections(self, *, after: int = 0, times: int | None = 1) -> None:
        """End connections properly (TCP FIN) in place of passing more than `after` bytes on."""
        self._order(lambda writer: BrokenAnswer(writer, after, writer.close), times)

    # What it does to all of them

    def freeze(self) -> Gate:
        """Pass nothing on, on any connection, either way, until the gate is released: a dead network."""
        self._frozen = self._new_gate()
        return self._frozen

    def cut(self) -> int:
        """Reset every connection that is open (TCP RST); return how many."""
        there = [writer for writer in self._writers if not writer.is_closing()]
        for writer in there:
            _reset(writer)
        return len(there)

    async def go_down(self) -> None:
        """Refuse connections from now on, and reset those that are open. The port stays its own."""
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            accepting.cancel()
            await asyncio.wait({accepting})
        if self._listener is not None:
            self._listener.close()
        self.cut()

    async def come_up(self) -> None:
        """Accept connections again, on the same port. Does nothing where it is up.

        Raises:
            RuntimeError: It is not open.
        """
        if self._accepting is None:
            self._listener = _bound_socket(self.port)
            self._listener.listen(_BACKLOG)
            self._accepting = asyncio.create_task(self._accept(self._listener), name="chaos proxy")

    async def change_certificate(self, *names: str, trusted: bool = True) -> None:
        """Show another certificate from the next connection on.

        Args:
            *names: Whose it is; none means `localhost` and `127.0.0.1`.
            trusted: Whether it is from the proxy's own authority, or from one that nobody knows.

        Raises:
            RuntimeError: It is not open, or without TLS.
        """
        authority = self._authority() if trusted else await asyncio.to_thread(trustme.CA)
        self._context = await asyncio.to_thread(_server_context, authority, names or _NAMES)

    def behave(self) -> None:
        """Forget every order for connections that is left, and release every gate."""
        self._waits.clear()
        self._faults.clear()
        self._frozen = None
        while self._gates:
            self._gates.pop().release()

    def _order(self, manner: _Manner, times: int | None) -> None:
        self._faults.add(manner, times=times, where=ANYWHERE)

    def _new_gate(self) -> Gate:
        gate = Gate()
        self._gates.append(gate)
        return gate

    def _authority(self) -> trustme.CA:
        if not self._tls:
            raise RuntimeError("this ChaosProxy was made with tls=False: it has no certificate")
        if self._ca is None:
            raise self._not_open()
        return self._ca

    # How it is done

    async def _open(self) -> None:
        # Bound, but never listening: it keeps the port while the proxy is down.
        self._reserved = _bound_socket(0)
        if self._tls:
            self._ca = await asyncio.to_thread(trustme.CA)
            await self.change_certificate()
        await self.come_up()

    async def _close(self) -> None:
        self.behave()
        await self.go_down()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self._reserved is not None:
            self._reserved.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            self.connections += 1
            serving = loop.create_task(self._serve(client), name="chaos proxy connection")
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)

    async def _serve(self, client: socket.socket) -> None:
        # Either side may leave at any time, and closing cancels.
        with client, contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.CancelledError):
            client.setblocking(False)
            for wait in self._waits.take_all(ANYWHERE):
                await wait()
            manner = self._faults.take(ANYWHERE) or Answer
            reader, writer = await self._streams(client)
            self._writers.add(writer)
            try:
                await self._connect(reader, writer, manner(writer))
                if not writer.is_closing():
                    writer.close()
                    await asyncio.wait_for(writer.wait_closed(), _GOODBYE)
            finally:
                self._writers.discard(writer)
                writer.transport.abort()
        await asyncio.sleep(0)  # the transport is closed in the loop's next round

    async def _streams(self, client: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Begin to read from a connection, with a TLS handshake first where there is one."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, protocol = await loop.connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(reader), client, ssl=self._context
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer
    ) -> None:
        there, to_there = await asyncio.open_connection(*self._server)
        # What was sent has left when drain() returns, and not when a buffer has room again.
        # (asyncio's TLS never lets a writer go on whose limit is zero.)
        writer.transport.set_write_buffer_limits(high=1, low=0)
        try:
            await self._pass_on((reader, Answer(to_there)), (there, answer))
        finally:
            to_there.transport.abort()

    async def _pass_on(self, *ways: tuple[asyncio.StreamReader, Answer]) -> None:
        """Pass both ways until one of them ends."""
        passing = [asyncio.create_task(self._pass(reader, answer)) for reader, answer in ways]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in passing:
                way.cancel()
            await asyncio.gather(*passing, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, answer: Answer) -> None:
        while data := await reader.read(_CHUNK):
            if self._frozen is not None:
                await self._frozen.pass_through()
            await answer.send(data)


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket()
    try:
        bound.setblocking(False)
        # The address may be bound twice as long as one of the two listens.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
    except BaseException:
        bound.close()
        raise
    return bound


def _server_context(authority: trustme.CA, names: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def _reset(writer: asyncio.StreamWriter) -> None:
    # Without lingering, closing sends RST in place of FIN.
    lingering = struct.pack("ii", 1, 0)
    connection = writer.get_extra_info("socket")  # None where TLS has ended already
    if connection is not None:
        with contextlib.suppress(OSError):  # the client has gone already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
    writer.transport.abort()
