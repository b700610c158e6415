"""The transport that the tests of this folder use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aio_authgrpc import AiohttpRequest


@pytest.fixture
async def request_() -> AsyncIterator[AiohttpRequest]:
    """Give an open one; pytest has a fixture named request."""
    async with AiohttpRequest() as request:
        yield request
