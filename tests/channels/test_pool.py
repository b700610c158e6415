"""Several connections of one channel, and which of them a call is on."""

from __future__ import annotations

from typing import Any

from aio_authgrpc import connect, static_token
from aio_authgrpc.testing import EchoServer, EchoStub

TOKEN = static_token("token")


def calls_by_peer(server: EchoServer) -> list[int]:
    """Return how many calls came over each connection."""
    peers = [call.peer for call in server.calls]
    return sorted(peers.count(peer) for peer in set(peers))


async def test_stubs_made_for_each_call_use_the_connections_in_turn(arity: Any) -> None:
    """A pool has one turn for all of its stubs: three connections, six stubs, two calls on each."""
    async with (
        EchoServer() as server,
        connect(
            server.target, credentials=TOKEN, ssl_credentials=server.ssl_credentials, pool_size=3
        ) as channel,
    ):
        for _ in range(6):
            await arity.finish(arity.begin(EchoStub(channel)))
        assert calls_by_peer(server) == [2, 2, 2]


async def test_two_plaintext_pools_share_no_connection() -> None:
    """By itself gRPC shares the connections of plaintext channels whose arguments are equal."""
    async with EchoServer(tls=False) as server:
        first = connect(server.target, EchoStub, credentials=TOKEN, plaintext=True, pool_size=2)
        second = connect(server.target, EchoStub, credentials=TOKEN, plaintext=True, pool_size=2)
        async with first as one, second as other:
            for stub in (one, other, one, other):
                await stub.UnaryUnary(b"x")
        assert calls_by_peer(server) == [1] * 4
