"""TCP below a server: a connection that is reset, and an address that goes down and comes up again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine

_BACKLOG = 1024


# Between accepting a connection and calling its protocol, asyncio takes three rounds of its loop.
_ROUNDS = 10


async def stop_accepting(listening: socket.socket) -> None:
    """Let asyncio accept no more connections, and call the protocols of those that it has accepted.

    Closing a server of asyncio's at once would leave these open.
    """
    with contextlib.suppress(NotImplementedError):  # Windows' default loop
        asyncio.get_running_loop().remove_reader(listening)
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


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

    The loop has to watch sockets (`add_reader`), which every loop but Windows' default one does.

    Args:
        serve: Serves one connection, whose socket is closed after it; cancelled by `aclose()`.

    Attributes:
        accepted: How many connections were accepted.
        serving: The connections that are being served.
    """

    def __init__(self, serve: Callable[[socket.socket], Coroutine[object, object, None]]) -> None:
        self.accepted = 0
        self.serving: set[asyncio.Task[None]] = set()
        self._serve = serve
        # Bound, but never listening: it keeps the port while the listener is down.
        self._reserved = bound_socket()
        self._listening: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port, also while it is down."""
        return int(self._reserved.getsockname()[1])

    def come_up(self) -> None:
        """Accept connections. Does nothing if it is up."""
        if self._listening is None:
            self._listening = bound_socket(self.port)
            self._listening.listen(_BACKLOG)
            # Not `loop.sock_accept`: cancelled at the wrong moment, it drops the connection that it has.
            asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def go_down(self) -> None:
        """Refuse connections from now on. Those that are open stay open."""
        listening, self._listening = self._listening, None
        if listening is not None:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()

    async def aclose(self) -> None:
        """Go down, end what is being served and free the port."""
        self.go_down()
        for serving in self.serving:
            serving.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)
        self._reserved.close()

    def _accept(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # the client has left
            return
        client.setblocking(False)
        self.accepted += 1
        serving = asyncio.get_running_loop().create_task(self._serve(client), name="connection of a listener")
        self.serving.add(serving)

        # Not in the coroutine: a task that is cancelled before its first step never enters it.
        def end(_: asyncio.Task[None]) -> None:
            self.serving.discard(serving)
            client.close()

        serving.add_done_callback(end)


def bound_socket(port: int = 0) -> socket.socket:
    """Return a socket at a port of 127.0.0.1 that does not listen yet; 0 means a free port."""
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
