"""A store that is down, slow, hostile or on another loop: no call fails, and none waits for long."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

from aio_authgrpc import AiohttpRequest, TokenRequest
from aio_authgrpc.testing import ChaosProxy, RedisServer, ScriptedTokens

from .conftest import MakeStore, WatchedClock, advance_until

Asked = Callable[..., TokenRequest]


def shared(make: MakeStore, source: Any, **arguments: Any) -> Any:
    """Return the shared source of a new process."""
    return make(**arguments).share(source, identity="orders")


async def test_a_store_that_is_down_fails_no_fetch(
    make_store: MakeStore, asked: Asked, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The process fetches for itself, and the log says so once."""
    process = shared(make_store, ScriptedTokens())
    await redis_server.kill()
    assert (await process.fetch(asked())).value == "token-1"
    assert (await process.fetch(asked())).value == "token-2"
    assert caplog.text.count("The shared token store failed") == 1


async def test_a_store_that_goes_down_during_the_request_fails_no_fetch(
    make_store: MakeStore, asked: Asked, redis_server: RedisServer
) -> None:
    """Its token is not stored, and used."""
    source = ScriptedTokens()
    with source.hold() as gate:
        fetching = asyncio.create_task(shared(make_store, source).fetch(asked()))
        await gate.arrived.wait()
        await redis_server.kill()
    assert (await fetching).value == "token-1"


async def test_a_process_that_waits_fetches_itself_when_the_store_goes_down(
    make_store: MakeStore, asked: Asked, redis_server: RedisServer, fake_clock: WatchedClock
) -> None:
    """It does not wait for a token that cannot arrive any more."""
    first, second = ScriptedTokens("a-token"), ScriptedTokens("another")
    with first.hold() as gate:
        asking = asyncio.create_task(shared(make_store, first).fetch(asked()))
        await gate.arrived.wait()
        waiting = asyncio.create_task(shared(make_store, second).fetch(asked()))
        await fake_clock.waiting.wait()
        await redis_server.kill()
        await advance_until(waiting, fake_clock)
        assert waiting.result().value == "another"
    await asking


@pytest.mark.parametrize("hangs", ["from-the-start", "after-the-first-look"])
async def test_a_store_that_hangs_delays_a_fetch_by_less_than_fifty_milliseconds(
    make_store: MakeStore,
    connect_redis: Callable[..., Any],
    redis_server: RedisServer,
    asked: Asked,
    fake_clock: WatchedClock,
    hangs: str,
) -> None:
    """By the clock that measures it; the next fetches are not delayed."""
    source = ScriptedTokens()
    async with ChaosProxy(f"127.0.0.1:{redis_server.port}") as proxy:
        process = shared(make_store, source, client=connect_redis(proxy.port))
        gate = source.hold()
        if hangs == "from-the-start":
            proxy.freeze()
            gate.release()
        fetching = asyncio.create_task(process.fetch(asked()))
        if hangs == "after-the-first-look":
            await gate.arrived.wait()
            proxy.freeze()
            gate.release()
        moved = await advance_until(fetching, fake_clock)
        assert 0.02 < moved < 0.05
        assert fetching.result().value == "token-1"
        assert (await process.fetch(asked())).value == "token-2"


async def test_a_cancelled_fetch_ends_although_the_store_hangs(
    make_store: MakeStore,
    connect_redis: Callable[..., Any],
    redis_server: RedisServer,
    asked: Asked,
    fake_clock: WatchedClock,
) -> None:
    """A lease that it may have is given back within the time that the store has."""
    async with ChaosProxy(f"127.0.0.1:{redis_server.port}") as proxy:
        frozen = proxy.freeze()
        fetching = asyncio.create_task(
            shared(make_store, ScriptedTokens(), client=connect_redis(proxy.port)).fetch(asked())
        )
        await frozen.arrived.wait()
        fetching.cancel()
        assert await advance_until(fetching, fake_clock) < 0.05
        assert fetching.cancelled()


