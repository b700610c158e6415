"""Call an emulator, or any server without authentication: no token, no credentials looked up, no TLS.

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
    """Start what stands for an emulator."""
    async with BookstoreServer(tls=False) as server:
        os.environ["BOOKSTORE_EMULATOR_HOST"] = server.target
        async with bookstore() as stub:
            answer = await stub.ListShelves(Empty(), timeout=10)
    print(f"{len(answer.shelves)} shelves, in the clear, from nobody")


if __name__ == "__main__":
    asyncio.run(main())
