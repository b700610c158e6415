"""Calls that wait for their connection before they begin, so that none is bound to one that will not come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Protocol

from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import TokenDeadlineExceededError


class CachedTokens(Protocol):
    """What is asked of a token cache."""

    async def get(self, *, timeout: float | None = None) -> Token:
        """See `TokenCache.get`."""
        ...

    def reject(self, token: Token, *, challenge: str = "") -> bool:
        """See `TokenCache.reject`."""
        ...


class TokensOnceReady:
    """The tokens of a call with `wait_for_ready`, which are there once the channel is connected.

    gRPC would bind the call to the connection that it has when it begins. Where certificates rotate, that
    may be one whose certificate no server takes, and the call would wait for it until its deadline.

    Args:
        tokens: Where the tokens are.
        ready: Waits until the channel is connected, by whatever certificate it has then.
    """

    def __init__(self, tokens: CachedTokens, ready: Callable[[], Awaitable[None]]) -> None:
        self._tokens = tokens
        self._ready = ready

    def current(self) -> None:
        """Return None: the call waits."""

    async def get(self, *, timeout: float | None = None) -> Token:
        """Return the token as soon as the channel is connected.

        Raises:
            TokenDeadlineExceededError: `timeout` was over first.
        """
        ends_at = None if timeout is None else monotonic() + timeout
        try:
            async with asyncio.timeout(timeout):
                await self._ready()
        except TimeoutError:
            raise TokenDeadlineExceededError(
                f"The call's time ran out: for {timeout:.3g} s it waited for its connection.",
                hint="A call without wait_for_ready, or connect(ready_timeout=...), says what is in the way.",
            ) from None
        return await self._tokens.get(timeout=None if ends_at is None else max(0.0, ends_at - monotonic()))

    def reject(self, token: Token, *, challenge: str = "") -> bool:
        """See `TokenCache.reject`."""
        return self._tokens.reject(token, challenge=challenge)
