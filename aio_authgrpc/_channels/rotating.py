"""A channel that is replaced when its certificates have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from contextvars import Context
from typing import Any, Generic, TypeVar
from weakref import finalize, ref

import grpc
import grpc.aio

from aio_authgrpc._channels.layer import ChannelLayer, first_change
from aio_authgrpc._loop.clock import Clock, SystemClock
from aio_authgrpc._loop.single_flight import SingleFlight, Waiter
from aio_authgrpc.errors import AuthGrpcError

T = TypeVar("T")

_log = logging.getLogger("aio_authgrpc")

# A cancelled reading ends at once, unless a user's coroutine function suppresses the cancellation.
_CLOSE_TIMEOUT = 2.0


class RotatingChannel(ChannelLayer, Generic[T]):
    """A `grpc.aio.Channel` over one that is replaced when the settings it was made from have changed.

    New RPCs use the new channel; so do RPCs of an `AuthorizedChannel` that still wait for their connection
    (`wait_for_ready`). RPCs under way end on the old channel, which is closed after the last of them.
    Settings that cannot be read change nothing. A new channel is needed because gRPC cannot replace the
    client certificate of an existing one from Python (https://github.com/grpc/grpc/issues/41779).

    A timer reads the settings; an RPC pays for a comparison and a count. Made on the loop that uses it, and
    closed with `close()`.

    Args:
        make: Makes a channel from settings.
        settings: The first settings.
        read: Reads the settings again. Its errors are logged, the first of a row only.
        interval: Seconds from one reading to the next.
        clock: Sleeps for the timer.
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
        super().__init__(self._current.channel)
        self._replaced: set[_Inner] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._connecting = SingleFlight(self.channel_ready, lambda: None)
        self._closed = False
        self._failing = False
        # A weak reference and a finalizer: the timer must not keep an unclosed channel alive. In an empty
        # context: nor that of the request in which the channel was opened.
        loop, readings = asyncio.get_running_loop(), self._read_again(ref(self), interval, self._clock)
        self._timer = loop.create_task(readings, name="aio_authgrpc certificates", context=Context())
        finalize(self, _cancel, self._timer, loop).atexit = False

    def _multi_callable(self, arity: str, path: str, make: Callable[[grpc.aio.Channel], Any]) -> Any:
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

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until `get_state()` differs from `last_observed_state`."""
        while self.get_state() is last_observed_state:
            was_replaced = await self._change_of_current(last_observed_state)
            # A new channel begins idle, and may be in the old one's state by the time this task runs.
            if was_replaced and last_observed_state is not grpc.ChannelConnectivity.IDLE:
                return

    async def _change_of_current(self, last_observed_state: grpc.ChannelConnectivity) -> bool:
        """Wait for a change of the current channel; return whether it was replaced."""
        inner = self._current
        try:
            await first_change(
                self._channel.wait_for_state_change(last_observed_state), inner.replaced.wait()
            )
        except Exception:
            if not inner.replaced.is_set():
                raise
        return inner.replaced.is_set()

    async def channel_ready(self) -> None:
        """Wait until the current channel is ready."""
        # `try_to_connect` each time: a channel that has just replaced another is idle.
        while (state := self.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await self._change_of_current(state)

    def wait(self, waiter: Waiter[None]) -> None:
        """Tell `waiter` when the channel is ready, or closed; any number of them share one watcher."""
        self._connecting.add(waiter)

    def leave(self, waiter: Waiter[None]) -> None:
        """Let a waiter go; nothing watches the connection after the last of them."""
        self._connecting.discard(waiter)
        if not self._connecting.awaited:
            self._connecting.cancel()

    async def close(self, grace: float | None = None) -> None:
        """Close the current channel and the replaced ones at the same time."""
        self._closed = True
        self._timer.cancel()
        connecting = self._connecting.cancel()
        channels = [inner.channel for inner in (self._current, *self._replaced)]
        self._replaced.clear()
        await _close_all(channels, grace)
        if connecting is not None:
            self._closing.add(connecting)
        await asyncio.wait({self._timer, *self._closing}, timeout=_CLOSE_TIMEOUT)

    @staticmethod
    async def _read_again(channel: ref[RotatingChannel[Any]], interval: float, clock: Clock) -> None:
        """Read a channel's settings at each interval; the body of the timer's task."""
        while True:
            await clock.sleep(interval)
            alive = channel()
            if alive is None or alive._closed:
                return
            await alive._check()
            if alive._closed:  # a user's function has suppressed the cancellation
                return
            del alive

    async def _check(self) -> None:
        try:
            settings = await self._read()
            # Check and set without an await between them: close() may have run during the reading.
            if not self._closed and settings != self._settings:
                self._replace(settings)
        except asyncio.CancelledError as error:
            if self._closed or self._timer.cancelling():
                raise
            self._record(error)  # a user's function raised it
        except Exception as error:  # noqa: BLE001 - users' code raises anything, and the old certificates still work
            self._record(error)
        else:
            self._failing = False

    def _record(self, error: BaseException) -> None:
        if not self._failing:
            text = str(error) if isinstance(error, AuthGrpcError) else type(error).__name__
            _log.warning("The certificates could not be read again; the old ones stay in use: %s", text)
        self._failing = True

    def _replace(self, settings: T) -> None:
        new, old = _Inner(self._make(settings)), self._current
        if old.channel.get_state() is grpc.ChannelConnectivity.READY:
            new.channel.get_state(try_to_connect=True)  # the next RPC need not wait for the handshake
        self._settings, self._current, self._channel = settings, new, new.channel
        self._replaced.add(old)
        old.replaced.set()
        old.when_idle = self._close_if_idle
        self._close_if_idle(old)
        _log.info("The certificates have changed; new RPCs use the new ones.")

    def _close_if_idle(self, inner: _Inner) -> None:
        if inner.calls or inner not in self._replaced:
            return
        self._replaced.discard(inner)
        closing = asyncio.get_running_loop().create_task(
            inner.channel.close(), name="aio_authgrpc old channel"
        )
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def _close_all(channels: Iterable[grpc.aio.Channel], grace: float | None) -> None:
    """Close channels, with a grace all at the same time.

    Without one they are closed in turn: `close()` of grpc.aio does not wait then, so that a cancelled
    caller leaves none of them open.
    """
    if grace:
        await asyncio.gather(*(channel.close(grace) for channel in channels))
        return
    for channel in channels:
        await channel.close()


def _cancel(timer: asyncio.Task[None], loop: asyncio.AbstractEventLoop) -> None:
    if not timer.done():
        # Threadsafe: the garbage collector calls this from any thread. RuntimeError: the loop was closed.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(timer.cancel)


class _Inner:
    """A channel and the number of its calls under way."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0
        self.replaced = asyncio.Event()
        self.when_idle: Callable[[_Inner], None] | None = None

    def end(self, _: Any) -> None:
        """Count a call that has ended.

        gRPC keeps every call that has a callback. A unary response ends by itself; a stream of responses that
        is no longer read stays under way until its deadline, or until `close()`.
        """
        self.calls -= 1
        if self.when_idle is not None and not self.calls:
            self.when_idle(self)
