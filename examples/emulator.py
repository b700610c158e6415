"""Call an emulator, or any other server without authentication, without a token and without TLS.

`BOOKSTORE_EMULATOR_HOST` stands for the variables of Google's emulators, such as `PUBSUB_EMULATOR_HOST`.
"""

import asyncio
import os

from aio_authgrpc import Connection, anonymous, connect, default
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.testing import BookstoreServer

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def bookstore() -> Connection[BookstoreStub]:
    """Return a connection to the emulator, if the environment names one, or to the service."""
    emulator = os.environ.get("BOOKSTORE_EMULATOR_HOST")
    if emulator:
        return connect(emulator, BookstoreStub, credentials=anonymous(), plaintext=True)
    return connect("bookstore.example.com", BookstoreStub, credentials=default(SCOPES))


async def main() -> None:
    """Start a server that stands for an emulator, and call it."""
    async with BookstoreServer(tls=False) as server:
        os.environ["BOOKSTORE_EMULATOR_HOST"] = server.target
        async with bookstore() as stub:
            answer = await stub.ListShelves(Empty(), timeout=10)
    print(f"{len(answer.shelves)} shelves, in the clear, without a token")


if __name__ == "__main__":
    asyncio.run(main())
