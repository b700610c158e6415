"""A real Redis or Valkey, clients of it, and stores that share tokens there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from aio_authgrpc import AiohttpRequest, TokenRequest
from aio_authgrpc.testing import FakeClock, RedisNotFoundError, RedisServer, find_redis

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))

try:
    import redis.asyncio

    find_redis()
except (ImportError, RedisNotFoundError) as error:
    MISSING: Exception | None = error
else:
    MISSING = None

# A store's answer is awaited in parts that are shorter than this, and another process's token in longer ones.
SHORTEST_WAIT = 0.01


class WatchedClock(FakeClock):
    """Tells when somebody waits for another process.

    Attributes:
        waiting: Set when the first wait has begun.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait, and tell of it."""
        if seconds >= SHORTEST_WAIT:
            self.waiting.set()
        await super().sleep(seconds)


async def advance_until(done: asyncio.Future[Any], clock: FakeClock) -> float:
    """Move the clock whenever somebody sleeps, until the task is done; return by how many seconds."""
    moved = 0.0
    while not done.done():
        if clock.sleepers:
            moved += clock.next_wake_up or 0.0
            clock.advance(clock.next_wake_up or 0.0)
        await asyncio.sleep(0)
    return moved


@pytest.fixture
def fake_clock() -> WatchedClock:
    """Give the clock of all stores and caches of a test."""
    return WatchedClock()


# Whoever makes a store, as a process does: (keys, clock) -> store.
MakeStore = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def redis_is_there() -> None:
    """Skip without a server or a client, or fail where the environment says that they are required."""
    if MISSING is not None and os.environ.get("AIO_AUTHGRPC_REDIS") == "required":
        pytest.fail(str(MISSING))
    if MISSING is not None:
        pytest.skip(str(MISSING))


@pytest.fixture
async def redis_server(redis_is_there: None) -> AsyncIterator[RedisServer]:
    """Give a server of the test's own, which it may freeze or kill."""
    async with RedisServer() as server:
        yield server


@pytest.fixture
async def connect_redis(redis_server: RedisServer) -> AsyncIterator[Callable[..., Any]]:
    """Give a function that returns a client of the server, or of another port; it is closed with the test."""
    clients: list[Any] = []

    def connect(port: int | None = None, **arguments: Any) -> Any:
        port = redis_server.port if port is None else port
        # Without attempts of its own, whose pauses no test's clock shortens.
        arguments = {"retry": None, **arguments}
        clients.append(redis.asyncio.Redis(host="127.0.0.1", port=port, **arguments))
        return clients[-1]

    yield connect
    for client in clients:
        await client.aclose()


@pytest.fixture
def make_store(connect_redis: Callable[..., Any], fake_clock: FakeClock) -> MakeStore:
    """Give a function that makes a store with a client of its own, as each process does."""
    from aio_authgrpc.redis import SharedTokenStore

    def make(*keys: bytes, client: Any = None, **arguments: Any) -> SharedTokenStore:
        client = connect_redis() if client is None else client
        return SharedTokenStore(client, keys=keys or (KEY,), clock=fake_clock, **arguments)

    return make


@pytest.fixture
async def asked(fake_clock: FakeClock) -> AsyncIterator[Callable[..., TokenRequest]]:
    """Give a function that returns a request for a token, now."""
    async with AiohttpRequest() as http:

        def request(**changes: Any) -> TokenRequest:
            given = {"http": http, "audience": "https://orders.example.com", "time": fake_clock.time()}
            return TokenRequest(**{**given, **changes})

        yield request


@pytest.fixture
def store_and_port(redis_is_there: None) -> Iterator[tuple[Any, int]]:
    """Give a function that makes a store and its client, and the port of a server of no test's loop."""
    from aio_authgrpc.redis import SharedTokenStore

    def make(port: int) -> tuple[SharedTokenStore, Any]:
        client = redis.asyncio.Redis(host="127.0.0.1", port=port)
        return SharedTokenStore(client, keys=[KEY]), client

    with asyncio.Runner() as runner:
        server = runner.run(RedisServer().__aenter__())
        try:
            yield make, server.port
        finally:
            runner.run(server.aclose())
