"""One token for all event loops of a process, for a channel that outlives a loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._tokens.freshness import limits
from aio_authgrpc._tokens.source import (
    CacheKey,
    HoldingTokenSource,
    LoadableTokenSource,
    TokenRequest,
    TokenSource,
    age_of,
    fetch_from,
    header_of,
    other_headers_of,
)
from aio_authgrpc._tokens.token import Token

# Seconds. A waiting loop looks again this often whether the fetching one still runs.
_LONGEST_WAIT = 1.0


class TokensAcrossLoops(NotPickled):
    """A token source over another one: the caches of all loops get its last token while that is fresh.

    The first loop to need a token fetches it. Other loops wait for that, and fetch themselves if it failed.

    Args:
        source: Where the tokens come from, all for one audience.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self.header = header_of(source, None)
        self.other_headers = other_headers_of(source)
        self._token: Token | None = None
        self._fetched_at = self._stale_at = 0.0
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Wait for no loop of the parent: none of them runs in the child."""
        self._lock = threading.Lock()
        self._fetching: _Fetch | None = None

    def cache_key(self, audience: str) -> CacheKey:
        return CacheKey(self, audience)

    async def load(self, request: TokenRequest) -> None:
        if isinstance(self._source, LoadableTokenSource):
            await self._source.load(request)

    def current_token(self, request: TokenRequest) -> Token | None:
        return self._source.current_token(request) if isinstance(self._source, HoldingTokenSource) else None

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the token of another loop, or fetch one. Cancelling it lets another loop fetch."""
        while True:
            with self._lock:
                if self._token is not None and self._is_good(self._token, request):
                    return self._token
                other, own = self._fetching, _Fetch(asyncio.get_running_loop())
                if other is None or not other.loop.is_running():
                    other, self._fetching = None, own
            if other is None:
                return await self._fetch(request, own)
            # Nothing tells that the other loop has stopped. Cancelling this wait does not cancel the other.
            await asyncio.wait({asyncio.wrap_future(other.ended)}, timeout=_LONGEST_WAIT)

    def age_of(self, token: Token, now: float) -> float:
        """Return the seconds since a token was fetched, by whatever loop."""
        return max(0.0, now - self._fetched_at) if token is self._token else 0.0

    def forget(self) -> None:
        """Keep no token any more, until the next one is fetched."""
        with self._lock:
            self._token = None

    def _is_good(self, token: Token, request: TokenRequest) -> bool:
        return token != request.unwanted and request.time < self._stale_at

    async def _fetch(self, request: TokenRequest, own: _Fetch) -> Token:
        try:
            token = await fetch_from(self._source, request)
            with self._lock:
                self._token = token
                self._fetched_at = request.time - age_of(self._source, token, request.time)
                self._stale_at, _ = limits(now=self._fetched_at, expires_at=token.expires_at, jitter=0.0)
            return token
        finally:
            with self._lock:
                if self._fetching is own:
                    self._fetching = None
            own.ended.set_result(None)

    def __repr__(self) -> str:
        return f"<TokensAcrossLoops of {self._source!r}>"


class _Fetch:
    """A fetch under way, and the loop that it runs on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ended: Future[None] = Future()
