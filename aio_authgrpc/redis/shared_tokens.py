"""A token source over another one: the token of the store, or the source's own where that is sooner."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias
from weakref import WeakKeyDictionary

from aio_authgrpc import Token, TokenRequest, TokenSource
from aio_authgrpc._checks.values import FrozenValue, NotPickled
from aio_authgrpc._sources.identity_facts import identity_facts
from aio_authgrpc._tokens.freshness import limits
from aio_authgrpc._tokens.source import cache_key, fetch_from, header_of, other_headers_of
from aio_authgrpc.redis.client import (
    LARGEST_VALUE,
    UNSHARED,
    Budget,
    Found,
    LeasedValues,
    StoreUnavailableError,
)
from aio_authgrpc.redis.vault import StoredToken, Vault
from aio_authgrpc.tokens import CacheKey, Clock, HoldingTokenSource, LoadableTokenSource, Metadata

_Content: TypeAlias = tuple[str, str, Metadata]

_log = logging.getLogger("aio_authgrpc")

# Seconds. A process that waits for another one's token looks again after these, longer each time.
_FIRST_LOOK = 0.02
_LONGEST_LOOK = 0.25
_LOOK_FACTOR = 1.5
# Leases. When a holder is late one that waits takes over. The others still wait, for the token of either, and
# do not give up all at once.
_PATIENCE = (1.5, 2.5)
# Seconds. A token that is good for longer is stored for so long: Redis knows no time that is very far away.
_LONGEST_LIFE = 86400.0
# Enough that no two of a fleet's holders have the same name within a lease.
_HOLDER_BYTES = 8
# The last tokens that were replaced or refused: the store must not bring them back, after a failover say.
_REMEMBERED = 64


class Sharing(FrozenValue):
    """What the sources of one store have in common.

    Attributes:
        values: Where the tokens are.
        vaults: The keys: the first one's names and values are written, all of them are read.
        timeout: Seconds that a fetch may wait for the store's answers in all.
        lease: Seconds after which another process may fetch. A wait ends after 1.5 to 2.5 times as long.
        clock: Times both, and tells whether a token can be used.
        rng: Keeps waiting processes apart.
    """

    values: LeasedValues
    vaults: Sequence[Vault]
    timeout: float
    lease: float
    clock: Clock
    rng: random.Random


class SharedTokens(NotPickled):
    """What `SharedTokenStore.share()` returns.

    Of all processes one fetches a token, with the lease; the others wait for it in the store. Where the store
    fails, or the lease is not had in time, a process fetches a token for itself, and stores none.
    """

    def __init__(self, source: TokenSource, identity: str, sharing: Sharing) -> None:
        self.header = header_of(source, None)
        self.other_headers = other_headers_of(source)
        self._source = source
        self._identity = identity
        self._sharing = sharing
        self._values = sharing.values
        self._clock = sharing.clock
        self._unwanted: deque[_Content] = deque(maxlen=_REMEMBERED)
        self._has_ends = True
        self._issued_at: WeakKeyDictionary[Token, float] = WeakKeyDictionary()

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of this source, for the audience that the one below distinguishes."""
        return CacheKey(self, cache_key(self._source, audience).audience)

    async def load(self, request: TokenRequest) -> None:
        """Load the source below. The store is not asked: a connection opens without it."""
        if isinstance(self._source, LoadableTokenSource):
            await self._source.load(request)

    def current_token(self, request: TokenRequest) -> Token | None:
        """Return the token that the source below has, unless it was replaced or refused."""
        token = self._source.current_token(request) if isinstance(self._source, HoldingTokenSource) else None
        return None if token is None or self._is_unwanted(token) else token

    def age_of(self, token: Token, now: float) -> float:
        """Return the seconds since a token of the store was issued."""
        return max(0.0, now - self._issued_at.get(token, now))

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the store's token if it can be used and is not the unwanted one, or fetch one for all.

        Cancelling it gives back the lease, within the time that the store has for an answer; else it ends
        by itself.
        """
        if request.unwanted is not None and not self._is_unwanted(request.unwanted):
            self._unwanted.append(_content(request.unwanted))
        if not self._has_ends:
            return await self._fetch_own(request)
        places = await self._places(request)
        budget = Budget(self._sharing.timeout)
        holder = secrets.token_hex(_HOLDER_BYTES)
        try:
            return await self._fetch(places, request, holder, budget)
        except (Exception, asyncio.CancelledError, SystemExit):
            await self._release(places[0], holder, budget)
            raise

    async def _fetch(
        self, places: Sequence[_Place], request: TokenRequest, holder: str, budget: Budget
    ) -> Token:
        found: Token | Found | None = None
        with suppress(StoreUnavailableError):
            found = await self._look(places[0], request, holder, budget)
        if isinstance(found, Token):
            return found
        if found is None:
            return await self._fetch_own(request)
        return await self._fetch_for_all(places, request, found.fence, holder, budget)

    async def _places(self, request: TokenRequest) -> list[_Place]:
        facts = await identity_facts(self._source, request)
        parts = (self._identity, request.audience, self.header or "", facts)
        return [_Place(vault=vault, name=vault.name(*parts)) for vault in self._sharing.vaults]

    async def _look(
        self, place: _Place, request: TokenRequest, holder: str, budget: Budget
    ) -> Token | Found | None:
        """Return a token of the store, or the lease; None where waiting for another process is of no use."""
        pause, passed_over = _FIRST_LOOK, ""
        gives_up_at = self._clock.monotonic() + self._sharing.lease * self._sharing.rng.uniform(*_PATIENCE)
        while self._clock.monotonic() < gives_up_at:
            found = await self._values.look(place.name, budget, passed_over=passed_over, holder=holder)
            if found.value is not None:
                stored = self._usable(place, found, request)
                if stored is not None:
                    return self._dated(stored)
                passed_over = found.fence
            elif found.fence == UNSHARED:
                return None
            elif found.fence:
                return found
            else:
                await self._clock.sleep(pause * self._sharing.rng.uniform(0.5, 1.0))
                pause = min(_LONGEST_LOOK, pause * _LOOK_FACTOR)
                budget.renew()  # that was a wait for the other process, which the store has answered
        return None

    async def _fetch_for_all(
        self, places: Sequence[_Place], request: TokenRequest, fence: str, holder: str, budget: Budget
    ) -> Token:
        first, *others = places
        stored = await self._under_another_key(others, request, budget)
        if stored is None:
            token = await self._fetch_own(request)
            stored = self._storable(token)
        else:
            token = self._dated(stored)
        sealed = "" if stored is None else first.vault.sealed(first.name, stored)
        if stored is None or len(sealed) > LARGEST_VALUE:
            await self._release(first, holder, budget, unshared=sealed != "" or not self._has_ends)
            return token
        seconds = stored.expires_at - self._clock.time()
        with suppress(StoreUnavailableError):
            await self._values.put(
                first.name, budget, fence=fence, value=sealed, seconds=seconds, holder=holder
            )
        return token

    async def _fetch_own(self, request: TokenRequest) -> Token:
        """Return a token of the source below, which may still hold one that the store's has replaced."""
        token = await fetch_from(self._source, request)
        last = None if request.unwanted is None else _content(request.unwanted)
        if self._is_unwanted(token) and _content(token) != last:
            token = await fetch_from(self._source, request.replace(unwanted=token))
        had_ends, self._has_ends = self._has_ends, token.expires_at is not None
        if had_ends and not self._has_ends:
            _log.warning("The tokens of %r have no end, so each process asks for its own.", self._identity)
        return token

    async def _under_another_key(
        self, places: Sequence[_Place], request: TokenRequest, budget: Budget
    ) -> StoredToken | None:
        """Return a usable token that processes with an older, or a newer, first key have stored."""
        with suppress(StoreUnavailableError):
            for place in places:
                found = await self._values.look(place.name, budget)
                stored = self._usable(place, found, request)
                if stored is not None:
                    return stored
        return None

    async def _release(self, place: _Place, holder: str, budget: Budget, *, unshared: bool = False) -> None:
        with suppress(Exception):  # the fetch's own failure, or its token, must get through
            await self._values.release(place.name, budget, holder=holder, unshared=unshared)

    def _usable(self, place: _Place, found: Found, request: TokenRequest) -> StoredToken | None:
        """Return the token that was found, if it is one and is good enough for the request.

        Its end is the sooner one of two: by this machine's clock and the expiry in the value, and by the
        seconds that the store still keeps it. So the clocks of two machines may differ.
        """
        stored = None if found.value is None else place.vault.opened(place.name, found.value)
        if stored is None or self._is_unwanted(stored.token):
            return None
        now = self._clock.time()
        expires_at = min(stored.expires_at, now + found.seconds)
        stale_at, expired_at = limits(now=expires_at - stored.lifetime, expires_at=expires_at, jitter=0.0)
        # A stale token serves a process that has none, and its cache comes back for another one.
        ends_at = expired_at if request.unwanted is None else stale_at
        return stored.replace(expires_at=expires_at) if now < ends_at else None

    def _storable(self, token: Token) -> StoredToken | None:
        """Return what is stored of a token; None for one that is unwanted, over, or without an end."""
        seconds = 0.0 if token.expires_at is None else token.expires_at - self._clock.time()
        if token.expires_at is None or seconds <= 0 or self._is_unwanted(token):
            return None
        seconds = min(seconds, _LONGEST_LIFE)
        return StoredToken(token=token, expires_at=self._clock.time() + seconds, lifetime=seconds)

    def _is_unwanted(self, token: Token) -> bool:
        return _content(token) in self._unwanted

    def _dated(self, stored: StoredToken) -> Token:
        token = stored.token.replace(expires_at=stored.expires_at)
        self._issued_at.pop(token, None)  # of an equal token: the key would vanish with that one
        self._issued_at[token] = stored.expires_at - stored.lifetime
        return token

    def __repr__(self) -> str:
        return f"<SharedTokens of {self._source!r} as {self._identity!r}>"


class _Place(FrozenValue):
    """Where a token is under one key."""

    vault: Vault
    name: str


def _content(token: Token) -> _Content:
    """Return what a server sees of a token."""
    return token.scheme, token.value, token.metadata
