"""Call a service on Cloud Run with the ID tokens of the machine and of a service account.

The metadata server here stands for Cloud Run's; the Bookstore accepts ID tokens for its own audience only.
"""

import asyncio
import os

from aio_authgrpc import connect, default, id_token, service_account
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.credentials import IdTokenSource
from aio_authgrpc.testing import Authority, BookstoreServer, MetadataServer


async def list_shelves(server: BookstoreServer, credentials: IdTokenSource) -> int:
    """Connect, make one call, and return the number of shelves."""
    async with connect(
        server.target,
        BookstoreStub,
        credentials=credentials,
        ssl_credentials=server.ssl_credentials,
    ) as bookstore:
        return len((await bookstore.ListShelves(Empty(), timeout=10)).shelves)


async def main() -> None:
    """Become the machine, then the account of a key file."""
    async with (
        Authority() as authority,
        MetadataServer(authority) as metadata_server,
        BookstoreServer(authority, audience="https://bookstore-xyz.a.run.app") as server,
    ):
        # Cloud Run's environment: only the metadata server names an identity.
        os.environ.update(GCE_METADATA_IP=metadata_server.host, GCE_METADATA_HOST=metadata_server.host)
        os.environ.update(GOOGLE_APPLICATION_CREDENTIALS="", CLOUDSDK_CONFIG="/nowhere")
        found = default()
        of_the_machine = id_token("https://bookstore-xyz.a.run.app", credentials=found)
        print(f"{await list_shelves(server, of_the_machine)} shelves, as {found.explain().found}")

        key_file = await authority.service_account_info()
        of_an_account = id_token("https://bookstore-xyz.a.run.app", credentials=service_account(key_file))
        print(f"{await list_shelves(server, of_an_account)} shelves, as a service account")


if __name__ == "__main__":
    asyncio.run(main())
