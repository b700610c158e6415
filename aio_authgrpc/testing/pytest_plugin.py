"""Fixtures for pytest-asyncio: a clock, an authority, and the servers.

Opt in with `pytest_plugins = ["aio_authgrpc.testing.pytest_plugin"]`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from aio_authgrpc.testing import Authority, BookstoreServer, EchoServer, FakeClock, GoogleCloud


@pytest.fixture
def fake_clock() -> FakeClock:
    """Give a clock that only the test moves. The other fixtures use the machine's clock."""
    return FakeClock()


@pytest_asyncio.fixture
async def authority() -> AsyncGenerator[Authority]:
    """Give an open `Authority`."""
    async with Authority() as authority:
        yield authority


@pytest_asyncio.fixture
async def bookstore_server(authority: Authority) -> AsyncGenerator[BookstoreServer]:
    """Give an open `BookstoreServer`, with TLS, that accepts the tokens of the `authority` fixture."""
    async with BookstoreServer(authority) as server:
        yield server


@pytest_asyncio.fixture
async def echo_server() -> AsyncGenerator[EchoServer]:
    """Give an open `EchoServer`, with TLS."""
    async with EchoServer() as server:
        yield server


@pytest_asyncio.fixture
async def google_cloud(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[GoogleCloud]:
    """Give an open `GoogleCloud` of the `authority` fixture; the environment of the process leads there."""
    async with GoogleCloud(authority) as cloud:
        for name, value in cloud.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        yield cloud
