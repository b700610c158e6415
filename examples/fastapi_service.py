"""A FastAPI service that calls a guarded Bookstore. It runs here, with the authority that issues its tokens.

    python examples/fastapi_service.py            asks itself once
    python examples/fastapi_service.py --serve    answers http://127.0.0.1:8000/shelves until Ctrl-C

test_fastapi_service.py has its tests.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import aiohttp
import uvicorn
from fastapi import Depends, FastAPI

from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.fastapi import Grpc, handle_grpc_errors, lifespans
from aio_authgrpc.testing import Authority, BookstoreServer

bookstore = Grpc("bookstore.example.com", BookstoreStub)
app = FastAPI(lifespan=bookstore.lifespan)
handle_grpc_errors(app)


@app.get("/shelves")
async def list_shelves(stub: Annotated[BookstoreStub, Depends(bookstore)]) -> list[str]:
    """Answer with the themes of the shelves."""
    answer = await stub.ListShelves(Empty(), timeout=10)
    return [shelf.theme for shelf in answer.shelves]


@app.get("/ready", dependencies=[Depends(bookstore.ready)])
async def ready() -> str:
    """Answer a readiness probe."""
    return "ready"


@asynccontextmanager
async def embedded(_: FastAPI) -> AsyncIterator[None]:
    """Start the authority, and a guarded Bookstore in place of bookstore.example.com."""
    async with Authority() as authority, BookstoreServer(authority) as guarded:
        with bookstore.using(guarded.connect(BookstoreStub)):
            yield


demo = FastAPI(lifespan=lifespans(embedded, bookstore))
demo.mount("/", app)


async def ask_once() -> None:
    """Serve until two questions are answered."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(demo, log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{listening.getsockname()[1]}") as session:
        for path in ("/ready", "/shelves"):
            async with session.get(path) as response:
                print("GET", path, response.status, await response.text())
    server.should_exit = True
    await serving


if __name__ == "__main__":
    if "--serve" in sys.argv:
        uvicorn.run(demo, port=8000)
    else:
        asyncio.run(ask_once())
