"""A view of a channel whose calls carry another identity."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc.aio

from aio_authgrpc._calls.identity import Identity
from aio_authgrpc._channels.interceptors import Intercepted, OuterInterceptors
from aio_authgrpc._channels.layer import ChannelLayer, of_each_arity


class IdentityChannel(Intercepted, ChannelLayer):
    """What `AuthorizedChannel.with_identity()` returns: the same channel, its calls made inside `identity()`.

    Closing it does nothing: the channel stays open.
    """

    def __init__(
        self, channel: grpc.aio.Channel, identity: Identity, outer_interceptors: OuterInterceptors
    ) -> None:
        super().__init__(channel)
        self._identity = identity
        self.outer_interceptors = outer_interceptors

    def _multi_callable(self, arity: str, path: str, make: Callable[[grpc.aio.Channel], Any]) -> Any:
        return _METHODS[arity](partial(make, self._channel), self._identity)

    async def close(self, grace: float | None = None) -> None:
        """Do nothing: the channel belongs to its opener."""

    def __repr__(self) -> str:
        return f"<IdentityChannel with {self._identity!r}>"


class _IdentityMethod:
    """One RPC method, called with another identity."""

    def __init__(self, make: Callable[[], Any], identity: Identity) -> None:
        self._make = make
        self._identity = identity
        # Made at the first call: a stub for one request asks for all methods, and calls one.
        self._method: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._method is None:
            self._method = self._make()
        with self._identity:
            return self._method(*args, **kwargs)


_METHODS = of_each_arity(_IdentityMethod)
