"""Shared fixtures: the request for a token, and a service account's key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aio_authgrpc import AiohttpRequest, TokenRequest
from aio_authgrpc.testing import Authority, FakeClock


@pytest.fixture
async def token_request(fake_clock: FakeClock) -> AsyncIterator[TokenRequest]:
    """Give the request for a token of https://host."""
    async with AiohttpRequest() as http:
        yield TokenRequest(http=http, audience="https://host", time=fake_clock.time())


@pytest.fixture
async def info(authority: Authority) -> dict[str, str]:
    """Give the content of a key file."""
    return await authority.service_account_info("me@project.iam.gserviceaccount.com")


@pytest.fixture
def file(info: dict[str, str], tmp_path: Path) -> Path:
    """Give a key file."""
    path = tmp_path / "key.json"
    path.write_text(json.dumps(info))
    return path
