"""grpcio's server with a limit of streams on each connection, which refuses what comes above."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio

from aio_authgrpc.testing.servers.echo_server import SERVICE

_Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(kw_only=True)
class LimitedServer:
    """What a server with a limit has seen.

    Attributes:
        target: Its address.
        calls: How many calls its method has begun.
        peers: The connections that they came over.
    """

    target: str = ""
    calls: int = 0
    peers: set[str] = field(default_factory=set[str])

    async def echo(self, request: bytes, context: _Context) -> bytes:
        """Answer the request, and count it."""
        self.calls += 1
        self.peers.add(context.peer())
        # Some turns of the loop: what comes meanwhile finds the streams taken.
        for _ in range(20):
            await asyncio.sleep(0)
        return request


@asynccontextmanager
async def limited_server(streams: int) -> AsyncGenerator[LimitedServer]:
    """Serve on 127.0.0.1, in plaintext, `streams` calls at a time on each connection."""
    seen = LimitedServer()
    server = grpc.aio.server(
        options=[
            ("grpc.max_concurrent_streams", streams),
            ("grpc.server.max_pending_requests", 100_000),
            ("grpc.server.max_pending_requests_hard_limit", 100_000),
        ]
    )
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(seen.echo)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    seen.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield seen
    await server.stop(None)
