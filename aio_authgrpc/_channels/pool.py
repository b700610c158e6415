"""Several connections to one target, used in turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

MultiCallable = TypeVar("MultiCallable", bound=Callable[..., Any])


class ChannelPool(grpc.aio.Channel):
    """A `grpc.aio.Channel` over several, each RPC on the next one.

    One HTTP/2 connection carries a limited number of RPCs at once (often 100) and one core's worth of
    bytes. The channels must not share a connection: give each a channel argument of its own.

    Args:
        channels: Two or more. They are closed with the pool.
    """

    def __init__(self, channels: Sequence[grpc.aio.Channel]) -> None:
        self._channels = tuple(channels)

    def _in_turn(self, multi_callables: Iterator[MultiCallable]) -> MultiCallable:
        turns = itertools.cycle(tuple(multi_callables))

        def call_next(*args: Any, **kwargs: Any) -> Any:
            return next(turns)(*args, **kwargs)

        return call_next  # type: ignore[return-value]  # it takes and returns what each of them does

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.unary_unary`."""
        return self._in_turn(channel.unary_unary(*args, **kwargs) for channel in self._channels)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.unary_stream`."""
        return self._in_turn(channel.unary_stream(*args, **kwargs) for channel in self._channels)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.stream_unary`."""
        return self._in_turn(channel.stream_unary(*args, **kwargs) for channel in self._channels)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel.stream_stream`."""
        return self._in_turn(channel.stream_stream(*args, **kwargs) for channel in self._channels)

    async def channel_ready(self) -> None:
        """Wait until every channel is ready."""
        await asyncio.gather(*(channel.channel_ready() for channel in self._channels))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the readiest channel, having asked all."""
        states = [channel.get_state(try_to_connect) for channel in self._channels]
        return min(states, key=_READIEST_FIRST.index)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when `get_state()` is another than `last_observed_state`."""
        while self.get_state() is last_observed_state:
            changes = [
                asyncio.ensure_future(channel.wait_for_state_change(channel.get_state()))
                for channel in self._channels
            ]
            try:
                changed, _ = await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
                for change in changed:
                    change.result()  # a closed channel raises here
            finally:
                for change in changes:
                    change.cancel()
                await asyncio.gather(*changes, return_exceptions=True)

    async def close(self, grace: float | None = None) -> None:
        """Close all channels at the same time."""
        await close_all(self._channels, grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


async def close_all(channels: Iterable[grpc.aio.Channel], grace: float | None) -> None:
    """Close channels at the same time; without a grace one by one, which no cancelling can cut short."""
    if grace:
        await asyncio.gather(*(channel.close(grace) for channel in channels))
        return
    for channel in channels:
        await channel.close()  # that of grpc.aio does not wait


_READIEST_FIRST = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.CONNECTING,
    grpc.ChannelConnectivity.IDLE,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)
