"""Tests of fastapi_service.py, in pytest-asyncio's strict mode: `python -m pytest examples`."""

import grpc
import pytest
from fastapi_service import app, bookstore

from aio_authgrpc.bookstore import BookstoreStub
from aio_authgrpc.fastapi import app_client


@pytest.mark.asyncio
async def test_the_shelves_of_the_guarded_bookstore_are_listed(authgrpc_bookstore_server):
    """By way of the lifespan, a token, TLS and the guard."""
    async with app_client(app, {bookstore: authgrpc_bookstore_server.connect(BookstoreStub)}) as client:
        assert (await client.get("/shelves")).json() == ["Fiction", "Fantasy"]


@pytest.mark.asyncio
async def test_an_error_of_the_bookstore_becomes_an_http_answer(authgrpc_bookstore_server):
    """`handle_grpc_errors` maps the code."""
    authgrpc_bookstore_server.refuse(grpc.StatusCode.NOT_FOUND, "no such shelf", times=1)
    async with app_client(app, {bookstore: authgrpc_bookstore_server.connect(BookstoreStub)}) as client:
        assert (await client.get("/shelves")).status_code == 404
