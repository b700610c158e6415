"""Call a service with the access token of a service account: one token request for a hundred calls.

The token endpoint and the Bookstore run here, on the loopback interface. To call Google's, leave them out:
pass the path of the key file, the host of the service, and no `ssl_credentials`.
"""

import asyncio

from aio_authgrpc import connect, service_account
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.testing import Authority, BookstoreServer

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


async def main() -> None:
    """Start the servers, call one of them, and stop them."""
    async with Authority() as authority, BookstoreServer(authority) as server:
        key_file = await authority.service_account_info("client@my-project.iam.gserviceaccount.com")
        connection = connect(
            server.target,
            BookstoreStub,
            credentials=service_account(key_file, scopes=SCOPES),
            ssl_credentials=server.ssl_credentials,
        )
        async with connection as bookstore:
            calls = [bookstore.ListShelves(Empty(), timeout=10) for _ in range(100)]
            answers = await asyncio.gather(*calls)
            print(f"{len(answers)} answers, {authority.token_requests} token request")
            print(", ".join(shelf.theme for shelf in answers[0].shelves))
            print(f"The token is {connection.auth.status().state.value}.")


if __name__ == "__main__":
    asyncio.run(main())
