"""The request for a token that hostile files are read for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aio_authgrpc import AiohttpRequest, TokenRequest


@pytest.fixture
async def token_request() -> AsyncIterator[TokenRequest]:
    """Give the request for a token of https://host."""
    async with AiohttpRequest() as http:
        yield TokenRequest(http=http, audience="https://host", time=0.0)
