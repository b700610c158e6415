"""A channel over another one: the forwarding of the four arities, of the state and of `close()`."""

from __future__ import annotations

import asyncio
import functools
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from operator import methodcaller
from types import new_class
from typing import Any, Self, TypeVar, cast

import grpc
import grpc.aio

Method = TypeVar("Method", bound=Callable[..., Any])


def _layered(method: Method) -> Method:
    """Return a method for `ArityChannel` with name, docstring and signature of this one of grpc's."""
    arity: str = method.__name__

    # Any arguments: generated stubs pass one that the type stubs lack, and versions of gRPC differ.
    def make_multi_callable(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._multi_callable(arity, method, methodcaller(arity, method, *args, **kwargs))

    # Without the method's attributes, one of which says that it is abstract.
    return cast("Method", functools.wraps(method, updated=())(make_multi_callable))


# What grpc.aio's multi-callables take by position: one request is alone, many requests may be followed.
_POSITIONAL = ("request", "timeout", "metadata", "credentials", "wait_for_ready", "compression")


def by_name(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a multi-callable by name; many requests are called `request`, too."""
    named = {**dict(zip(_POSITIONAL, args, strict=False)), **kwargs}
    if "request_iterator" in named:
        named["request"] = named.pop("request_iterator")
    return named


_MULTI_CALLABLES: dict[str, type] = {
    "unary_unary": grpc.aio.UnaryUnaryMultiCallable,
    "unary_stream": grpc.aio.UnaryStreamMultiCallable,
    "stream_unary": grpc.aio.StreamUnaryMultiCallable,
    "stream_stream": grpc.aio.StreamStreamMultiCallable,
}


@functools.cache
def of_arity(method: type, arity: str) -> Callable[..., Any]:
    """Return the class of `method` and of grpc.aio's multi-callable for an arity, made at its first use.

    Libraries tell the arities apart by grpc.aio's class: google-api-core takes anything else for unary.
    """
    return new_class(method.__name__, (method, _MULTI_CALLABLES[arity]))


class ArityChannel(grpc.aio.Channel):
    """A `grpc.aio.Channel` whose four arities are one method."""

    @abstractmethod
    def _multi_callable(self, arity: str, path: str, make: Callable[[grpc.aio.Channel], Any]) -> Any:
        """Return the object that a stub calls for one RPC method.

        Args:
            arity: The channel's method that was asked, such as `"unary_unary"`.
            path: The RPC method's, `/package.Service/Method`.
            make: Asks the same of a channel below.
        """

    unary_unary = _layered(grpc.aio.Channel.unary_unary)
    unary_stream = _layered(grpc.aio.Channel.unary_stream)
    stream_unary = _layered(grpc.aio.Channel.stream_unary)
    stream_stream = _layered(grpc.aio.Channel.stream_stream)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class ChannelLayer(ArityChannel):
    """A `grpc.aio.Channel` over another one, to which everything goes that a subclass does not change.

    Args:
        channel: The channel below. It is closed with this one.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel.get_state`."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel.wait_for_state_change`."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See `grpc.aio.Channel.channel_ready`."""
        await self._channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """See `grpc.aio.Channel.close`."""
        await self._channel.close(grace)


async def first_change(*waits: Awaitable[Any]) -> None:
    """Wait for the first of them, and end the others; what it raises, as a closed channel does, is raised."""
    changes = [asyncio.ensure_future(wait) for wait in waits]
    try:
        changed, _ = await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
        for change in changed:
            change.result()
    finally:
        for change in changes:
            change.cancel()
        await asyncio.gather(*changes, return_exceptions=True)
