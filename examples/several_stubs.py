"""Use two services of one host: one channel, one token, a stub for each."""

import asyncio
from collections.abc import Awaitable

import grpc
import grpc.aio

from aio_authgrpc import connect, service_account
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.testing import Authority, BookstoreServer

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


class GreeterStub:
    """Stand for the stub that protoc generates for a service with one method; its messages are bytes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.Greet: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/demo.Greeter/Greet"
        )


class TwoServices(BookstoreServer):
    """The guarded Bookstore, and a greeter behind the same guard."""

    def _register(self, server: grpc.aio.Server) -> None:
        super()._register(server)
        greet: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._greet)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("demo.Greeter", {"Greet": greet}),)
        )

    async def _greet(self, name: bytes, _: "grpc.aio.ServicerContext[bytes, Awaitable[bytes]]") -> bytes:
        return b"Hello, " + name


async def main() -> None:
    """Start the server, and call both services over one connection."""
    async with Authority() as authority, TwoServices(authority) as server:
        key_file = await authority.service_account_info()
        async with connect(
            server.target,
            BookstoreStub,
            GreeterStub,
            credentials=service_account(key_file, scopes=SCOPES),
            ssl_credentials=server.ssl_credentials,
        ) as (bookstore, greeter):
            shelves, greeting = await asyncio.gather(
                bookstore.ListShelves(Empty(), timeout=10), greeter.Greet(b"reader", timeout=10)
            )
        print(f"{greeting.decode()}: {len(shelves.shelves)} shelves")
        print(f"{authority.token_requests} token request")


if __name__ == "__main__":
    asyncio.run(main())
