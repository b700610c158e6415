"""Call a service behind Cloud Endpoints with JWTs that a service account signs, and an API key.

No token endpoint is asked. The server here refuses the same calls as ESPv2, in the same words.
"""

import asyncio

import grpc.aio

from aio_authgrpc import connect, service_account_jwt
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.testing import Authority, BookstoreServer

EMAIL = "client@my-project.iam.gserviceaccount.com"
# The `audiences` of the service's configuration; where it names none, ESPv2 expects https://<service name>.
AUDIENCE = "https://bookstore.endpoints.my-project.cloud.goog"
API_KEY = "the-api-key"


async def list_shelves(
    server: BookstoreServer, key_file: dict[str, str], audience: str, api_key: str | None
) -> None:
    """Make one call and print what comes of it."""
    async with connect(
        server.target,
        BookstoreStub,
        credentials=service_account_jwt(key_file, audience=audience),
        api_key=api_key,
        ssl_credentials=server.ssl_credentials,
    ) as bookstore:
        try:
            answer = await bookstore.ListShelves(Empty(), timeout=10)
        except grpc.aio.AioRpcError as error:
            print(f"{error.code().name}: {error.details()}")
        else:
            print(f"{len(answer.shelves)} shelves")


async def main() -> None:
    """Start a guarded Bookstore that trusts the account, and call it well and badly."""
    async with Authority() as authority:
        key_file = await authority.service_account_info(EMAIL)
        guarded = BookstoreServer(authority, accept=[EMAIL], audience=AUDIENCE, api_keys=[API_KEY])
        async with guarded as server:
            await list_shelves(server, key_file, AUDIENCE, API_KEY)
            await list_shelves(server, key_file, "https://another.example.com", API_KEY)
            await list_shelves(server, key_file, AUDIENCE, None)
            print(f"{authority.token_requests} token requests")


if __name__ == "__main__":
    asyncio.run(main())
