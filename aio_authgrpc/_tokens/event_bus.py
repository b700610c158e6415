"""How events reach their listeners: callbacks, and an async iterator over one of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aio_authgrpc._tokens.events import EventCallback, TokenEvent

# A reader that has stopped reading must not fill the memory.
_MOST_UNREAD = 1000


class EventStream:
    """The events of a cache as an async iterator. Use it with `async with`, which ends the subscription.

    The iteration ends when the cache is closed. A reader that is more than 1000 events
    behind loses the oldest.

    Args:
        subscribe: Takes a callback and returns the function that ends the subscription.
    """

    def __init__(self, subscribe: Callable[[EventCallback], Callable[[], None]]) -> None:
        self._events: deque[TokenEvent] = deque(maxlen=_MOST_UNREAD)
        self._changed = asyncio.Event()
        self._ended = False
        self._unsubscribe = subscribe(self._add)

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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


class EventBus:
    """Passes each event to all callbacks, in the order in which they subscribed."""

    def __init__(self) -> None:
        self._callbacks: list[EventCallback] = []
        self._streams: list[EventStream] = []

    @property
    def wanted(self) -> bool:
        """Whether there is a callback. Without one, an event on a call's way need not be made."""
        return bool(self._callbacks)

    def subscribe(self, callback: EventCallback) -> Callable[[], None]:
        """Call `callback` with every event from now on; return the function that ends the subscription."""
        self._callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return unsubscribe

    def stream(self) -> EventStream:
        """Return the events from now on as an async iterator."""
        stream = EventStream(self.subscribe)
        self._streams.append(stream)
        return stream

    def emit(self, event: TokenEvent) -> None:
        """Call every callback with the event."""
        for callback in tuple(self._callbacks):
            try:
                callback(event)
            except Exception as error:  # noqa: BLE001 - a callback is users' code and must not fail the refresh
                context = {"message": f"A token event callback raised on {event!r}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    def end(self) -> None:
        """End all streams and forget all callbacks."""
        for stream in self._streams:
            stream.end()
        self._streams.clear()
        self._callbacks.clear()
