"""A channel whose certificates change while it is used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from weakref import finalize, ref

import grpc
import grpc.aio

from aio_authgrpc._channels.pool import close_all
from aio_authgrpc._loop.clock import Clock, SystemClock
from aio_authgrpc.errors import AuthGrpcError

T = TypeVar("T")

_log = logging.getLogger("aio_authgrpc")

# A reading that was cancelled ends at once, but for a user's coroutine function that resists.
_CLOSE_TIMEOUT = 2.0


class RotatingChannel(grpc.aio.Channel, Generic[T]):
    """A `grpc.aio.Channel` over one that is replaced when the settings that it was made of have changed.

    New RPCs go to the new one, and with them those of an `AuthorizedChannel` that wait for their connection
    (`wait_for_ready`). Those under way end on the old one, which is closed after the last of them. Settings
    that cannot be read leave everything as it is. gRPC has no public way to give a channel of Python's
    another client certificate (https://github.com/grpc/grpc/issues/41779).

    A timer reads the settings; the RPCs pay for a comparison and a count. Made on the loop that uses it, and
    closed with `close()`.

    Args:
        make: Makes a channel of settings.
        settings: The first ones, read already.
        read: Reads them again; what it raises is logged, once in a row.
        interval: Seconds from one reading to the next.
        clock: What waits.
    """

    def __init__(
        self,
        make: Callable[[T], grpc.aio.Channel],
        settings: T,
        read: Callable[[], Awaitable[T]],
        *,
        interval: float,
        clock: Clock | None = None,
    ) -> None:
        self._make = make
        self._settings = settings
        self._read = read
        self._clock: Clock = SystemClock() if clock is None else clock
        self._current = _Inner(make(settings))
        self._replaced: set[_Inner] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._wait_until_ready = 0
        self._closed = False
        self._failing = False
        # Neither keeps a channel alive that was dropped without being closed.
        loop, readings = asyncio.get_running_loop(), self._read_again(ref(self), interval, self._clock)
        self._timer = loop.create_task(readings, name="aio_authgrpc certificates")
        finalize(self, _cancel, self._timer, loop).atexit = False

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.unary_unary`."""
        return self._on_current(lambda channel: channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.unary_stream`."""
        return self._on_current(lambda channel: channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.stream_unary`."""
        return self._on_current(lambda channel: channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.stream_stream`."""
        return self._on_current(lambda channel: channel.stream_stream(*args, **kwargs))

    def _on_current(self, make: Callable[[grpc.aio.Channel], Any]) -> Callable[..., Any]:
        inner = self._current
        multi_callable = make(inner.channel)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal inner, multi_callable
            if inner is not self._current:
                inner = self._current
                multi_callable = make(inner.channel)
            begun = multi_callable(*args, **kwargs)
            inner.calls += 1
            begun.add_done_callback(inner.end)
            return begun

        return call

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the channel that new RPCs go to."""
        return self._current.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when `get_state()` is another than `last_observed_state`."""
        while self.get_state() is last_observed_state:
            was_replaced = await self._change_of_current(last_observed_state)
            # A new channel begins idle. It may be as far as the old one was before this is looked at again.
            if was_replaced and last_observed_state is not grpc.ChannelConnectivity.IDLE:
                return

    async def _change_of_current(self, last_observed_state: grpc.ChannelConnectivity) -> bool:
        """Wait for a change of the channel that new RPCs go to; return whether another took its place."""
        inner = self._current
        changes: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(inner.channel.wait_for_state_change(last_observed_state)),
            asyncio.ensure_future(inner.replaced.wait()),
        }
        try:
            changed, _ = await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
            if not inner.replaced.is_set():
                for change in changed:
                    change.result()  # a closed channel raises here
        finally:
            for change in changes:
                change.cancel()
            await asyncio.gather(*changes, return_exceptions=True)
        return inner.replaced.is_set()

    async def channel_ready(self) -> None:
        """Wait until the channel that new RPCs go to is ready."""
        # Each time it is told to connect: one that has just taken the place is idle, as the old one may be.
        while (state := self.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await self._change_of_current(state)

    async def wait_until_ready(self) -> None:
        """Wait as `channel_ready()` does, at the cost of one watcher however many wait."""
        # Check and set without an await between them.
        if self._connecting is None:
            loop = asyncio.get_running_loop()
            self._connecting = loop.create_task(self.channel_ready(), name="aio_authgrpc connecting")
            self._closing.add(self._connecting)
            self._connecting.add_done_callback(self._connected)
        connecting = self._connecting
        self._wait_until_ready += 1
        try:
            await asyncio.wait({connecting})
        finally:
            self._wait_until_ready -= 1
            if not self._wait_until_ready:
                connecting.cancel()

    def _connected(self, connecting: asyncio.Task[None]) -> None:
        self._connecting = None
        self._closing.discard(connecting)
        if not connecting.cancelled():
            connecting.exception()  # of a channel that was closed: whoever waited tries, and is told

    async def close(self, grace: float | None = None) -> None:
        """Close the channel, and those that it replaced, at the same time."""
        self._closed = True
        self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        channels = [inner.channel for inner in (self._current, *self._replaced)]
        self._replaced.clear()
        await close_all(channels, grace)
        await asyncio.wait({self._timer, *self._closing}, timeout=_CLOSE_TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @staticmethod
    async def _read_again(channel: ref[RotatingChannel[Any]], interval: float, clock: Clock) -> None:
        """Read a channel's settings again and again; the body of the timer's task, cancelled at the end."""
        while True:
            await clock.sleep(interval)
            there = channel()
            if there is None or there._closed:
                return
            await there._check()
            del there

    async def _check(self) -> None:
        try:
            settings = await self._read()
            # Check and set without an await between them: close() may have come in meanwhile.
            if not self._closed and settings != self._settings:
                self._replace(settings)
        except asyncio.CancelledError as error:
            if self._closed or self._timer.cancelling():
                raise
            self._record(error)  # a user's function was cancelled from inside
        except Exception as error:  # noqa: BLE001 - files and users' code raise anything, and the old ones work
            self._record(error)
        else:
            self._failing = False

    def _record(self, error: BaseException) -> None:
        if not self._failing:  # once in a row
            text = str(error) if isinstance(error, AuthGrpcError) else type(error).__name__
            _log.warning("The certificates could not be read again, and stay as they are: %s", text)
        self._failing = True

    def _replace(self, settings: T) -> None:
        new, old = _Inner(self._make(settings)), self._current
        if old.channel.get_state() is grpc.ChannelConnectivity.READY:
            new.channel.get_state(try_to_connect=True)  # so that the next RPC finds a connection under way
        self._settings, self._current = settings, new
        self._replaced.add(old)
        old.replaced.set()
        old.when_idle = self._close_if_idle
        self._close_if_idle(old)
        _log.info("The certificates have changed: new RPCs use the new ones.")

    def _close_if_idle(self, inner: _Inner) -> None:
        if inner.calls or inner not in self._replaced:
            return
        self._replaced.discard(inner)
        closing = asyncio.get_running_loop().create_task(inner.close(), name="aio_authgrpc old channel")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def _cancel(timer: asyncio.Task[None], loop: asyncio.AbstractEventLoop) -> None:
    if not timer.done():  # the collector of garbage works in whatever thread
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(timer.cancel)


class _Inner:
    """A channel, and how many calls were begun on it and have not ended."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0
        self.replaced = asyncio.Event()
        self.when_idle: Callable[[_Inner], None] | None = None

    def end(self, _: Any) -> None:
        """Count a call that has ended.

        A unary response comes to an end whoever holds the call. A stream of responses that nobody reads
        any more does not: gRPC keeps what has a callback, so it is under way until its deadline, or close().
        """
        self.calls -= 1
        if self.when_idle is not None and not self.calls:
            self.when_idle(self)

    async def close(self) -> None:
        await self.channel.close()
