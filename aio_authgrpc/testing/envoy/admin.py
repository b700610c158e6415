"""Envoy's admin interface: readiness, the ports of the listeners, and the figures of the guard."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp

from aio_authgrpc.testing.envoy.process import EnvoyProcess

_POLL_INTERVAL = 0.01
# One answer of its admin interface, on this machine.
_TIMEOUT = aiohttp.ClientTimeout(total=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyCounts:
    """The decisions of Envoy's guard so far, on all listeners.

    Attributes:
        allowed: How many calls it let in.
        denied: How many it refused.
        key_fetches: How many times it fetched keys successfully.
    """

    allowed: int
    denied: int
    key_fetches: int


class EnvoyAdmin:
    """Ask a running Envoy about itself.

    Args:
        process: The Envoy; it stays the caller's.
    """

    def __init__(self, process: EnvoyProcess) -> None:
        self._process = process
        # trust_env is off: no proxy of the environment is used.
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def counts(self) -> EnvoyCounts:
        """Return the figures of Envoy's guard."""
        answer = json.loads(await self._ask("/stats?format=json&filter=jwt_authn"))
        figures: dict[str, int] = {}
        for stat in answer["stats"]:
            name = str(stat["name"]).rpartition(".")[2]
            figures[name] = figures.get(name, 0) + int(stat["value"])
        return EnvoyCounts(
            allowed=figures["allowed"], denied=figures["denied"], key_fetches=figures["jwks_fetch_success"]
        )

    async def ports_when_ready(self, timeout: float) -> dict[str, int]:
        """Wait until Envoy listens, and return its listeners' ports by name.

        Raises:
            RuntimeError: Envoy ended, or was not ready within `timeout` seconds. Its log is in the text.
        """
        try:
            async with asyncio.timeout(timeout):
                while not await self._is_ready():  # noqa: ASYNC110 - Envoy sends no event
                    await asyncio.sleep(_POLL_INTERVAL)
                answer = json.loads(await self._ask("/listeners?format=json"))
        except TimeoutError:
            raise RuntimeError(
                f"Envoy was not ready within {timeout:g} s. Its log:\n{self._process.log}"
            ) from None
        return {
            str(listener["name"]): int(listener["local_address"]["socket_address"]["port_value"])
            for listener in answer["listener_statuses"]
        }

    async def _is_ready(self) -> bool:
        process = self._process
        if process.returncode is not None:
            raise RuntimeError(
                f"Envoy ended with {process.returncode} instead of listening. Its log:\n{process.log}"
            )
        try:
            return bool(process.admin_address) and await self._ask("/ready") == "LIVE\n"
        except aiohttp.ClientError:  # 503 until it is ready; a half-written address
            return False

    async def _ask(self, path: str) -> str:
        url = f"http://{self._process.admin_address}{path}"
        async with self._session.get(url, raise_for_status=True) as answer:
            return await answer.text()
