"""One token cache for all channels of an event loop that use the same tokens."""

from __future__ import annotations

import asyncio
import os

from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._loop.clock import Clock
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc._tokens.source import TokenSource, cache_key, load

# Loop, owner, HTTP transport and clock by `id`: a user's object may have an equality of its own.
_Key = tuple[int, int, str, int | None, int | None, bool]


class SharedTokenCache(TokenCache):
    """A cache that channels share: `channel.auth` of each. It is closed with the last of them."""

    def end(self) -> None:
        """Do nothing: other channels may use its tokens."""

    async def aclose(self) -> None:
        """Do nothing: other channels may use its tokens."""

    async def close_after_last_channel(self) -> None:
        super().end()
        await super().aclose()


class _SharedCache:
    """A cache with the number of its leases. It keeps alive what the ids of its key stand for."""

    def __init__(
        self, key: _Key, loop: asyncio.AbstractEventLoop, owner: object, cache: SharedTokenCache
    ) -> None:
        self.key = key
        self.loop = loop
        self.owner = owner
        self.cache = cache
        self.leases = 0


_open: dict[_Key, _SharedCache] = {}
if hasattr(os, "register_at_fork"):  # the parent's caches belong to no loop of the child
    os.register_at_fork(after_in_child=_open.clear)


class CacheLease:
    """One channel's use of a shared cache, which stays open until its last lease is given back."""

    def __init__(self, shared: _SharedCache) -> None:
        self.cache = shared.cache
        self._shared = shared
        self._is_last = False
        self._given_back = False
        shared.leases += 1

    async def give_back(self) -> None:
        """Close the cache with its last lease. Calling it again does what a cancelled call has left."""
        # Check and set without an await between them.
        if not self._given_back:
            self._given_back = True
            self._shared.leases -= 1
            self._is_last = not self._shared.leases
            if self._is_last and _open.get(self._shared.key) is self._shared:
                _open.pop(self._shared.key, None)
        if self._is_last:
            await self._shared.cache.close_after_last_channel()


async def lease_cache(
    source: TokenSource,
    *,
    audience: str,
    request: AiohttpRequest | None = None,
    keep_warm: bool = False,
    clock: Clock | None = None,
) -> CacheLease:
    """Load a source, and return a lease of the cache of its tokens, made now if no channel has it.

    Channels on one loop share a cache where `cache_key` of their sources and the other arguments are the
    same. Cancelling it, or failing, leaves nothing behind.
    """
    # Only a loaded source knows its key: Application Default Credentials may be of any type.
    await load(source, audience, request)
    # From here on without an await: check and set.
    loop, tokens = asyncio.get_running_loop(), cache_key(source, audience)
    requested, timed = (None if given is None else id(given) for given in (request, clock))
    key: _Key = (id(loop), id(tokens.owner), tokens.audience, requested, timed, keep_warm)
    _forget_closed_loops()
    shared = _open.get(key)
    if shared is None:
        cache = SharedTokenCache(
            source, audience=tokens.audience, request=request, keep_warm=keep_warm, clock=clock
        )
        shared = _open[key] = _SharedCache(key, loop, tokens.owner, cache)
    shared.cache.start()
    return CacheLease(shared)


def _forget_closed_loops() -> None:
    """Forget caches that can no longer be closed."""
    for key in tuple(_open):  # a loop in each thread is a supported use: another one may change it meanwhile
        shared = _open.get(key)
        if shared is not None and shared.loop.is_closed():
            _open.pop(key, None)
