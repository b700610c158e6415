"""A view of a channel whose calls carry another identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc.aio

from aio_authgrpc._calls.identity import Identity
from aio_authgrpc._channels.interceptors import Intercepted, OuterInterceptors
from aio_authgrpc._channels.layer import ChannelLayer


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

    def _multi_callable(
        self, arity: str, path: str, make: Callable[[grpc.aio.Channel], Any]
    ) -> Callable[..., Any]:
        # Made at the first call: a stub for one request asks for all methods, and calls one.
        multi_callable: Any = None

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal multi_callable
            if multi_callable is None:
                multi_callable = make(self._channel)
            with self._identity:
                return multi_callable(*args, **kwargs)

        return call

    async def close(self, grace: float | None = None) -> None:
        """Do nothing: the channel belongs to its opener."""

    def __repr__(self) -> str:
        return f"<IdentityChannel with {self._identity!r}>"
