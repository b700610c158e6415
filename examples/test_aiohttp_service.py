"""Tests of aiohttp_service.py, in pytest-asyncio's strict mode: `python -m pytest examples`."""

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_service import BOOKSTORE, create_app

from aio_authgrpc.bookstore import BookstoreStub


@pytest.mark.asyncio
async def test_the_shelves_of_the_guarded_bookstore_are_listed(authgrpc_bookstore_server):
    """By way of the cleanup context, a token, TLS and the guard."""
    with BOOKSTORE.using(authgrpc_bookstore_server.connect(BookstoreStub)):
        async with TestClient(TestServer(create_app())) as client:
            response = await client.get("/shelves")
            assert await response.json() == ["Fiction", "Fantasy"]
