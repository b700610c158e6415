"""Mistakes with a channel, a stub's method or a call: each error says what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc.errors import ConfigurationError


def check_channel(channel: object) -> None:
    """Refuse what is no channel of grpc.aio; one of another maker has its methods."""
    is_synchronous = isinstance(channel, grpc.Channel)
    if is_synchronous or isinstance(channel, type) or not hasattr(channel, "unary_unary"):
        kind = "a synchronous channel" if is_synchronous else type(channel).__name__
        raise ConfigurationError(
            f"expected a grpc.aio.Channel, not {kind}.",
            field="channel",
            hint="Make it with grpc.aio.secure_channel(...), or let connect(...) make it.",
        )


def check_cache(auth: object) -> None:
    """Refuse what is no token cache, such as a source."""
    if not isinstance(auth, TokenCache):
        raise ConfigurationError(
            f"expected a TokenCache, not {type(auth).__name__}.",
            field="auth",
            hint="Write 'async with TokenCache(source) as cache', or let connect(...) make it.",
        )


class NotSynchronous:
    """A stub's method without those that synchronous stubs have."""

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers report the mistake by themselves

        def future(self, *_: Any, **__: Any) -> NoReturn:
            raise _of_synchronous_stubs("future", "'call = stub.Method(request)', then 'await call'")

        def with_call(self, *_: Any, **__: Any) -> NoReturn:
            example = "'call = stub.Method(request)', then 'await call' and 'await call.trailing_metadata()'"
            raise _of_synchronous_stubs("with_call", example)


class NotIterable:
    """A call whose responses `for` would not wait for."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __iter__(self) -> NoReturn:
            raise TypeError("The responses come asynchronously: write 'async for response in call'.")


def _of_synchronous_stubs(name: str, instead: str) -> ConfigurationError:
    return ConfigurationError(
        "only the methods of synchronous stubs have it.", field=name, hint=f"Write {instead}."
    )
