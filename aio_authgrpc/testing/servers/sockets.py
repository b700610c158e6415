"""TCP below a server: a connection that is reset, and an address that goes down and comes up again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine

_BACKLOG = 1024


def reset(transport: asyncio.WriteTransport) -> None:
    """Close a connection with RST in place of FIN."""
    # Without lingering, closing sends RST.
    lingering = struct.pack("ii", 1, 0)
    connection = transport.get_extra_info("socket")  # None where TLS has ended already
    if connection is not None:
        with contextlib.suppress(OSError):  # the client has gone already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
    transport.abort()


class Listener:
    """Accept connections on a free port of 127.0.0.1 that stays reserved while the listener is down.

    Args:
        serve: Serves one connection and closes its socket; cancelled by `aclose()`.

    Attributes:
        accepted: How many connections were accepted.
        serving: The connections that are being served.
    """

    def __init__(self, serve: Callable[[socket.socket], Coroutine[object, object, None]]) -> None:
        self.accepted = 0
        self.serving: set[asyncio.Task[None]] = set()
        self._serve = serve
        # Bound, but never listening: it keeps the port while the listener is down.
        self._reserved = _bound_socket(0)
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port, also while it is down."""
        return int(self._reserved.getsockname()[1])

    def come_up(self) -> None:
        """Accept connections. Does nothing if it is up."""
        if self._accepting is None:
            self._listening = _bound_socket(self.port)
            self._listening.listen(_BACKLOG)
            self._accepting = asyncio.create_task(self._accept(self._listening), name="listener")

    async def go_down(self) -> None:
        """Refuse connections from now on. Those that are open stay open."""
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            accepting.cancel()
            await asyncio.wait({accepting})
        if self._listening is not None:
            self._listening.close()

    async def aclose(self) -> None:
        """Go down, end what is being served and free the port."""
        await self.go_down()
        for serving in self.serving:
            serving.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)
        self._reserved.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listening)
            self.accepted += 1
            serving = loop.create_task(self._serve(client), name="connection of a listener")
            self.serving.add(serving)
            serving.add_done_callback(self.serving.discard)


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
