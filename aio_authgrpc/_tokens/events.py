"""What happens to a token, as typed events: for metrics, logs and tests. No event carries a secret."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aio_authgrpc.errors import AuthRpcError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """Base of all events.

    Attributes:
        at: The wall time, in seconds since the epoch.
    """

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshStarted(TokenEvent):
    """A refresh began: there is no usable token, or it is stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshSucceeded(TokenEvent):
    """A refresh brought a token.

    Attributes:
        generation: How many tokens were fetched so far, this one included.
        expires_at: When it ends, as wall time; None for never.
        attempts: How often the source was asked.
        duration: How long that took, in seconds.
    """

    generation: int
    expires_at: float | None
    attempts: int
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshFailed(TokenEvent):
    """A refresh failed; a token that is still usable is served on.

    Attributes:
        error: Why, as the calls without a token get it.
        attempts: How often the source was asked.
        duration: How long that took, in seconds.
        next_attempt_at: Wall time before which no refresh is tried.
    """

    error: AuthRpcError
    attempts: int
    duration: float
    next_attempt_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleServed(TokenEvent):
    """A token was handed out within its stale window; said once for each token.

    Attributes:
        expires_at: When it ends, as wall time.
    """

    expires_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRejected(TokenEvent):
    """A server refused a call with UNAUTHENTICATED; said once for each token.

    Attributes:
        taken_back: Whether the token is given up. One that is a few seconds old stays: the refusal is meant.
        challenge: The server's `www-authenticate`, which says what it wants; empty without one.
    """

    taken_back: bool
    challenge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReplayed(TokenEvent):
    """A refused call is sent once more, as soon as there is a new token."""


EventCallback = Callable[[TokenEvent], None]
"""Is called on the event loop, at once, and must not block. What it raises goes to the loop's handler."""


class EventStream:
    """The events of a cache as an async iterator; use it with `async with`, and close it to be forgotten.

    It ends when the cache is closed. Whoever is too slow loses the oldest events, not the newest.

    Args:
        subscribe: Takes a callback, and returns what ends the subscription.
        most: How many events wait at most to be read.
    """

    def __init__(self, subscribe: Callable[[EventCallback], Callable[[], None]], most: int) -> None:
        self._events: deque[TokenEvent] = deque(maxlen=most)
        self._changed = asyncio.Event()
        self._ended = False
        self._unsubscribe = subscribe(self._add)

    def _add(self, event: TokenEvent) -> None:
        self._events.append(event)
        self._changed.set()

    def end(self) -> None:
        """Let the iteration end after the events that are there."""
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


class EventBus:
    """Tells callbacks what happened, each in its turn."""

    def __init__(self) -> None:
        self._callbacks: list[EventCallback] = []
        self._streams: list[EventStream] = []

    @property
    def wanted(self) -> bool:
        """Whether anybody listens: where nobody does, no event is made."""
        return bool(self._callbacks)

    def subscribe(self, callback: EventCallback) -> Callable[[], None]:
        """Call `callback` with every event from now on; return what ends that."""
        self._callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return unsubscribe

    def stream(self, most: int) -> EventStream:
        """Return the events from now on, as an async iterator."""
        stream = EventStream(self.subscribe, most)
        self._streams.append(stream)
        return stream

    def emit(self, event: TokenEvent) -> None:
        """Tell all who listen."""
        for callback in tuple(self._callbacks):
            try:
                callback(event)
            except Exception as error:  # noqa: BLE001 - users' code, which must not harm the refresh
                context = {"message": f"A token event callback raised on {event!r}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    def end(self) -> None:
        """Let all streams end, and call nobody any more."""
        for stream in self._streams:
            stream.end()
        self._streams.clear()
        self._callbacks.clear()