async def test_a_store_that_works_again_is_used_again(
    make_store: MakeStore,
    connect_redis: Callable[..., Any],
    redis_server: RedisServer,
    asked: Asked,
    fake_clock: WatchedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After the pause of the circuit, in which it is not asked."""
    caplog.set_level("INFO", "aio_authgrpc")
    await shared(make_store, ScriptedTokens("a-token")).fetch(asked())
    async with ChaosProxy(f"127.0.0.1:{redis_server.port}") as proxy:
        await proxy.go_down()
        process = shared(make_store, ScriptedTokens("own"), client=connect_redis(proxy.port))
        assert (await process.fetch(asked())).value == "own"
        await proxy.come_up()
        assert (await process.fetch(asked())).value == "own"
        fake_clock.advance(5.0)
        assert (await process.fetch(asked())).value == "a-token"
    assert "The shared token store works again." in caplog.text


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="no-text"),
        pytest.param(b"QUJD", id="short"),
        pytest.param(b"A" * 400, id="not-sealed"),
        pytest.param(b"A" * 1_000_000, id="very-large"),
    ],
)
async def test_a_value_that_is_none_of_ours_is_replaced(
    make_store: MakeStore, connect_redis: Callable[..., Any], asked: Asked, value: bytes
) -> None:
    """The process that finds it fetches a token, and stores that."""
    redis = connect_redis()
    await shared(make_store, ScriptedTokens("first")).fetch(asked())
    (name,) = await redis.keys("*:token")
    await redis.hset(name, "value", value)
    assert (await shared(make_store, ScriptedTokens("second")).fetch(asked())).value == "second"
    assert (await shared(make_store, ScriptedTokens("third")).fetch(asked())).value == "second"


@pytest.mark.parametrize("fence", ["", "nan", "inf", "-1", "9" * 40, "x", b"\xff"], ids=repr)
async def test_a_fence_that_is_none_of_ours_fails_no_fetch(
    make_store: MakeStore, connect_redis: Callable[..., Any], asked: Asked, fence: Any
) -> None:
    """Not even where it keeps new tokens out of the store."""
    redis = connect_redis()
    await shared(make_store, ScriptedTokens("first")).fetch(asked())
    (name,) = await redis.keys("*:token")
    await redis.hset(name, mapping={"fence": fence, "value": "x"})
    assert (await shared(make_store, ScriptedTokens("second")).fetch(asked())).value == "second"


async def test_a_key_of_another_type_fails_no_fetch(
    make_store: MakeStore, connect_redis: Callable[..., Any], asked: Asked
) -> None:
    """The store's error leads to the process's own token."""
    redis = connect_redis()
    await shared(make_store, ScriptedTokens("first")).fetch(asked())
    (name,) = await redis.keys("*:token")
    await redis.set(name, "text")
    assert (await shared(make_store, ScriptedTokens("second")).fetch(asked())).value == "second"


class Client:
    """A client of a kind that nobody has met yet.

    Args:
        outcome: What it answers, or raises.

    Attributes:
        asked: How often it was asked.
    """

    def __init__(self, outcome: object) -> None:
        self.outcome = outcome
        self.asked = 0

    async def eval(self, *_: object) -> object:
        self.asked += 1
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize(
    "outcome",
    [None, 5, "text", [1, 2], [b"1", b"x", b"soon"], [[], {}], RuntimeError(), asyncio.CancelledError()],
    ids=repr,
)
async def test_whatever_a_client_does_fails_no_fetch(
    make_store: MakeStore, asked: Asked, outcome: object
) -> None:
    """An answer that is none, an error, and a cancellation from inside."""
    process = shared(make_store, ScriptedTokens(), client=Client(outcome))
    assert (await process.fetch(asked())).value == "token-1"
    assert (await process.fetch(asked())).value == "token-2"


@pytest.mark.parametrize("kind", ["MaxConnectionsError", "ResponseError"])
async def test_an_error_of_one_call_leaves_the_store_to_the_others(
    make_store: MakeStore, asked: Asked, kind: str
) -> None:
    """The pool has no connection left, or a key is of another type: the circuit stays closed."""
    import redis.exceptions

    client = Client(getattr(redis.exceptions, kind)("WRONGTYPE Operation against a key"))
    process = shared(make_store, ScriptedTokens(), client=client)
    await process.fetch(asked())
    client.outcome, client.asked = [b"1"], 0
    await process.fetch(asked())
    assert client.asked > 0


@pytest.mark.parametrize(
    "error", [RuntimeError("closed"), TimeoutError(), asyncio.CancelledError()], ids=repr
)
async def test_a_cancelled_fetch_is_cancelled_whatever_the_store_does(
    make_store: MakeStore, asked: Asked, error: BaseException
) -> None:
    """Giving back the lease fails, and the task ends as a cancelled one does."""
    source, client = ScriptedTokens(), Client([b"1"])
    with source.hold() as gate:
        fetching = asyncio.create_task(shared(make_store, source, client=client).fetch(asked()))
        await gate.arrived.wait()
        client.outcome = error
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching


async def test_a_fetch_that_is_cancelled_twice_ends_at_once(
    make_store: MakeStore, connect_redis: Callable[..., Any], redis_server: RedisServer, asked: Asked
) -> None:
    """The second one comes while a store that hangs is given back the lease."""
    source = ScriptedTokens()
    async with ChaosProxy(f"127.0.0.1:{redis_server.port}") as proxy:
        process = shared(make_store, source, client=connect_redis(proxy.port))
        with source.hold() as gate:
            fetching = asyncio.create_task(process.fetch(asked()))
            await gate.arrived.wait()
            frozen = proxy.freeze()
            fetching.cancel()
            await frozen.arrived.wait()
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching


async def test_a_token_whose_life_was_prolonged_in_the_store_expires(
    make_store: MakeStore, connect_redis: Callable[..., Any], asked: Asked, fake_clock: WatchedClock
) -> None:
    """Its own end is in the sealed value."""
    redis = connect_redis()
    await shared(make_store, ScriptedTokens("first")).fetch(asked())
    (name,) = await redis.keys("*:token")
    await redis.expire(name, 1_000_000)
    fake_clock.advance(3600)
    assert (await shared(make_store, ScriptedTokens("second")).fetch(asked())).value == "second"


async def test_a_token_too_large_to_store_is_used(
    make_store: MakeStore, connect_redis: Callable[..., Any], asked: Asked
) -> None:
    """The store is not filled."""
    token = await shared(make_store, ScriptedTokens("x" * 100_000)).fetch(asked())
    assert len(token.value) == 100_000
    assert await connect_redis().keys("*:token") == []


def test_a_second_loop_fetches_its_own_tokens(
    store_and_port: tuple[Any, int], caplog: pytest.LogCaptureFixture
) -> None:
    """A client's connections belong to the first one; the log says so once."""
    make, port = store_and_port
    store, client = make(port)

    async def fetch() -> str:
        async with AiohttpRequest() as http:
            request = TokenRequest(http=http, audience="a", time=0.0)
            source = store.share(ScriptedTokens(), identity="orders")
            return str((await source.fetch(request)).value)

    async def first() -> str:
        value = await fetch()
        await client.aclose()
        return value

    assert asyncio.run(first()) == "token-1"
    assert asyncio.run(fetch()) == "token-1"
    assert asyncio.run(fetch()) == "token-1"
    assert caplog.text.count("Tokens are not shared here") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.timeout(60)
async def test_a_forked_process_leaves_the_parents_connection_alone(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any]
) -> None:
    """Both would read each other's answers."""
    client = connect_redis()
    process = shared(make_store, ScriptedTokens("a-token"), client=client)
    await process.fetch(asked())
    request = asked()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            coroutine = process.fetch(request)
            coroutine.send(None)
        except StopIteration as done:  # it has awaited nothing
            code = int(done.value.value != "a-token")
        finally:
            os._exit(code)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert await client.ping()
