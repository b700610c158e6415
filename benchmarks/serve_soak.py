"""The process behind `soak.py`: an authority, a gRPC server that can be restarted, and chaos before both.

It takes orders as `serve.py` does. The server takes a token that the authority has issued, and that has not
expired: for the tokens' whole seconds and the orders' delays it is lenient by 2 s.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import trustme
from server_process import SERVICE, answer_orders

from aio_authgrpc.testing import Authority, ChaosProxy

Context = grpc.aio.ServicerContext[bytes, bytes]

_LENIENT = 2.0
_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.server.max_pending_requests", 100_000))
# Tokens that were verified; a day's worth of a soak's would be a leak.
_MOST_REMEMBERED = 100


class RestartableServer:
    """Echo bytes to whoever has a good token; stop, and start again on the same port.

    Args:
        authority: Whose tokens it takes.
    """

    def __init__(self, authority: Authority) -> None:
        ca = trustme.CA()
        certificate = ca.issue_cert("localhost")
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        self.ca_pem = ca.cert_pem.bytes()
        self.port = 0
        self._credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
        self._authority = authority
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
            expires: Any = self._authority.claims_of(token)["exp"]
            self._expire_at[token] = float(expires)
        if time.time() > self._expire_at[token] + _LENIENT:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")
        return request


class Orders:
    """Carries out what the other process orders, one method a command."""

    def __init__(
        self, authority: Authority, server: RestartableServer, endpoint: ChaosProxy, network: ChaosProxy
    ) -> None:
        self._parts: dict[str, Authority | ChaosProxy] = {
            "authority": authority,
            "endpoint": endpoint,
            "network": network,
        }
        self._network = network
        self._authority = authority
        self._server = server

    async def describe(self) -> object:
        """Tell where the two proxies are, and give a key file that leads to the endpoint's."""
        key_file = await self._authority.service_account_info()
        return {
            "target": self._network.target,
            "ca_pem": self._server.ca_pem.decode(),
            "key_file": {**key_file, "token_uri": f"{self._parts['endpoint'].url}/token"},
        }

    async def spoil(self, part: str, order: str, arguments: dict[str, Any]) -> object:
        """Give one of the parts an order: the name of a method of its own, and its arguments."""
        ordered = getattr(self._parts[part], order)(**arguments)
        if asyncio.iscoroutine(ordered):
            await ordered
        return None

    async def stop_server(self) -> object:
        """Stop the gRPC server."""
        await self._server.stop()
        return None

    async def start_server(self) -> object:
        """Start the gRPC server again."""
        await self._server.start()
        return None

    async def token_requests(self) -> object:
        """Tell how many token requests have come since the last time, and forget them."""
        count = self._authority.token_requests
        self._authority.requests.clear()
        return count


async def serve() -> None:
    """Serve until standard input ends."""
    async with AsyncExitStack() as opened:
        authority = await opened.enter_async_context(Authority(token_lifetime=3))
        server = RestartableServer(authority)
        await server.start()
        opened.push_async_callback(server.stop)
        endpoint = await opened.enter_async_context(ChaosProxy(authority.url))
        network = await opened.enter_async_context(ChaosProxy(f"127.0.0.1:{server.port}"))
        await answer_orders(Orders(authority, server, endpoint, network))


if __name__ == "__main__":
    asyncio.run(serve())
