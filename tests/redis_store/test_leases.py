"""A lease that nobody uses holds up no process: not after a hiccup of the store, a cancellation, an exit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aio_authgrpc import TokenRequest
from aio_authgrpc.testing import ChaosProxy, RedisServer, ScriptedTokens

from .conftest import MakeStore, WatchedClock, advance_until

Asked = Callable[..., TokenRequest]

# More than a loop's turns from the first step of a fetch to the store's answer.
STEPS = 40


def shared(make: MakeStore, source: Any, *, identity: str = "orders", **arguments: Any) -> Any:
    """Return the shared source of a new process."""
    return make(**arguments).share(source, identity=identity)


async def all_given_back() -> None:
    """Wait for what a process does after a fetch that the store did not answer."""
    named = [task for task in asyncio.all_tasks() if task.get_name() == "aio_authgrpc lease"]
    assert named
    await asyncio.gather(*named)


async def test_a_look_that_was_given_up_leaves_no_lease(
    make_store: MakeStore,
    asked: Asked,
    connect_redis: Callable[..., Any],
    redis_server: RedisServer,
    fake_clock: WatchedClock,
) -> None:
    """The store paused, and executes later what it was asked."""
    client = connect_redis()
    await client.ping()
    process = shared(make_store, ScriptedTokens("own"), client=client)
    redis_server.freeze()
    fetching = asyncio.create_task(process.fetch(asked()))
    await advance_until(fetching, fake_clock)
    redis_server.thaw()
    await all_given_back()
    assert await connect_redis().keys("*:lease") == []


async def test_a_connection_that_takes_longer_than_a_call_waits_is_there_for_the_next_one(
    make_store: MakeStore,
    asked: Asked,
    connect_redis: Callable[..., Any],
    redis_server: RedisServer,
    fake_clock: WatchedClock,
) -> None:
    """A store that is far away takes several round trips to connect to, and one to ask."""
    async with ChaosProxy(f"127.0.0.1:{redis_server.port}") as proxy:
        process = shared(make_store, ScriptedTokens(), client=connect_redis(proxy.port))
        frozen = proxy.freeze()
        fetching = asyncio.create_task(process.fetch(asked()))
        await advance_until(fetching, fake_clock)
        frozen.release()
        await all_given_back()
        connections = proxy.connections
        fake_clock.advance(5.0)
        await process.fetch(asked())
        assert proxy.connections == connections
    assert len(await connect_redis().keys("*:token")) == 1


async def test_a_token_that_could_not_be_stored_leaves_no_lease(
    make_store: MakeStore,
    asked: Asked,
    connect_redis: Callable[..., Any],
    redis_server: RedisServer,
    fake_clock: WatchedClock,
) -> None:
    """The store paused while the token was on its way, and the circuit is open."""
    source = ScriptedTokens("own")
    process = shared(make_store, source)
    with source.hold() as gate:
        fetching = asyncio.create_task(process.fetch(asked()))
        await gate.arrived.wait()
        redis_server.freeze()
    await advance_until(fetching, fake_clock)
    redis_server.thaw()
    await all_given_back()
    assert await connect_redis().keys("*:lease") == []


async def test_a_fetch_that_is_cancelled_anywhere_leaves_no_lease(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any]
) -> None:
    """Also where the answer with the lease is on its way."""
    client = connect_redis()
    await client.ping()
    store = make_store(client=client)
    for steps in range(STEPS):
        source = ScriptedTokens()
        with source.hold():
            fetching = asyncio.create_task(store.share(source, identity=str(steps)).fetch(asked()))
            for _ in range(steps):
                await asyncio.sleep(0)
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
    assert await connect_redis().keys("*:lease") == []


async def test_a_source_that_exits_leaves_no_lease(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any]
) -> None:
    """`sys.exit()` in a function of the user's ends its fetch alone."""

    class Exiting(ScriptedTokens):
        async def fetch(self, request: TokenRequest) -> Any:
            raise SystemExit(1)

    with pytest.raises(SystemExit):
        await shared(make_store, Exiting()).fetch(asked())
    assert await connect_redis().keys("*:lease") == []


async def test_a_burst_of_identities_takes_no_more_connections_than_a_pool_has(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any]
) -> None:
    """A second process finds all of its tokens."""
    sources = []
    for _ in range(2):
        store = make_store(client=connect_redis(max_connections=20))
        sources = [ScriptedTokens() for _ in range(120)]
        await asyncio.gather(
            *(store.share(source, identity=str(i)).fetch(asked()) for i, source in enumerate(sources))
        )
    assert sum(source.fetches for source in sources) == 0
