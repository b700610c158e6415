"""An aiohttp service that calls a guarded Bookstore. It runs here, with the authority that issues its tokens.

    python examples/aiohttp_service.py            asks itself once
    python examples/aiohttp_service.py --serve    answers http://127.0.0.1:8000/shelves until Ctrl-C

test_aiohttp_service.py has its tests.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession, web

from aio_authgrpc.aiohttp import Grpc, grpc_errors
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.testing import Authority, BookstoreServer

BOOKSTORE = Grpc("bookstore.example.com", BookstoreStub)


async def list_shelves(request: web.Request) -> web.Response:
    """Answer with the themes of the shelves."""
    answer = await BOOKSTORE.of(request).ListShelves(Empty(), timeout=10)
    return web.json_response([shelf.theme for shelf in answer.shelves])


def create_app() -> web.Application:
    """Return the application; its start opens the connection."""
    app = web.Application(middlewares=[grpc_errors])
    app.cleanup_ctx.append(BOOKSTORE)
    app.router.add_get("/shelves", list_shelves)
    app.router.add_get("/ready", BOOKSTORE.ready)
    return app


async def embedded(_: web.Application) -> AsyncIterator[None]:
    """Start the authority, and a guarded Bookstore in place of bookstore.example.com."""
    async with Authority() as authority, BookstoreServer(authority) as guarded:
        with BOOKSTORE.using(guarded.connect(BookstoreStub)):
            yield


def create_demo() -> web.Application:
    """Return the application with its servers."""
    app = create_app()
    app.cleanup_ctx.insert(0, embedded)
    return app


async def ask_once() -> None:
    """Serve until two questions are answered."""
    runner = web.AppRunner(create_demo())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        for path in ("/ready", "/shelves"):
            async with session.get(path) as response:
                print("GET", path, response.status, await response.text())
    await runner.cleanup()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        web.run_app(create_demo(), host="127.0.0.1", port=8000)
    else:
        asyncio.run(ask_once())
