"""Fixtures for pytest-asyncio, one of each fake.

Opt in with `pytest_plugins = ["aio_authgrpc.testing.pytest_plugin"]`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from aio_authgrpc.testing import Authority, BookstoreServer, EchoServer, FakeClock


@pytest.fixture
def fake_clock() -> FakeClock:
    """Give a clock that only the test moves. The other fixtures go by the machine's clock."""
    return FakeClock()


@pytest_asyncio.fixture
async def authority() -> AsyncGenerator[Authority]:
    """Give an open `Authority`."""
    async with Authority() as authority:
        yield authority


@pytest_asyncio.fixture
async def bookstore_server(authority: Authority) -> AsyncGenerator[BookstoreServer]:
    """Give an open `BookstoreServer`, with TLS, that takes the tokens of the `authority` fixture."""
    async with BookstoreServer(authority) as server:
        yield server


@pytest_asyncio.fixture
async def echo_server() -> AsyncGenerator[EchoServer]:
    """Give an open `EchoServer`, with TLS."""
    async with EchoServer() as server:
        yield server
