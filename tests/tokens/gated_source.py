"""A token source that a test answers by hand, fetch by fetch."""

from __future__ import annotations

import asyncio

from aio_authgrpc import Token, TokenRequest
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache


class GatedSource:
    """Holds every fetch until the test answers it: `await source.asked()`, then `source.answer(...)`.

    Args:
        clock: Dates the tokens.
        lifetime: Seconds for which a token lives, unless `answer` says otherwise; None for ever.

    Attributes:
        requests: Every request, in order.
        answered: The values of the tokens that were fetched: no one has cancelled these fetches.
    """

    def __init__(self, clock: FakeClock, lifetime: float | None = 3600.0) -> None:
        self.requests: list[TokenRequest] = []
        self.answered: list[str] = []
        self._clock = clock
        self._lifetime = lifetime
        self._open: list[asyncio.Future[Token]] = []
        self._asked = asyncio.Event()

    async def fetch(self, request: TokenRequest) -> Token:
        """Wait for the test's answer."""
        self.requests.append(request)
        answer: asyncio.Future[Token] = asyncio.get_running_loop().create_future()
        self._open.append(answer)
        self._asked.set()
        token = await answer
        self.answered.append(token.value)
        return token

    async def asked(self) -> None:
        """Wait until a fetch is held."""
        while not self._open:
            self._asked.clear()
            await self._asked.wait()

    def answer(self, value: str, lifetime: float | None = None) -> None:
        """Let the first held fetch return a token."""
        lifetime = self._lifetime if lifetime is None else lifetime
        expires_at = None if lifetime is None else self._clock.time() + lifetime
        self._open.pop(0).set_result(Token(value, expires_at=expires_at))

    def fail(self, error: BaseException) -> None:
        """Let the first held fetch raise."""
        self._open.pop(0).set_exception(error)


async def fill(
    cache: TokenCache, source: GatedSource, value: str = "one", lifetime: float | None = None
) -> Token:
    """Return what `cache.get()` returns when the source answers with this token."""
    getting = asyncio.create_task(cache.get())
    await source.asked()
    source.answer(value, lifetime)
    return await getting


async def failed(cache: TokenCache, source: GatedSource, error: BaseException) -> BaseException | None:
    """Return what `cache.get()` raises when the source fails with this error."""
    getting = asyncio.create_task(cache.get())
    await source.asked()
    source.fail(error)
    await asyncio.wait({getting})
    return getting.exception()


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)
