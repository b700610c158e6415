"""A token source for tests: numbered tokens, or given ones, held and failing on demand."""

from __future__ import annotations

from aio_authgrpc.testing.servers.misbehaviour import ANYWHERE, Gate, Script
from aio_authgrpc.tokens import Token, TokenRequest


class ScriptedTokens:
    """Be a token source that returns token-1, token-2, … and does what the test orders.

    A fetch first waits at the gates of `hold()`, then raises the error of `fail()` or returns its token. The
    number of a token is that of its fetch: a failed fetch uses up a number.

    Args:
        *tokens: Tokens, or their values, to return in place of numbered ones, in this order. The last is
            returned again by every later fetch.
        lifetime: Seconds from the request's time to the token's end; None means that it never expires. A
            given `Token` keeps its own `expires_at`.

    Attributes:
        lifetime: As above. May be set at any time, and applies to the fetches that return afterwards.
        requests: Every request, in order, also those of fetches that failed or were cancelled.
    """

    def __init__(self, *tokens: Token | str, lifetime: float | None = 3600) -> None:
        self.lifetime = lifetime
        self.requests: list[TokenRequest] = []
        self._given = list(tokens)
        self._gates: list[Gate] = []
        self._waits: Script[Gate] = Script()
        self._errors: Script[Exception] = Script()

    @property
    def fetches(self) -> int:
        """How many fetches have begun."""
        return len(self.requests)

    def hold(self, *, times: int | None = None) -> Gate:
        """Hold the next `times` fetches (None: all) at a gate until it is released."""
        gate = Gate()
        self._gates.append(gate)
        self._waits.add(gate, times=times, where=ANYWHERE)
        return gate

    def fail(self, error: Exception, *, times: int | None = 1) -> None:
        """Raise `error` in the next `times` fetches (None: until `behave()`)."""
        self._errors.add(error, times=times, where=ANYWHERE)

    def behave(self) -> None:
        """Forget the remaining orders, and release every gate."""
        self._waits.clear()
        self._errors.clear()
        while self._gates:
            self._gates.pop().release()

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the next token, or raise an ordered error. Called by the cache."""
        self.requests.append(request)
        number = self.fetches
        for gate in self._waits.take_all(ANYWHERE):
            await gate.pass_through()
        error = self._errors.take(ANYWHERE)
        if error is not None:
            raise error
        token = self._next_given() if self._given else f"token-{number}"
        if isinstance(token, Token):
            return token
        return Token(token, expires_at=None if self.lifetime is None else request.time + self.lifetime)

    def _next_given(self) -> Token | str:
        return self._given.pop(0) if len(self._given) > 1 else self._given[0]
