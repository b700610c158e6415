"""Connections below the servers: what was accepted is closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import urllib.parse
from collections.abc import AsyncIterator, Callable

import pytest

from aio_authgrpc.testing import Authority, ChaosProxy, InterceptingProxy
from aio_authgrpc.testing.servers.sockets import Listener

# More rounds of the loop than it takes from the connection to the first step of its task.
ROUNDS = range(8)


async def hold(_: socket.socket) -> None:
    """Serve a connection for ever."""
    await asyncio.Event().wait()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener(hold)
    yield listener
    await listener.aclose()


async def first_task(listener: Listener) -> asyncio.Task[None]:
    """Return the task of the first connection, before its first step."""
    while not listener.serving:  # noqa: ASYNC110 - an event would come after that step
        await asyncio.sleep(0)
    return next(iter(listener.serving))


def is_closed(client: socket.socket) -> bool:
    """Return whether the other side has closed a connection; what is left for the collector warns."""
    gc.collect()
    client.setblocking(False)
    with contextlib.suppress(ConnectionResetError):
        return client.recv(1) == b""
    return True


async def test_connection_is_closed_if_its_task_is_cancelled_before_its_first_step(
    listener: Listener,
) -> None:
    """The coroutine that would have closed it never ran: `asyncio.run` ends a program that way."""
    listener.come_up()
    with socket.create_connection(("127.0.0.1", listener.port)) as client:
        serving = await first_task(listener)
        serving.cancel()
        await asyncio.wait([serving])
        assert is_closed(client)


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_connection_is_served_or_closed_when_the_listener_goes_down(
    listener: Listener, rounds: int
) -> None:
    """Also one that was accepted, and that no task was told of yet."""
    listener.come_up()
    await asyncio.sleep(0)
    with socket.create_connection(("127.0.0.1", listener.port)) as client:
        for _ in range(rounds):
            await asyncio.sleep(0)
        listener.go_down()
        assert len(listener.serving) == 1 or is_closed(client)
        await listener.aclose()
        assert is_closed(client)


async def test_served_connection_stays_open_while_the_listener_is_down(listener: Listener) -> None:
    """Going down concerns connections to come."""
    listener.come_up()
    with socket.create_connection(("127.0.0.1", listener.port)) as client:
        await first_task(listener)
        listener.go_down()
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", listener.port)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: ChaosProxy("127.0.0.1:9"), id="chaos"),
        pytest.param(lambda: InterceptingProxy({}), id="intercepting"),
        pytest.param(Authority, id="http"),
    ],
)
@pytest.mark.parametrize("rounds", ROUNDS)
async def test_server_that_closes_leaves_no_connection(
    make: Callable[[], ChaosProxy | InterceptingProxy | Authority], rounds: int
) -> None:
    """However far asyncio has come with a connection."""
    async with make() as server:
        port = urllib.parse.urlsplit(server.url).port
        with socket.create_connection(("127.0.0.1", port)) as client:
            for _ in range(rounds):
                await asyncio.sleep(0)
            await server.aclose()
            assert is_closed(client)
