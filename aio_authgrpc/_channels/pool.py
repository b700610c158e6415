"""Several connections to one target, used in turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
import grpc.aio

from aio_authgrpc._channels.layer import ChannelLayer, first_change


class ChannelPool(ChannelLayer):
    """A `grpc.aio.Channel` over several, each RPC on the next one.

    One HTTP/2 connection carries a limited number of RPCs at once (often 100) and one core's worth of
    bytes. Plaintext channels with equal arguments share a connection, unless each has
    `grpc.use_local_subchannel_pool`.

    Args:
        channels: Two or more. They are closed with the pool.
    """

    def __init__(self, channels: Sequence[grpc.aio.Channel]) -> None:
        super().__init__(channels[0])
        self._channels = tuple(channels)
        # One turn for all stubs: a stub that is made for each request would begin with the first connection.
        self._turns = itertools.cycle(range(len(channels)))

    def _multi_callable(self, arity: str, path: str, make: Callable[[grpc.aio.Channel], Any]) -> Any:
        methods, turns = [make(channel) for channel in self._channels], self._turns

        def call_next(*args: Any, **kwargs: Any) -> Any:
            return methods[next(turns)](*args, **kwargs)

        return call_next

    async def channel_ready(self) -> None:
        """Wait until every channel is ready."""
        await asyncio.gather(*(channel.channel_ready() for channel in self._channels))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the readiest channel; all are asked."""
        states = [channel.get_state(try_to_connect) for channel in self._channels]
        return min(states, key=_READIEST_FIRST.index)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until `get_state()` differs from `last_observed_state`."""
        while self.get_state() is last_observed_state:
            await first_change(
                *(channel.wait_for_state_change(channel.get_state()) for channel in self._channels)
            )

    async def close(self, grace: float | None = None) -> None:
        """Close all channels at the same time."""
        await close_all(self._channels, grace)


async def close_all(channels: Iterable[grpc.aio.Channel], grace: float | None) -> None:
    """Close channels, with a grace all at the same time.

    Without one they are closed in turn: `close()` of grpc.aio does not wait then, so that a cancelled
    caller leaves none of them open.
    """
    if grace:
        await asyncio.gather(*(channel.close(grace) for channel in channels))
        return
    for channel in channels:
        await channel.close()


_READIEST_FIRST = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.CONNECTING,
    grpc.ChannelConnectivity.IDLE,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)
