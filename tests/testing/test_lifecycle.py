"""Opening and closing, for each of the servers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from aio_authgrpc.testing import Authority, BookstoreServer, EchoServer

Server = Authority | BookstoreServer | EchoServer

each_server = pytest.mark.parametrize("make", [Authority, BookstoreServer, EchoServer])


@each_server
def test_constructor_needs_no_loop(make: Callable[[], Server]) -> None:
    """A server can be made outside a loop; it then has no address."""
    with pytest.raises(RuntimeError, match="is not open"):
        _ = address(make())


@each_server
async def test_closed_twice_is_closed_once(make: Callable[[], Server]) -> None:
    """Closing again does nothing."""
    async with make() as server:
        await server.aclose()
        assert server.closed
    await server.aclose()


@each_server
async def test_closed_before_it_opened_cannot_be_opened(make: Callable[[], Server]) -> None:
    """A server serves once."""
    server = make()
    await server.aclose()
    with pytest.raises(RuntimeError, match="make another one"):
        await server.__aenter__()


@each_server
async def test_forgotten_while_open_warns(make: Callable[[], Server]) -> None:
    """A server that was never closed warns when it is collected."""
    server = make()
    await server.__aenter__()
    with pytest.warns(ResourceWarning, match="was never closed"):
        server.__del__()
    await server.aclose()


@each_server
async def test_closed_server_refuses_connections(make: Callable[[], Server]) -> None:
    """The port is closed afterwards."""
    async with make() as server:
        port = int(address(server).rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@each_server
async def test_two_are_independent(make: Callable[[], Server]) -> None:
    """Two of a kind listen on ports of their own."""
    async with make() as first, make() as second:
        assert address(first) != address(second)


@each_server
async def test_closed_server_leaves_no_garbage_that_warns(make: Callable[[], Server]) -> None:
    """Collecting what a closed server left raises no warning."""
    async with make():
        pass
    gc.collect()


def address(server: Server) -> str:
    return server.url if isinstance(server, Authority) else server.target
