"""A token source with given outcomes, each of which takes its time."""

from __future__ import annotations

from aio_authgrpc import Token, TokenRequest
from aio_authgrpc.testing import FakeClock


class ScriptedSource:
    """Returns tokens with these lifetimes, or raises these errors; each fetch takes 0.5 s of the clock.

    Args:
        clock: Is advanced, and dates the tokens.

    Attributes:
        outcomes: Lifetimes in seconds and errors, in order; then tokens that live for an hour.
        requests: Every request, in order.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.outcomes: list[float | Exception] = []
        self.requests: list[TokenRequest] = []
        self._clock = clock

    async def fetch(self, request: TokenRequest) -> Token:
        """Return or raise the next outcome."""
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if self.outcomes else 3600.0
        self._clock.advance(0.5)
        if isinstance(outcome, Exception):
            raise outcome
        return Token(f"t{len(self.requests)}", expires_at=self._clock.time() + outcome)
