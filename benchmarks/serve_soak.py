"""The processes behind `soak.py`: an authority, or a gRPC server that can be restarted; chaos before each.

    python benchmarks/serve_soak.py authority | server

They take orders as `serve.py` does. They are two, so that signing a token holds no RPC up. The server takes
a token that has not expired; for the tokens' whole seconds and the answers' delays it is lenient by 2 s.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import grpc
import grpc.aio
import jwt
import trustme
from server_process import SERVICE, answer_orders

from aio_authgrpc.testing import Authority, ChaosProxy

Context = grpc.aio.ServicerContext[bytes, bytes]

_LENIENT = 2.0
_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.server.max_pending_requests", 100_000))
# Tokens that were verified; a day's worth of a soak's would be a leak.
_MOST_REMEMBERED = 100


class RestartableServer:
    """Echo bytes to whoever has a token that has not expired; stop, and start again on the same port."""

    def __init__(self) -> None:
        ca = trustme.CA()
        certificate = ca.issue_cert("localhost")
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        self.ca_pem = ca.cert_pem.bytes()
        self.port = 0
        self._credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
        self._expire_at: dict[str, float] = {}
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen; from the second time on, on the port of the first."""
        self._server = grpc.aio.server(options=_OPTIONS)
        handlers = {"Echo": grpc.unary_unary_rpc_method_handler(self._echo)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", self._credentials)
        await self._server.start()

    async def stop(self) -> None:
        """End all calls and listen no more."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    async def _echo(self, request: bytes, context: Context) -> bytes:
        values = [str(value) for key, value in context.invocation_metadata() or () if key == "authorization"]
        if len(values) != 1:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{len(values)} tokens")
        token = values[0].removeprefix("Bearer ")
        if token not in self._expire_at:
            if len(self._expire_at) > _MOST_REMEMBERED:
                self._expire_at.clear()
            claims = jwt.decode(token, options={"verify_signature": False})
            self._expire_at[token] = float(claims["exp"])
        if time.time() > self._expire_at[token] + _LENIENT:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")
        return request


class Orders:
    """Carries out what the other process orders, one method a command.

    Args:
        parts: What can be spoiled, by name.
    """

    def __init__(self, **parts: object) -> None:
        self._parts = parts

    async def spoil(self, part: str, order: str, arguments: dict[str, Any]) -> object:
        """Give one of the parts an order: the name of a method of its own, and its arguments."""
        ordered = getattr(self._parts[part], order)(**arguments)
        if asyncio.iscoroutine(ordered):
            await ordered
        return None


class AuthorityOrders(Orders):
    """Those for the authority and the endpoint's proxy."""

    def __init__(self, authority: Authority, endpoint: ChaosProxy) -> None:
        super().__init__(authority=authority, endpoint=endpoint)
        self._authority = authority
        self._endpoint = endpoint

    async def describe(self) -> object:
        """Give a key file that leads to the endpoint's proxy."""
        key_file = await self._authority.service_account_info()
        return {**key_file, "token_uri": f"{self._endpoint.url}/token"}

    async def token_requests(self) -> object:
        """Tell how many token requests have come."""
        return self._authority.token_requests


class ServerOrders(Orders):
    """Those for the server and the network's proxy."""

    def __init__(self, server: RestartableServer, network: ChaosProxy) -> None:
        super().__init__(network=network)
        self._server = server
        self._network = network

    async def describe(self) -> object:
        """Tell where the proxy is, and whom to trust."""
        return {"target": self._network.target, "ca_pem": self._server.ca_pem.decode()}

    async def stop(self) -> object:
        """Stop the gRPC server."""
        await self._server.stop()
        return None

    async def start(self) -> object:
        """Start the gRPC server again."""
        await self._server.start()
        return None


async def serve_tokens() -> None:
    """Be the authority until standard input ends."""
    async with Authority(token_lifetime=3) as authority, ChaosProxy(authority.url) as endpoint:
        await answer_orders(AuthorityOrders(authority, endpoint))


async def serve_rpcs() -> None:
    """Be the server until standard input ends."""
    server = RestartableServer()
    await server.start()
    try:
        async with ChaosProxy(f"127.0.0.1:{server.port}") as network:
            await answer_orders(ServerOrders(server, network))
    finally:
        await server.stop()


if __name__ == "__main__":
    asyncio.run({"authority": serve_tokens, "server": serve_rpcs}[sys.argv[1]]())
