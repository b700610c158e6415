"""A TCP proxy on the loopback interface that delays, breaks, freezes and refuses connections on demand."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import grpc
import trustme

from aio_authgrpc.testing.servers.certificates import LOCAL_NAMES, client_context, server_context
from aio_authgrpc.testing.servers.chaos_answers import Answer, BrokenAnswer, LateAnswer, TrickledAnswer
from aio_authgrpc.testing.servers.lifecycle import Lifecycle
from aio_authgrpc.testing.servers.misbehaviour import ANYWHERE, Gate, Script
from aio_authgrpc.testing.servers.sockets import Listener, reset
from aio_authgrpc.tokens import Clock, SystemClock

_CHUNK = 65536
# The client has to answer the end of TLS; after these seconds its connection is cut.
_TLS_END_TIMEOUT = 1.0
_PROTOCOLS = ("h2", "http/1.1")
# A token response of 900 bytes then takes 45 s: longer than every time-out of a token request.
_TRICKLE_PAUSE = 0.05

_Manner: TypeAlias = Callable[[asyncio.StreamWriter], Answer]


class ChaosProxy(Lifecycle):
    """Pass TCP connections on to a server, and spoil them on demand.

    Put it between a client and an `Authority`, or a client and a gRPC server; it reads neither protocol.
    Orders concern:

    - the next `times` connections (None: until `behave()`): `hold`, `delay`, `trickle`,
      `reset_connections`, `end_connections`. A connection is held before anything of it is read; each
      connection takes one of the other orders, first come first served;
    - all connections, also those that are open: `freeze`, `cut`;
    - the address: `go_down`, `come_up`;
    - the certificate, with `tls=True`: `change_certificate`.

    Clients keep connections: an order for the next connection reaches a connected client only after a `cut`.

    Args:
        target: The server: a `host:port` or a URL.
        tls: End TLS here, with a certificate for `localhost` and `127.0.0.1` from an authority of its own;
            the server then gets plaintext. False passes the bytes on as they are, TLS included.
        clock: Times `delay` and `trickle`; None means the machine's clock.
    """

    def __init__(self, target: str, *, tls: bool = False, clock: Clock | None = None) -> None:
        parts = urllib.parse.urlsplit(target if "//" in target else f"//{target}")
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"target must be a host:port, or a URL with a port, not {target!r}")
        self._server = (parts.hostname, parts.port)
        self._tls = tls
        self._clock: Clock = SystemClock() if clock is None else clock
        self._listener: Listener | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._gates: list[Gate] = []
        self._frozen: Gate | None = None
        self._waits: Script[Callable[[], Awaitable[None]]] = Script()
        self._faults: Script[_Manner] = Script()
        self._ca: trustme.CA | None = None
        self._context: ssl.SSLContext | None = None

    # Addresses and credentials

    @property
    def port(self) -> int:
        """The port it listens on, also while it is down.

        Raises:
            RuntimeError: It is not open.
        """
        return self._opened().port

    @property
    def target(self) -> str:
        """The target for a gRPC channel: `localhost` and the port."""
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
        return client_context(self._authority())

    @property
    def connections(self) -> int:
        """How many connections it has accepted."""
        return 0 if self._listener is None else self._listener.accepted

    @property
    def open_connections(self) -> int:
        """How many connections are open now, held ones included."""
        return 0 if self._listener is None else len(self._listener.serving)

    async def wait_until_idle(self) -> None:
        """Wait until every connection was closed or cut."""
        while self._listener is not None and self._listener.serving:
            await asyncio.wait(self._listener.serving)

    # Orders for the next connections

    def hold(self, *, times: int | None = None) -> Gate:
        """Accept connections, and neither read nor send until the gate is released: half-open."""
        gate = self._new_gate()
        self._waits.add(gate.pass_through, times=times, where=ANYWHERE)
        return gate

    def delay(self, seconds: float, *, times: int | None = None) -> None:
        """Pass on each piece of an answer after `seconds` of the clock."""
        sleep = functools.partial(self._clock.sleep, seconds)
        self._order(lambda writer: LateAnswer(writer, sleep), times)

    def trickle(self, *, pause: float = _TRICKLE_PAUSE, times: int | None = 1) -> None:
        """Pass on an answer a byte at a time, each after `pause` seconds of the clock."""
        sleep = functools.partial(self._clock.sleep, pause)
        self._order(lambda writer: TrickledAnswer(writer, sleep), times)

    def reset_connections(self, *, after: int = 0, times: int | None = 1) -> None:
        """Reset connections (TCP RST) after `after` bytes of an answer."""
        self._order(lambda writer: BrokenAnswer(writer, after, lambda: reset(writer.transport)), times)

    def end_connections(self, *, after: int = 0, times: int | None = 1) -> None:
        """End connections properly (TCP FIN) after `after` bytes of an answer."""
        self._order(lambda writer: BrokenAnswer(writer, after, writer.close), times)

    # Orders for all connections

    def freeze(self) -> Gate:
        """Pass on nothing, in either direction, until the gate is released: a dead network."""
        self._frozen = self._new_gate()
        return self._frozen

    def cut(self) -> int:
        """Reset every connection that is open (TCP RST); return how many."""
        there = [writer for writer in self._writers if not writer.is_closing()]
        for writer in there:
            reset(writer.transport)
        return len(there)

    async def go_down(self) -> None:
        """Refuse connections from now on, and reset those that are open. The port stays reserved."""
        if self._listener is not None:
            self._listener.go_down()
        self.cut()

    async def come_up(self) -> None:
        """Accept connections again, on the same port. Does nothing if it is up.

        Raises:
            RuntimeError: It is not open.
        """
        self._opened().come_up()

    async def change_certificate(self, *names: str, trusted: bool = True) -> None:
        """Show another certificate from the next connection on.

        Args:
            *names: The names in it; none means `localhost` and `127.0.0.1`.
            trusted: Whether it is from the proxy's own authority, or from an unknown one.

        Raises:
            RuntimeError: It is not open, or without TLS.
        """
        authority = self._authority() if trusted else await asyncio.to_thread(trustme.CA)
        self._context = await asyncio.to_thread(
            server_context, authority, *(names or LOCAL_NAMES), protocols=_PROTOCOLS
        )

    def behave(self) -> None:
        """Forget the remaining orders for connections, and release every gate."""
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

    def _opened(self) -> Listener:
        if self._listener is None:
            raise self._not_open()
        return self._listener

    def _authority(self) -> trustme.CA:
        if not self._tls:
            raise RuntimeError("this ChaosProxy was made with tls=False: it has no certificate")
        if self._ca is None:
            raise self._not_open()
        return self._ca

    # Connections

    async def _open(self) -> None:
        self._listener = Listener(self._serve)
        if self._tls:
            self._ca = await asyncio.to_thread(trustme.CA)
            await self.change_certificate()
        await self.come_up()

    async def _close(self) -> None:
        self.behave()
        if self._listener is not None:
            await self.go_down()
            await self._listener.aclose()

    async def _serve(self, client: socket.socket) -> None:
        # Either side may leave at any time, and closing cancels.
        with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.CancelledError):
            for wait in self._waits.take_all(ANYWHERE):
                await wait()
            manner = self._faults.take(ANYWHERE) or Answer
            reader, writer = await _streams(client, self._context)
            self._writers.add(writer)
            try:
                await self._connect(reader, writer, manner(writer))
                if not writer.is_closing():
                    writer.close()
                    await asyncio.wait_for(writer.wait_closed(), _TLS_END_TIMEOUT)
            finally:
                self._writers.discard(writer)
                writer.transport.abort()
        await asyncio.sleep(0)  # the transport is closed in the loop's next round

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer
    ) -> None:
        there, to_there = await asyncio.open_connection(*self._server)
        # drain() then returns when everything has left, not when the buffer has room again.
        # (With a limit of zero, drain() never returns under asyncio's TLS.)
        writer.transport.set_write_buffer_limits(high=1, low=0)
        try:
            await self._pass_on((reader, Answer(to_there)), (there, answer))
        finally:
            to_there.transport.abort()

    async def _pass_on(self, *ways: tuple[asyncio.StreamReader, Answer]) -> None:
        """Pass on both directions until one of them ends."""
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


async def _streams(
    client: socket.socket, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return the streams of a connection, after its TLS handshake if there is one."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, protocol = await loop.connect_accepted_socket(
        lambda: asyncio.StreamReaderProtocol(reader), client, ssl=context
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
