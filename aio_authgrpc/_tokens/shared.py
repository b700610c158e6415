"""One token cache for all channels of a loop that were given the same source."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc._tokens.source import TokenSource, cache_key, load


class _Key(NamedTuple):
    """What channels have in common that share a cache. Ids of what the cache itself keeps alive."""

    loop: int
    owner: int
    audience: str
    request: int | None
    keep_warm: bool


class _Shared:
    def __init__(self, loop: asyncio.AbstractEventLoop, cache: TokenCache) -> None:
        self.loop = loop  # kept, so that another loop does not get its id
        self.cache = cache
        self.users = 0


_open: dict[_Key, _Shared] = {}
if hasattr(os, "register_at_fork"):  # a child has no use for its parent's caches
    os.register_at_fork(after_in_child=_open.clear)


async def open_shared_cache(
    source: TokenSource, *, audience: str, request: AiohttpRequest | None, keep_warm: bool
) -> tuple[TokenCache, Callable[[], Awaitable[None]]]:
    """Return the cache of a source that was loaded, made now if no channel has it, and what gives it back.

    Channels on the same loop share it where `cache_key` of the source is the same. The last one to give it
    back closes it. Cancelling it, or failing, leaves nothing behind.

    Args:
        source: Where the tokens come from.
        audience: For whom they are.
        request: The HTTP transport; None lets the cache make its own.
        keep_warm: See `TokenCache`.

    Raises:
        ConfigurationError, TokenUnavailableError: The source cannot be used.
    """
    # Only a loaded source knows its key: Application Default Credentials may be of any type.
    await load(source, audience, request)
    lease = _Lease(source, audience, request, keep_warm=keep_warm)
    lease.cache.start()
    return lease.cache, lease.give_back


class _Lease:
    """One channel's use of a shared cache."""

    def __init__(
        self, source: TokenSource, audience: str, request: AiohttpRequest | None, *, keep_warm: bool
    ) -> None:
        tokens = cache_key(source, audience)
        loop = asyncio.get_running_loop()
        asked_for = None if request is None else id(request)
        self._key = _Key(id(loop), id(tokens.owner), tokens.audience, asked_for, keep_warm)
        for key in [key for key, shared in _open.items() if shared.loop.is_closed()]:
            del _open[key]  # nobody can close it any more
        # Check and set without an await between them.
        if self._key not in _open or _open[self._key].cache.closed:
            cache = TokenCache(source, audience=tokens.audience, request=request, keep_warm=keep_warm)
            _open[self._key] = _Shared(loop, cache)
        self._shared: _Shared | None = _open[self._key]
        self._shared.users += 1
        self.cache = self._shared.cache

    async def give_back(self) -> None:
        """Close the cache if nobody else uses it. Calling it again does nothing."""
        shared, self._shared = self._shared, None
        if shared is None:
            return
        shared.users -= 1
        if shared.users:
            return
        if _open.get(self._key) is shared:
            del _open[self._key]
        await shared.cache.aclose()
