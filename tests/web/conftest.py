"""Servers for the web applications of these tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aio_authgrpc.testing import EchoServer


@pytest.fixture
async def plaintext_server() -> AsyncIterator[EchoServer]:
    """Give a server in the clear, which an application in another process reaches without a certificate."""
    async with EchoServer(tls=False) as server:
        yield server
