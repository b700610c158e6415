"""What happens to a token, as typed events: for metrics, logs and tests. No event carries a secret."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

from aio_authgrpc._checks.values import FrozenValue
from aio_authgrpc.errors import AuthRpcError


class TokenEvent(FrozenValue):
    """Base of all events: immutable, equal by value, built with keywords.

    Attributes:
        at: Wall time in seconds since the epoch.
        audience: For whom the token is; "" where it is the same for every audience.
        target: What the connection of `connect(on_event=...)` connects to; "" for other listeners:
            a cache may serve several.
    """

    at: float
    audience: str = ""
    target: str = ""


class RefreshStarted(TokenEvent):
    """A refresh began: there is no usable token, or the token is stale."""


class RefreshSucceeded(TokenEvent):
    """A refresh fetched a token.

    Attributes:
        generation: How many tokens the cache has fetched so far, this one included.
        expires_at: When the token expires, in seconds since the epoch; None for never.
        attempts: How often the source was asked.
        duration: Seconds from the refresh's start to the token.
    """

    generation: int
    expires_at: float | None
    attempts: int
    duration: float


class RefreshFailed(TokenEvent):
    """A refresh failed. A token that is still usable is served on.

    Attributes:
        error: The reason; a call without a usable token raises a copy of it.
        attempts: How often the source was asked.
        duration: Seconds from the refresh's start to its failure.
        next_attempt_at: Wall time, in seconds since the epoch, before which no refresh is tried.
    """

    error: AuthRpcError
    attempts: int
    duration: float
    next_attempt_at: float


class StaleServed(TokenEvent):
    """A stale token was handed out; emitted once for each token.

    Attributes:
        expires_at: When the token expires, in seconds since the epoch.
    """

    expires_at: float | None


class TokenRejected(TokenEvent):
    """A server answered UNAUTHENTICATED to a call with this token; emitted once for each token.

    Attributes:
        taken_back: Whether the cache dropped the token. A token younger than 10 s is kept.
        challenge: The server's `www-authenticate` header, secrets cut out; empty without one.
    """

    taken_back: bool
    challenge: str


class CallReplayed(TokenEvent):
    """A refused call is sent once more, as soon as there is a new token."""


EventCallback = Callable[[TokenEvent], None]
"""Called at once, on the event loop; it must not block. The loop's exception handler gets what it raises."""

# A reader that has stopped reading must not fill the memory.
_MOST_UNREAD = 1000


class EventStream:
    """The events of a cache as an async iterator. Use it with `async with`, which ends the subscription.

    The iteration ends when the cache is closed. A reader that is more than 1000 events behind loses the
    oldest.

    Args:
        subscribe: Takes a callback, and what to call when there are no more events; returns the function that
            ends the subscription.
    """

    def __init__(self, subscribe: Callable[[EventCallback, Callable[[], None]], Callable[[], None]]) -> None:
        self._events: deque[TokenEvent] = deque(maxlen=_MOST_UNREAD)
        self._changed = asyncio.Event()
        self._ended = False
        self._unsubscribe = subscribe(self._add, self.end)

    def _add(self, event: TokenEvent) -> None:
        self._events.append(event)
        self._changed.set()

    def end(self) -> None:
        """End the iteration after the unread events. Calling it again does nothing."""
        self._ended = True
        self._unsubscribe()
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TokenEvent:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()


class EventBus:
    """Passes each event to all callbacks, in the order in which they subscribed.

    Args:
        audience: Is added to each event.
    """

    def __init__(self, audience: str = "") -> None:
        self._audience = audience
        # By subscription: one function may subscribe twice. With each what to call at the end.
        self._callbacks: dict[object, tuple[EventCallback, Callable[[], None] | None]] = {}
        self._ended = False

    @property
    def wanted(self) -> bool:
        """Whether there is a callback. Without one, an event on a call's way need not be made."""
        return bool(self._callbacks)

    def subscribe(
        self, callback: EventCallback, at_end: Callable[[], None] | None = None
    ) -> Callable[[], None]:
        subscription = object()
        self._callbacks[subscription] = callback, at_end

        def unsubscribe() -> None:
            self._callbacks.pop(subscription, None)

        return unsubscribe

    def stream(self) -> EventStream:
        stream = EventStream(self.subscribe)
        if self._ended:
            stream.end()
        return stream

    def emit(self, event: TokenEvent) -> None:
        if self._audience and self._callbacks:
            event = event.replace(audience=self._audience)
        for callback, _ in tuple(self._callbacks.values()):
            try:
                callback(event)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - users' code must fail neither a refresh nor a call
                context = {"message": f"A token event callback raised on {event!r}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    def end(self) -> None:
        self._ended = True
        subscribed, self._callbacks = self._callbacks, {}
        for _, at_end in subscribed.values():
            if at_end is not None:
                at_end()
