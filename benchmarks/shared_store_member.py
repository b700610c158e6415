"""A process of the fleet of `shared_store.py`: it shares its tokens with the others, and calls the Bookstore.

It is ordered about as `server_process.OrderedProcess` says. Its one argument is a JSON object: where the
server and the store are, and a key file.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import grpc
import redis.asyncio
from google.protobuf.empty_pb2 import Empty
from server_process import answer_orders

import aio_authgrpc
from aio_authgrpc.bookstore import BookstoreStub
from aio_authgrpc.redis import SharedTokenStore

# Seconds. For thousands of calls to one server on a slow machine; a call that hangs must not do so for ever.
_TIMEOUT = 120.0
_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


class Orders:
    """Carries out what the other process orders, one method a command."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told
        self._open = AsyncExitStack()
        self._stub: BookstoreStub | None = None

    async def open(self, port: int, identity: str) -> None:
        """Open a connection with a store at a port; it has no token yet."""
        await self._open.aclose()
        client = redis.asyncio.Redis(port=port)
        self._open.push_async_callback(client.aclose)
        store = SharedTokenStore(
            client,
            keys=[bytes.fromhex(self._told["key"])],
            timeout=self._told["timeout"],
            lease=self._told["lease"],
        )
        account = aio_authgrpc.service_account(self._told["key_file"], scopes=_SCOPES)
        connection = aio_authgrpc.connect(
            self._told["target"],
            BookstoreStub,
            credentials=store.share(account, identity=identity),
            ssl_credentials=grpc.ssl_channel_credentials(self._told["ca_pem"].encode()),
        )
        self._stub = await self._open.enter_async_context(connection)

    async def call(self, callers: int) -> dict[str, float]:
        """Let that many callers call at once; tell how many calls failed, and how long all took."""
        assert self._stub is not None
        started = time.perf_counter()
        calls = [self._stub.ListShelves(Empty(), timeout=_TIMEOUT) for _ in range(callers)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures[:1]:
            print(failure, file=sys.stderr)
        return {"failed": len(failures), "seconds": time.perf_counter() - started}

    async def close(self) -> None:
        """Close the connection and the client."""
        await self._open.aclose()


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # of the store that is killed
    asyncio.run(answer_orders(Orders(json.loads(sys.argv[1]))))
