"""The process behind the benchmarks: a gRPC server with TLS and a token authority, both on 127.0.0.1.

    python benchmarks/serve.py TOKEN_LIFETIME

`server_process.ServerProcess` starts it and orders it about: one JSON array a line on standard input, the
name of a command and its arguments, is answered by one JSON value a line on standard output. It ends when
standard input does, so that it never outlives who started it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Self

import grpc
import grpc.aio
import trustme
from server_process import SERVICE, answer_orders

from aio_authgrpc.testing import Authority, Gate

Context = grpc.aio.ServicerContext[bytes, bytes]


# gRPC's server turns calls away with CANCELLED when more than a thousand wait to be accepted.
_OPTIONS = (
    ("grpc.server.max_pending_requests", 1_000_000),
    ("grpc.server.max_pending_requests_hard_limit", 1_000_000),
)


class GuardedEchoServer:
    """Echo bytes, remember nothing, and refuse a call without exactly one bearer token.

    `aio_authgrpc.testing.EchoServer` records every call, which would cost memory by the hundred thousand.

    Attributes:
        target: What a channel connects to.
        ca_pem: The certificate of the server's authority.
    """

    def __init__(self) -> None:
        ca = trustme.CA()
        certificate = ca.issue_cert("localhost")
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
        self.ca_pem = ca.cert_pem.bytes()
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self.target = f"localhost:{self._server.add_secure_port('127.0.0.1:0', credentials)}"

    def _handlers(self) -> grpc.GenericRpcHandler:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Echo": grpc.unary_unary_rpc_method_handler(self._echo),
            "Count": grpc.unary_stream_rpc_method_handler(self._count),
            "EchoAll": grpc.stream_stream_rpc_method_handler(self._echo_all),
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    async def _echo(self, request: bytes, context: Context) -> bytes:
        await _check(context)
        return request

    async def _count(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        await _check(context)
        for _ in range(int(request)):
            yield request

    async def _echo_all(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        await _check(context)
        async for request in requests:
            yield request


async def _check(context: Context) -> None:
    tokens = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    if len(tokens) != 1 or not str(tokens[0]).startswith("Bearer "):
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{len(tokens)} tokens")


class Orders:
    """Carries out what the other process orders, one method a command."""

    def __init__(self, server: GuardedEchoServer, authority: Authority) -> None:
        self._server = server
        self._authority = authority
        self._gate = Gate()

    async def describe(self) -> object:
        """Tell where the server is, and give a key file of a service account."""
        return {
            "target": self._server.target,
            "ca_pem": self._server.ca_pem.decode(),
            "key_file": await self._authority.service_account_info(),
        }

    async def hold(self) -> object:
        """Hold token requests from now on."""
        self._gate = self._authority.hold()
        return None

    async def arrived(self) -> object:
        """Answer when a token request is held."""
        await self._gate.arrived.wait()
        return None

    async def release(self) -> object:
        """Let the held token requests pass, and forget any delay."""
        self._authority.behave()
        return None

    async def delay(self, seconds: float) -> object:
        """Answer each token request after `seconds`."""
        self._authority.delay(seconds)
        return None

    async def token_requests(self) -> object:
        """Tell how many token requests have come since the last time, and forget them."""
        count = self._authority.token_requests
        self._authority.requests.clear()
        return count


async def serve(token_lifetime: float) -> None:
    """Serve until standard input ends."""
    async with Authority(token_lifetime=token_lifetime) as authority, GuardedEchoServer() as server:
        await answer_orders(Orders(server, authority))


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
