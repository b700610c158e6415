"""Tokens of one event loop, for any thread."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Self

import google.auth.exceptions

from aio_authgrpc import Token
from aio_authgrpc.errors import AuthGrpcError
from aio_authgrpc.tokens import Clock, TokenCache

# Seconds. A token that lives longer is served without asking the loop: google-auth's threshold for a refresh.
_FRESH = 225.0


class LoopTokens:
    """Tokens for any thread, from caches on one event loop, a cache for each audience.

    Args:
        open_cache: Opens the cache for an `audience`.
        audience: The only audience, whatever is asked for; None leaves it open.
        clock: That of the caches.
        loop_timeout: Seconds until a thread gives up a loop that is blocked or has stopped.
    """

    def __init__(
        self,
        open_cache: Callable[..., AbstractAsyncContextManager[TokenCache]],
        audience: str | None,
        *,
        clock: Clock,
        loop_timeout: float,
    ) -> None:
        self._open_cache = open_cache
        self._audience = audience
        self._clock = clock
        self._loop_timeout = loop_timeout
        self._loop = asyncio.get_running_loop()
        self._caches: dict[str, TokenCache] = {}
        self._leases = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._answering: set[asyncio.Task[None]] = set()
        # What threads are served without the loop: written on the loop alone.
        self._held: dict[str, Token] = {}
        self._closed = False

    def get(self, audience: str, *, unwanted: Token | None = None, look: bool = False) -> Token:
        """Return a token, in any thread: the one at hand, unless the cache has to `look` for another.

        Raises:
            google.auth.exceptions.RefreshError: There is none.
        """
        audience = self._audience or audience
        if self._closed:
            raise _closed_refusal()
        held = self._held.get(audience)
        if not look and held is not None and self._lives_for(held) > _FRESH:
            with suppress(RuntimeError):  # the loop was closed: the token is as good as before
                self._loop.call_soon_threadsafe(self._look_again, audience)
            return held
        if _running_loop() is self._loop:
            self._look_again(audience)
            if look or audience not in self._held:
                raise _refusal(
                    "No token is at hand, and a synchronous request cannot wait for one on the thread of the "
                    "event loop: make it in another one, with asyncio.to_thread()."
                )
            return self._held[audience]
        try:
            return self._await(audience, unwanted)
        except google.auth.exceptions.RefreshError:
            if not look and held is not None and self._lives_for(held) > 0:
                return held
            raise

    def _await(self, audience: str, unwanted: Token | None) -> Token:
        answer: Future[Token] = Future()
        try:
            self._loop.call_soon_threadsafe(self._begin, audience, unwanted, answer)
        except RuntimeError:
            raise _refusal("The event loop of the credentials was closed.") from None
        while not wait([answer], timeout=self._loop_timeout).done:
            # It can be cancelled as long as the loop has not begun.
            if answer.cancel() or not self._loop.is_running():
                raise _refusal(
                    f"The event loop did not answer within {self._loop_timeout:g} s. It has stopped, or is "
                    "blocked, perhaps by a synchronous request in its own thread: use asyncio.to_thread()."
                )
        return answer.result()

    def _begin(self, audience: str, unwanted: Token | None, answer: Future[Token]) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        if self._closed:
            answer.set_exception(_closed_refusal())
            return
        task = self._loop.create_task(
            self._answer(audience, unwanted, answer), name="aio_authgrpc credentials"
        )
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, audience: str, unwanted: Token | None, answer: Future[Token]) -> None:
        """Answer the waiting thread, whatever becomes of this task."""
        failure: Exception = _refusal("The credentials were closed while a request waited for its token.")
        try:
            cache = await self._cache(audience)
            if unwanted is not None:
                cache.reject(unwanted)
            self._held[audience] = token = await cache.get()
            answer.set_result(token)
        except AuthGrpcError as error:
            failure = _refusal(str(error), retryable=error.retryable)
            failure.__cause__ = error
        except Exception as error:  # noqa: BLE001 - a user's source raises anything, and the thread waits
            failure = error
        finally:
            if not answer.done():
                answer.set_exception(failure)

    async def _cache(self, audience: str) -> TokenCache:
        async with self._opening:
            if audience not in self._caches:
                opening = self._open_cache(audience=audience)
                self._caches[audience] = await self._leases.enter_async_context(opening)
            return self._caches[audience]

    def _look_again(self, audience: str) -> None:
        """Hold what the cache has now; it refreshes a stale token in the background. On the loop."""
        cache = self._caches.get(audience)
        token = None if cache is None or self._closed else cache.current()
        if token is None:
            self._held.pop(audience, None)
        else:
            self._held[audience] = token

    async def __aenter__(self) -> Self:
        if self._audience:
            await self._cache(self._audience)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        for task in self._answering:
            task.cancel()
        try:
            await asyncio.gather(*self._answering, return_exceptions=True)
        finally:  # also where leaving the block is cancelled
            self._held.clear()
            await self._leases.aclose()

    def _lives_for(self, token: Token) -> float:
        return math.inf if token.expires_at is None else token.expires_at - self._clock.time()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _closed_refusal() -> google.auth.exceptions.RefreshError:
    return _refusal("The credentials were closed: use them inside of their 'async with' block.")


def _refusal(text: str, *, retryable: bool = False) -> google.auth.exceptions.RefreshError:
    return google.auth.exceptions.RefreshError(text, retryable=retryable)
