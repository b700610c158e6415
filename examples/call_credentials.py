"""Send tokens on channels that other code makes: call credentials that wait on the event loop.

Prefer `connect()`, or `AuthorizedChannel` over a channel of your own, where you can choose.
"""

import asyncio

import grpc
import grpc.aio

from aio_authgrpc import AuthMetadataPlugin, service_account
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.testing import Authority, BookstoreServer

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def list_in_a_thread(target: str, credentials: grpc.ChannelCredentials) -> int:
    """Use a synchronous channel, away from the event loop."""
    with grpc.secure_channel(target, credentials) as channel:
        list_shelves = channel.unary_unary("/endpoints.examples.bookstore.Bookstore/ListShelves")
        return len(list_shelves(Empty().SerializeToString(), timeout=10))


async def main() -> None:
    """Use one plugin for a composite channel, for one call, and for a synchronous channel."""
    async with Authority() as authority, BookstoreServer(authority) as server:
        source = service_account(await authority.service_account_info(), scopes=SCOPES)
        async with AuthMetadataPlugin(source) as plugin:
            call_credentials = grpc.metadata_call_credentials(plugin)
            composite = grpc.composite_channel_credentials(server.ssl_credentials, call_credentials)

            async with grpc.aio.secure_channel(server.target, composite) as channel:
                answer = await BookstoreStub(channel).ListShelves(Empty(), timeout=10)
                print(f"composite channel credentials: {len(answer.shelves)} shelves")

            async with grpc.aio.secure_channel(server.target, server.ssl_credentials) as channel:
                stub = BookstoreStub(channel)
                answer = await stub.ListShelves(Empty(), timeout=10, credentials=call_credentials)
                print(f"credentials of one call: {len(answer.shelves)} shelves")

            size = await asyncio.to_thread(list_in_a_thread, server.target, composite)
            print(f"a synchronous channel: {size} bytes")
        print(f"{authority.token_requests} token request")


if __name__ == "__main__":
    asyncio.run(main())
