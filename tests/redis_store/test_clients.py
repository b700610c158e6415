"""The clients that users have: with a password, of a cluster, with texts for answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from aio_authgrpc import TokenRequest
from aio_authgrpc.testing import RedisServer, ScriptedTokens

from .conftest import MakeStore

Asked = Callable[..., TokenRequest]


def redis() -> Any:
    """Return the client's module, which is missing where these tests are skipped."""
    import redis.asyncio

    return redis.asyncio


async def two_fetches(make_store: MakeStore, asked: Asked, make_client: Callable[[], Any]) -> list[str]:
    """Return the values that two processes get, each with a client of its own."""
    values = []
    for name in ("first", "second"):
        client = make_client()
        try:
            source = make_store(client=client).share(ScriptedTokens(name), identity="orders")
            values.append((await source.fetch(asked())).value)
        finally:
            await client.aclose()
    return values


async def test_a_client_with_texts_for_answers_finds_the_token(
    make_store: MakeStore, asked: Asked, redis_server: RedisServer
) -> None:
    """`decode_responses=True` is the setting of many programs."""

    def client() -> Any:
        return redis().Redis(host="127.0.0.1", port=redis_server.port, decode_responses=True)

    assert await two_fetches(make_store, asked, client) == ["first", "first"]


@pytest.mark.parametrize(
    ("password", "values"), [("secret-word", ["first", "first"]), ("wrong", ["first", "second"])]
)
async def test_a_password_is_the_clients(
    make_store: MakeStore,
    asked: Asked,
    caplog: pytest.LogCaptureFixture,
    password: str,
    values: list[str],
) -> None:
    """A wrong one fails no fetch, and the log says what it is."""
    async with RedisServer("--requirepass", "secret-word") as server:

        def client() -> Any:
            return redis().Redis(host="127.0.0.1", port=server.port, password=password, retry=None)

        assert await two_fetches(make_store, asked, client) == values
    assert ("AuthenticationError" in caplog.text) == (password == "wrong")
    assert "secret-word" not in caplog.text


async def test_both_keys_of_a_token_are_at_one_place_of_a_cluster(
    make_store: MakeStore, asked: Asked
) -> None:
    """A script reaches no key of another node."""
    with socket.socket() as bus:  # the default is the port plus 10 000, which may be too high
        bus.bind(("127.0.0.1", 0))
        bus_port = str(bus.getsockname()[1])
    async with RedisServer("--cluster-enabled", "yes", "--cluster-port", bus_port) as server:
        node = redis().Redis(host="127.0.0.1", port=server.port)
        await node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while (await node.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)  # a node waits for 2 s before it serves
        await node.aclose()

        def client() -> Any:
            return redis().RedisCluster(host="127.0.0.1", port=server.port)

        assert await two_fetches(make_store, asked, client) == ["first", "first"]
