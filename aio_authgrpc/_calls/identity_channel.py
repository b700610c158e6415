"""A view of a channel whose calls carry another identity."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc.aio

from aio_authgrpc._calls.identity import Identity, identity
from aio_authgrpc._channels.interceptors import (
    Engine,
    EngineMethod,
    Intercepted,
    InterceptedMethod,
    OuterInterceptors,
)
from aio_authgrpc._channels.layer import ChannelLayer, by_name, of_arity
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._sources.credentials import CredentialsType


class IdentityChannel(Intercepted, ChannelLayer):
    """What `AuthorizedChannel.with_identity()` returns: the same channel, its calls made inside `identity()`.

    Closing it leaves the channel open.
    """

    def __init__(self, channel: grpc.aio.Channel, identity: Identity) -> None:
        super().__init__(channel)
        self._identity = identity
        # The view's own, around the channel's: a client for one user appends to it.
        self.outer_interceptors = OuterInterceptors()
        self._engine = Engine()

    def _multi_callable(self, arity: str, path: str, make: Callable[[grpc.aio.Channel], Any]) -> Any:
        below = of_arity(_IdentityMethod, arity)(partial(make, self._channel), self._identity)
        interceptors = self.outer_interceptors.of(arity)
        asked = EngineMethod(arity, make)
        return of_arity(_IdentityMethod, arity)(
            lambda: below,
            self._identity,
            InterceptedMethod(self._engine, interceptors, path, asked),
        )

    async def close(self, grace: float | None = None) -> None:
        """Leave the channel open: it belongs to its opener. Calls with an interceptor of the view end."""
        await self._engine.close()

    def __repr__(self) -> str:
        return f"<IdentityChannel with {self._identity!r}>"


class _IdentityMethod:
    """One RPC method, called with another identity."""

    def __init__(
        self, make: Callable[[], Any], identity: Identity, intercepted: InterceptedMethod | None = None
    ) -> None:
        self._make = make
        self._identity = identity
        self._intercepted = intercepted
        # Made at the first call: a stub for one request asks for all methods, and calls one.
        self._method: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._intercepted is not None and self._intercepted.interceptors:
            arguments = by_name(args, kwargs)
            return self._intercepted.begin(self._make, arguments.pop("request", None), **arguments)
        if self._method is None:
            self._method = self._make()
        with self._identity:
            return self._method(*args, **kwargs)


class WithIdentity(Intercepted, grpc.aio.Channel):
    """A channel whose stubs can carry another identity."""

    @hiding_arguments
    def with_identity(self, credentials: CredentialsType, *, header: str | None = None) -> IdentityChannel:
        """Return a view of this channel whose calls carry another identity, as inside of `identity()`.

        The identity goes with the stub instead of the context: into background tasks, executors that call
        back, and generators that outlive a block.

            `mine = BookstoreStub(channel.with_identity(static_token(callers_token)))`

        Args:
            credentials: See `identity`.
            header: See `identity`.

        Raises:
            ConfigurationError: The credentials or the header cannot be used.
        """
        return IdentityChannel(self, identity(credentials, header=header))
