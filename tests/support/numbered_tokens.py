"""A source whose tokens have numbers."""

from __future__ import annotations

from aio_authgrpc import Token, TokenRequest
from aio_authgrpc.testing import Gate


class NumberedTokens:
    """A source that returns token-1, token-2, …; `hold()` makes it wait, `fail()` makes it fail.

    Attributes:
        fetches: How many fetches have begun.
    """

    def __init__(self) -> None:
        self.fetches = 0
        self._gate: Gate | None = None
        self._error: Exception | None = None

    def hold(self) -> Gate:
        """Let fetches wait at a gate."""
        self._gate = Gate()
        return self._gate

    def fail(self, error: Exception) -> None:
        """Let fetches raise."""
        self._error = error

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the next token, valid for an hour from the time of the request."""
        self.fetches += 1
        number = self.fetches
        if self._gate is not None:
            await self._gate.pass_through()
        if self._error is not None:
            raise self._error
        return Token(f"token-{number}", expires_at=request.time + 3600)
