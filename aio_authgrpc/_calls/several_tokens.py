"""Tokens of several caches that one call carries, each in a header of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import is_

from aio_authgrpc._sources.credentials import combined
from aio_authgrpc._tokens.cache import TokenCache, TokenWaiter
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import TokenRefusedError

# What is left of a token whose own header is another's; an empty token goes to no header.
_NO_HEADER = ""


class CombinedToken(Token):
    """One token that carries others as its metadata; `parts` are in the order of their caches."""

    parts: tuple[Token, ...] = ()

    def __init__(self, one: Token, parts: tuple[Token, ...]) -> None:
        super().__init__(one.value, expires_at=one.expires_at, scheme=one.scheme, metadata=one.metadata)
        vars(self)["parts"] = parts


class SeveralTokens:
    """What an authorizer asks in place of a `TokenCache`.

    Args:
        caches: By header; without `own` the first is the one that the token itself goes to.
        own: The channel's header and cache, whose tokens these stand beside, or over.
    """

    def __init__(
        self, caches: Mapping[str, TokenCache], *, own: tuple[str, TokenCache] | None = None
    ) -> None:
        named = list(caches.items()) if own is None else [own, *caches.items()]
        self._headers = [header for header, _ in named]
        self._caches = [cache for _, cache in named]
        self._waiting: dict[TokenWaiter, _Parts] = {}
        self.forget()

    def forget(self) -> None:
        """Keep no token any more."""
        self._last = CombinedToken(Token(""), ())

    def current(self) -> Token | None:
        # A loop, not a comprehension: most calls find what the last one found, and pay for no more.
        for cache, part in zip(self._caches, self._last.parts, strict=False):
            if cache.current() is not part:
                break
        else:
            if self._last.parts:
                return self._last
        parts = [cache.current() for cache in self._caches]
        there = [token for token in parts if token is not None]
        return self._as_one(there) if len(there) == len(parts) else None

    def wait(self, waiter: TokenWaiter) -> None:
        """See `TokenCache.wait`; the waiter is told when all have come, or one will not."""
        self._waiting[waiter] = _Parts(self._caches, partial(self._tell, waiter), self._as_one)

    def _tell(self, waiter: TokenWaiter, outcome: Token | BaseException) -> None:
        self.leave(waiter)
        waiter.landed(outcome)

    def leave(self, waiter: TokenWaiter) -> None:
        """See `TokenCache.leave`."""
        parts = self._waiting.pop(waiter, None)
        if parts is not None:
            parts.leave()

    def reject(self, token: Token, *, challenge: str = "") -> bool:
        """Take back all parts: which one was refused is not known."""
        parts = token.parts if isinstance(token, CombinedToken) else ()
        rejected = [
            cache.reject(part, challenge=challenge) for cache, part in zip(self._caches, parts, strict=True)
        ]
        return any(rejected)

    def say_replayed(self) -> None:
        """See `TokenCache.say_replayed`; the first cache speaks for all."""
        self._caches[0].say_replayed()

    def _as_one(self, parts: Sequence[Token]) -> Token:
        last = self._last
        if len(last.parts) == len(parts) and all(map(is_, last.parts, parts)):
            return last
        (header, first), *others = zip(self._headers, parts, strict=True)
        over = dict(others)
        if header in over:  # of the channel's own token only its metadata is left
            own = Token("", expires_at=first.expires_at, metadata=first.metadata)
            one = combined({header: over.pop(header), **over, _NO_HEADER: own})
        else:
            one = combined({header: first, **over})
        self._last = CombinedToken(one, tuple(parts))
        return self._last


class _Parts:
    """The tokens that one waiter waits for: `tell` is told what has become of them."""

    def __init__(
        self,
        caches: Sequence[TokenCache],
        tell: Callable[[Token | BaseException], None],
        as_one: Callable[[Sequence[Token]], Token],
    ) -> None:
        self._tell = tell
        self._as_one = as_one
        self._tokens: dict[int, Token] = {}
        self._parts = [(cache, _Part(self, place)) for place, cache in enumerate(caches)]
        for cache, part in self._parts:
            cache.wait(part)

    def landed(self, place: int, outcome: Token | BaseException) -> None:
        if not self._parts:
            return  # the waiter has left
        if not isinstance(outcome, BaseException):
            self._tokens[place] = outcome
            if len(self._tokens) < len(self._parts):
                return
            try:
                outcome = self._as_one([self._tokens[place] for place in range(len(self._parts))])
            except TokenRefusedError as error:
                outcome = error
        self._tell(outcome)

    def leave(self) -> None:
        parts, self._parts = self._parts, []  # each knows this object
        for cache, part in parts:
            cache.leave(part)


class _Part:
    """One of the tokens."""

    __slots__ = ("_parts", "_place")

    def __init__(self, parts: _Parts, place: int) -> None:
        self._parts = parts
        self._place = place

    def landed(self, outcome: Token | BaseException) -> None:
        self._parts.landed(self._place, outcome)
