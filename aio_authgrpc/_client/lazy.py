"""A channel that opens itself at its first RPC: for stubs at module level, and for factories."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Unpack
from weakref import WeakKeyDictionary, WeakSet

import grpc

from aio_authgrpc._calls.channel import AuthorizedChannel
from aio_authgrpc._calls.identity_channel import WithIdentity
from aio_authgrpc._channels.interceptors import (
    OuterInterceptors,
)
from aio_authgrpc._channels.layer import ArityChannel, by_name, of_arity
from aio_authgrpc._checks.arguments import check_seconds
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._client.arguments import ChannelSettings, ConnectArguments, check_keywords
from aio_authgrpc._client.loop_channel import LoopChannel, Make
from aio_authgrpc._client.opening import make_ready, open_channel
from aio_authgrpc._client.service_config_names import check_methods
from aio_authgrpc._loop.ownership import running_loop
from aio_authgrpc._tokens.across_loops import TokensAcrossLoops
from aio_authgrpc.errors import (
    ConfigurationError,
)


class LazyChannel(WithIdentity, ArityChannel, NotPickled):
    """A `grpc.aio.Channel` that opens at its first RPC, once for each event loop and process.

    It needs no event loop to be made, so that a stub may stand at module level:

        bookstore = BookstoreStub(LazyChannel("bookstore-xyz.a.run.app", credentials=id_token()))

    Each event loop that uses it gets a connection of its own, closed when that loop ends (`asyncio.run`, and
    any other caller of `loop.shutdown_asyncgens()`). All loops of the process share the token.

    The first RPC of a loop waits for the opening, within its `timeout`. An opening that fails raises
    `ChannelNotOpenedError` from the RPCs that waited; the next RPC tries again.

    Args:
        target: See `connect`.
        **arguments: The keyword arguments of `connect`, but for `ready_timeout` and `request`, which concern
            one event loop.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    @hiding_arguments
    def __init__(self, target: str, **arguments: Unpack[ConnectArguments]) -> None:
        check_keywords("LazyChannel", arguments, ConnectArguments)
        for name in ("request", "ready_timeout"):
            if arguments.get(name) is not None:
                raise ConfigurationError(
                    "it belongs to one event loop, and a lazy channel serves several.",
                    field=name,
                    hint="Leave it out, or open the connection with connect().",
                )
        self._settings = ChannelSettings(target, **arguments)
        self._source = TokensAcrossLoops(self._settings.source)
        self.outer_interceptors = OuterInterceptors(self._settings.outer_interceptors)
        self._lock = threading.Lock()
        self._on_loops: list[LoopChannel] = []
        self._last: LoopChannel | None = None
        _all.add(self)

    def _multi_callable(self, arity: str, path: str, make: Make) -> Any:
        if self._settings.service_config is not None:
            check_methods(self._settings.service_config, path.removeprefix("/").rpartition("/")[0])
        return of_arity(_LazyMethod, arity)(self._on_this_loop, arity, make)

    def _on_this_loop(self) -> LoopChannel:
        loop = running_loop()
        last = self._last
        if last is not None and last.loop is loop:
            return last
        with self._lock:
            self._on_loops = [known for known in self._on_loops if not known.loop.is_closed()]
            for known in self._on_loops:
                if known.loop is loop:
                    break
            else:
                opening = partial(open_channel, self._settings, self._source, self.outer_interceptors)
                known = LoopChannel(loop, opening, self._settings.grace)
                self._on_loops.append(known)
            self._last = known
            return known

    def _forget_loops(self) -> None:
        self._lock = threading.Lock()  # a thread of the parent may have held it
        self._on_loops, self._last = [], None
        self._source.reset_after_fork()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel.get_state`; IDLE until the channel is open on this loop."""
        on_loop = self._on_this_loop()
        if on_loop.channel is not None:
            return on_loop.channel.get_state(try_to_connect)
        if try_to_connect:
            on_loop.start()
        return grpc.ChannelConnectivity.IDLE

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel.wait_for_state_change`; opens the channel."""
        channel = await self._on_this_loop().opened(None)
        await channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See `grpc.aio.Channel.channel_ready`; opens the channel."""
        channel = await self._on_this_loop().opened(None)
        await channel.channel_ready()

    async def check(self, timeout: float) -> None:
        """Raise unless the channel has a token and is connected within `timeout` seconds; opens it.

        Raises:
            AuthRpcError: What is missing, and why.
        """
        check_seconds("timeout", timeout)
        started = monotonic()
        channel = await self._on_this_loop().opened(timeout)
        remaining = max(0.0, timeout - (monotonic() - started))
        await make_ready(channel, self._settings, remaining)

    async def close(self, grace: float | None = None) -> None:
        """Close what is open on this loop; see `AuthorizedChannel.close`. The next RPC opens it anew."""
        on_loop = self._on_this_loop()
        with self._lock:
            self._on_loops.remove(on_loop)
            self._on_loops = [known for known in self._on_loops if not known.loop.is_closed()]
            self._last = None
        try:
            await on_loop.close(grace)
        finally:
            if not self._on_loops:
                self._source.forget()

    def __repr__(self) -> str:
        return f"<LazyChannel to {self._settings.target.address}>"


class _LazyMethod:
    """One RPC method, of the channel of the loop that calls it."""

    def __init__(self, on_this_loop: Callable[[], LoopChannel], arity: str, make: Make) -> None:
        self._on_this_loop = on_this_loop
        self._arity = arity
        self._make = make
        # Kept with the stub, not with the channel: a service may make a stub for each of its requests.
        self._made: WeakKeyDictionary[AuthorizedChannel, Any] = WeakKeyDictionary()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        on_loop = self._on_this_loop()
        if on_loop.channel is not None:
            return self._of(on_loop.channel)(*args, **kwargs)
        return on_loop.begin(self._arity, self._make, self._of, **by_name(args, kwargs))

    def _of(self, channel: AuthorizedChannel) -> Any:
        if channel not in self._made:
            self._made[channel] = self._make(channel)
        return self._made[channel]


_all: WeakSet[LazyChannel] = WeakSet()


def _in_child() -> None:
    for channel in tuple(_all):
        channel._forget_loops()  # pyright: ignore[reportPrivateUsage]  # the child has no connection of the parent's


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
