"""The process behind `burst.py`: a gRPC server that takes its time, and allows some streams on a connection.

    python serve_burst.py streams seconds

Its port is the first line of its output; it ends when standard input does.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import grpc.aio
from server_process import SERVICE

# gRPC's server turns calls away with CANCELLED when more than a thousand wait to be accepted.
_MANY = 1_000_000


async def serve(streams: int, seconds: float) -> None:
    """Serve until standard input ends."""

    async def echo(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await asyncio.sleep(seconds)
        return request

    options = [
        ("grpc.server.max_pending_requests", _MANY),
        ("grpc.server.max_pending_requests_hard_limit", _MANY),
        ("grpc.max_concurrent_streams", streams),
    ]
    server = grpc.aio.server(options=options)
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
