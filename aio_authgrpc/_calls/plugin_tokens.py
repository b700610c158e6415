"""The tokens of a plugin on one event loop: a cache for each host, and the RPCs that wait for them."""

from __future__ import annotations

import asyncio
import urllib.parse
import warnings
from collections import OrderedDict
from contextlib import AsyncExitStack, suppress
from time import monotonic
from weakref import WeakSet

from aio_authgrpc._calls.handover import Handover
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._loop.loop_watch import LoopWatch
from aio_authgrpc._loop.ownership import LoopBound
from aio_authgrpc._tokens.cache import TokenCache, close_all
from aio_authgrpc._tokens.source import TokenSource
from aio_authgrpc.errors import (
    AuthGrpcError,
    AuthRpcError,
    ChannelClosedError,
    TokenUnavailableError,
    WrongEventLoopError,
)

# Servers behind changing addresses are new hosts each time, and the tokens of the old ones are of no use.
_MOST_HOSTS = 128
# Seconds by which the end of a loop may be noticed late.
_LONGEST_INTERVAL = 1.0


class PluginTokens:
    """What a plugin has on one event loop: caches, their HTTP transport, waiting RPCs.

    Args:
        source: Where the tokens come from.
        header: The metadata key that they go to.
        request: The HTTP transport, which stays the caller's. None makes one, closed with this object.
        default_host: The host that tokens are for; None stands for each RPC's own.
        loop_timeout: Seconds until an RPC fails while the loop is blocked or stopped.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        header: str,
        request: AiohttpRequest | None,
        default_host: str | None,
        loop_timeout: float,
    ) -> None:
        self.bound = LoopBound("plugin")
        self._all_closed = False
        self._caches: OrderedDict[str, TokenCache] = OrderedDict()
        self._leaving: WeakSet[TokenCache] = WeakSet()  # kept by the RPCs that wait on them
        self._source = source
        self._header = header
        self._http = AiohttpRequest() if request is None else request
        self._owns_http = request is None
        self._default_host = default_host
        self._loop_timeout = loop_timeout
        self._watch: LoopWatch[Handover] = LoopWatch(loop_timeout, _give_up)
        self._waiting: set[asyncio.Task[None]] = set()

    def hand_over(self, loop: asyncio.AbstractEventLoop, service_url: str, handover: Handover) -> None:
        """Let the loop answer an RPC. Called off the loop; returns when the loop has begun, or has not."""
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(self._begin, service_url, handover)
        if self._is_taken(loop, handover):
            if not handover.answered:
                self._watch.add(handover, loop)
        elif loop.is_closed():
            handover.fail(WrongEventLoopError("The event loop of the plugin was closed."))
        else:
            error = TokenUnavailableError(
                f"The event loop did not answer within {self._loop_timeout:g} s.",
                hint="It is stopped, or blocked: perhaps by a synchronous RPC in its own thread.",
            )
            handover.fail(error)

    def _is_taken(self, loop: asyncio.AbstractEventLoop, handover: Handover) -> bool:
        """Return whether the loop begins in time. A loop that is closed drops what it was handed over."""
        ends_at = monotonic() + self._loop_timeout
        while not loop.is_closed() and (remaining := ends_at - monotonic()) > 0:
            if handover.taken.wait(min(remaining, _LONGEST_INTERVAL)):
                break
        return handover.taken.is_set()

    def _begin(self, service_url: str, handover: Handover) -> None:
        """Start to wait for the token; on the loop."""
        if not handover.take():
            return
        try:
            self.bound.check()
        except AuthRpcError as error:
            handover.fail(error)
            return
        task = asyncio.get_running_loop().create_task(
            self._serve(service_url, handover), name="aio_authgrpc plugin"
        )
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _serve(self, service_url: str, handover: Handover) -> None:
        """Answer gRPC, whatever becomes of this task."""
        answer: AuthGrpcError = ChannelClosedError("The plugin was closed while an RPC waited for its token.")
        try:
            token = await self._cache_for(service_url).get()
            handover.answer(token.as_metadata(self._header))
        except AuthGrpcError as error:
            answer = error
        finally:
            handover.fail(answer)  # does nothing after an answer

    def _cache_for(self, service_url: str) -> TokenCache:
        audience = audience_of(service_url, self._default_host)
        # Check and set without an await between them.
        if audience not in self._caches:
            self._caches[audience] = TokenCache(self._source, audience=audience, request=self._http)
        self._caches.move_to_end(audience)
        if len(self._caches) > _MOST_HOSTS:
            self._leaving.add(self._caches.popitem(last=False)[1])
        return self._caches[audience]

    async def aclose(self) -> None:
        """End the RPCs that wait for a token, and close what is owned; again, do what a cancelled call left.

        Raises:
            WrongEventLoopError: Another loop runs here.
        """
        if self._all_closed:
            return
        if not self.bound.closed:
            self.bound.check()
            self.bound.close()
        for task in self._waiting:
            task.cancel()
        for cache in (caches := [*self._caches.values(), *self._leaving]):
            cache.end()
        async with AsyncExitStack() as closing:  # each wait may be cancelled
            if self._owns_http:
                closing.push_async_callback(self._http.aclose)
            closing.push_async_callback(close_all, caches)
            await asyncio.gather(*self._waiting, return_exceptions=True)
        self._all_closed = True

    def __del__(self) -> None:
        # In a forked child they are the parent's, which closes them.
        if self._caches and isinstance(self.bound.open_on, asyncio.AbstractEventLoop):
            text = "An AuthMetadataPlugin was never closed."
            warnings.warn(text, ResourceWarning, source=self, stacklevel=2)


def audience_of(service_url: str, default_host: str | None) -> str:
    """Return `https://<host>` of what gRPC calls the service's URL, which has the service in its path."""
    host = urllib.parse.urlsplit(service_url).netloc if default_host is None else default_host
    return f"https://{host}"  # gRPC has dropped port 443


def _give_up(handover: Handover, closed: bool) -> None:
    """Fail an RPC that the loop will not answer. Called by the watch, in its thread."""
    if closed:
        handover.fail(WrongEventLoopError("The event loop was closed while an RPC waited for its token."))
    else:
        handover.fail(TokenUnavailableError("The event loop stopped while an RPC waited for its token."))
