"""The token cache: serves a fresh or stale token at once, and lets callers wait for the next one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

from aio_authgrpc._checks.arguments import check_callback, check_type
from aio_authgrpc._checks.known_secrets import KnownSecrets
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._http.sent import remembering_what_is_sent
from aio_authgrpc._loop.clock import Clock, SystemClock
from aio_authgrpc._loop.ownership import LoopBound
from aio_authgrpc._loop.single_flight import Waiter
from aio_authgrpc._tokens.events import (
    CallReplayed,
    EventBus,
    EventCallback,
    EventStream,
    StaleServed,
    TokenRejected,
)
from aio_authgrpc._tokens.freshness import CachedToken, TokenState, TokenStatus
from aio_authgrpc._tokens.refresh import Refresher
from aio_authgrpc._tokens.refresh_tasks import RefreshTasks
from aio_authgrpc._tokens.source import LoadableTokenSource, TokenSource, check_source
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import AuthRpcError, TokenUnavailableError

TokenWaiter = Waiter[Token | BaseException]
"""What waits for a token without a task: it is told the token, or why there is none."""


async def close_all(caches: Sequence[TokenCache]) -> None:
    """Close caches at the same time. Cancelling it cancels the refreshes that they wait for."""
    try:
        for cache in caches:
            cache.end()
        await asyncio.gather(*(cache.aclose() for cache in caches))
    finally:
        for cache in caches:  # the wait of some may not have begun
            cache.end()


class TokenCache:
    """Serves one token of one source and audience, for any number of channels on one event loop.

    A fresh token is served at once, and a stale one too, while a refresh runs in the background. Without a
    usable token `get()` waits for one refresh, which all waiting callers share. A failed refresh leaves a
    usable token alone; it is tried again after a jittered back-off, during which callers without a usable
    token get the recorded error at once.

    Close a cache that you make, with `async with` or `aclose()`: a channel leaves it open.

    Args:
        source: Where the tokens come from.
        audience: The audience that the source is told; `https://<host>` for a channel's own cache.
        request: The HTTP transport that the source is given, which stays the caller's. None makes one, closed
            with the cache.
        keep_warm: Refresh by a timer as well, so that there is a usable token after an hour without calls.
            Otherwise an idle cache sends nothing.
        attempts: How often one refresh asks the source, at most: again after a `TokenUnavailableError` or an
            error that becomes one, and a pause, jittered below 1 s or from `Retry-After` (RFC 9110).
        refresh_timeout: Seconds that one refresh may take in all.
        close_timeout: Seconds that `aclose` waits for a refresh that was sent, and for a cancelled one.
        clock: Wall and monotonic time; the machine's by default.
        rng: Randomness of the jitter, the pauses and the back-off.

    Raises:
        ConfigurationError: An argument cannot be used; `field` names it.
    """

    def __init__(  # noqa: PLR0913 - what it needs, and what tests and operators set
        self,
        source: TokenSource,
        *,
        audience: str = "",
        request: AiohttpRequest | None = None,
        keep_warm: bool = False,
        attempts: int = 3,
        refresh_timeout: float = 60.0,
        close_timeout: float = 2.0,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        check_source(source)
        check_type("audience", audience, str)
        check_type("request", request, AiohttpRequest, type(None))
        self._source = source
        self._audience = audience
        self._http = AiohttpRequest() if request is None else request
        self._owns_http = request is None
        self._keep_warm = keep_warm
        self._clock: Clock = SystemClock() if clock is None else clock
        self._events = EventBus(audience)
        # What a cache of another source has in common with this one.
        common: Any = {"attempts": attempts, "refresh_timeout": refresh_timeout, "clock": self._clock}
        self._another: Callable[..., TokenCache] = partial(
            TokenCache, request=self._http, close_timeout=close_timeout, **common
        )
        rng = random.Random() if rng is None else rng  # noqa: S311 - spreads load, guards nothing
        self._refresher = Refresher(
            source, audience=audience, http=self._http, events=self._events, rng=rng, **common
        )
        self._tasks = RefreshTasks(
            self._refresh, self._without_refresh, clock=self._clock, close_timeout=close_timeout
        )
        self._entry: CachedToken | None = None
        self._loop = LoopBound("channel")

    @property
    def closed(self) -> bool:
        """Whether `aclose()` was called."""
        return self._loop.closed

    @property
    def source(self) -> TokenSource:
        """Where the tokens come from."""
        return self._source

    def of_another(self, source: TokenSource, *, audience: str | None = None) -> TokenCache:
        """Return an empty cache for another source, with this cache's HTTP transport, clock and limits.

        An `audience` of None stands for this cache's. The caller closes the new cache, before this one.
        """
        return self._another(source, audience=self._audience if audience is None else audience)

    async def load(self) -> None:
        """Let the source read its files, so that a mistake in them shows before the first RPC, and start.

        Raises:
            ConfigurationError: The source cannot be used.
            ChannelClosedError, WrongEventLoopError: See `check_usable`.
        """
        self._loop.check()
        if isinstance(self._source, LoadableTokenSource):
            await self._source.load(self._refresher.token_request())
        self.start()

    def start(self) -> None:
        """Belong to the running loop, and start the timer of `keep_warm`. Calling it again does nothing.

        Raises:
            ChannelClosedError, WrongEventLoopError: See `check_usable`.
        """
        self._loop.check()
        if self._keep_warm:
            self._tasks.start_timer(lambda: self._refresher.due_in(self._entry))

    def current(self) -> Token | None:
        """Return the token if it can be used now; serving a stale one starts a refresh in the background.

        Never waits. Call it on the running loop.
        """
        entry = self._entry
        if entry is None:
            return None
        now = self._clock.time()
        if entry.sure_from <= now < entry.sure_until:
            return entry.token
        state = entry.look(now, self._clock.monotonic())
        if state is TokenState.STALE:
            if self._refresher.next_attempt_in() <= 0:
                self._tasks.flight.start()
            if self._events.wanted and not entry.stale_was_said:
                entry.stale_was_said = True
                self._events.emit(StaleServed(at=now, expires_at=entry.token.expires_at))
        return None if state is TokenState.EXPIRED else entry.token

    async def get(self, *, timeout: float | None = None) -> Token:
        """Return a usable token, waiting for the refresh if there is none.

        A caller that is cancelled, or runs out of time, leaves alone: the refresh goes on for the others.

        Args:
            timeout: Seconds to wait; None waits as long as the refresh may take.

        Raises:
            TokenUnavailableError, TokenRefusedError: The refresh failed, now or within the back-off.
            TokenDeadlineExceededError: `timeout` ran out first.
            ChannelClosedError, WrongEventLoopError: See `check_usable`.
        """
        token = self._at_hand()
        return await self._tasks.join(timeout) if token is None else token

    def wait(self, waiter: TokenWaiter) -> None:
        """Tell `waiter` what `get()` returns or raises, in a later step of the loop, and let it go."""
        flight = self._tasks.flight
        if self._entry is None and flight.running and self._loop.open_on is asyncio.get_running_loop():
            flight.add(waiter)  # as below, for a crowd
            return
        try:
            token = self._at_hand()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the waiter's to raise, whatever it is
            asyncio.get_running_loop().call_soon(waiter.landed, error)
            return
        if token is None:
            flight.add(waiter)
        else:
            asyncio.get_running_loop().call_soon(waiter.landed, token)

    def leave(self, waiter: TokenWaiter) -> None:
        """Let a waiter go; an outcome that is on the way still reaches it."""
        self._tasks.flight.discard(waiter)

    def _at_hand(self) -> Token | None:
        """Return the token that is served without a refresh; raise what `get()` raises without one."""
        self.start()
        token = self.current()
        if token is None and not self._tasks.flight.running:
            self._entry = self._refresher.held() or self._entry
            token = self.current()
        if token is None:
            self._refresher.check_backoff()
        return token

    def _without_refresh(self) -> AuthRpcError:
        try:
            self._loop.check()
        except AuthRpcError as error:
            return error  # closing is why the refresh was cancelled
        return TokenUnavailableError("The token refresh was cancelled from outside.")

    async def _refresh(self) -> Token | AuthRpcError:
        with remembering_what_is_sent():
            outcome = await self._refresher.fetch()
        # From here on without an await: a listener of the events finds the cache as the refresh leaves it.
        if self.closed:  # it came home for its source alone: see `aclose`
            return TokenUnavailableError("The token cache was closed.")
        if isinstance(outcome, AuthRpcError):
            self._refresher.record_failure(outcome, served=self._entry)
            return outcome
        self._entry = outcome
        self._refresher.record_success(outcome)
        return outcome.token

    def reject(self, token: Token, *, challenge: str = "") -> bool:
        """Take back a token that a server refused.

        Of many calls that were refused with it, the first takes it back; together they cause one refresh.

        Args:
            token: The token that the call was sent with.
            challenge: The server's `www-authenticate`, for the events.

        Returns:
            Whether sending the call again may help. False keeps the token: it is younger than 10 s, or its
            scope is insufficient (RFC 6750, section 3.1).
        """
        # Check and set without an await between them.
        entry = self._entry
        if entry is None or entry.token is not token:
            return True
        taken_back = not entry.refusal_is_meant(self._clock.monotonic(), challenge)
        if taken_back:
            self._entry = None
            self._refresher.replace(token)
        if self._events.wanted and not entry.refusal_was_said:
            entry.refusal_was_said = True
            now, text = self._clock.time(), redacted(challenge, KnownSecrets([token.value]))
            self._events.emit(TokenRejected(at=now, taken_back=taken_back, challenge=text))
        return taken_back

    def subscribe(self, callback: EventCallback) -> Callable[[], None]:
        """Call `callback` with every event from now on, on the event loop.

        The function that it returns ends the subscription and may be called twice. Closing the cache ends it.

        Raises:
            ConfigurationError: It is no function, or a coroutine function, which nothing would await.
        """
        check_callback("callback", callback, hint="It is called with each TokenEvent.")
        return self._events.subscribe(callback)

    def events(self) -> EventStream:
        """Return the events from now on, to iterate with `async for`; an `async with` around it ends them.

        Closing the cache ends them too. A reader that is more than 1000 events behind loses the oldest.
        """
        return self._events.stream()

    def say_replayed(self) -> None:
        """Emit `CallReplayed`: a call that was refused with a token of this cache is sent again."""
        self._events.emit(CallReplayed(at=self._clock.time()))

    def status(self) -> TokenStatus:
        """Return what the cache knows now. Changes nothing and starts nothing."""
        return self._refresher.status(self._entry)

    def end(self) -> None:
        """Do the part of closing that needs no wait: wake all waiting callers with `ChannelClosedError`.

        Several caches are ended before the first wait of `aclose`, which may be cancelled.
        """
        self._loop.close()
        self._entry = None
        self._refresher.close()
        self._events.end()
        self._tasks.end(at_once=self._refresher.pausing)

    async def aclose(self) -> None:
        """Wake all waiting callers with `ChannelClosedError`, and close what is owned.

        A refresh that was sent may come home within `close_timeout` seconds, then it is cancelled: its answer
        can hold the only refresh token that is still good. Calling it again does nothing, or the rest where
        the first call was cancelled.
        """
        self.end()
        try:
            await self._tasks.aclose()
        finally:
            if self._owns_http:
                await self._http.aclose()

    async def __aenter__(self) -> Self:
        try:
            await self.load()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "_loop"):  # its constructor raised, and a debugger looks at it
            return "<TokenCache that was not made>"
        return f"<TokenCache of {type(self._source).__name__}: {self.status()}>"

    def check_usable(self) -> None:
        """Raise unless the cache is open and belongs to the running loop; the first loop to ask owns it.

        Raises:
            ChannelClosedError, WrongEventLoopError: It is closed, or belongs to another loop.
        """
        self._loop.check()
