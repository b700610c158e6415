"""Two token caches over one login: the ways to get there, each with calls on both at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aio_authgrpc import AiohttpRequest, Connection, connect, id_token, identity
from aio_authgrpc.testing import EchoServer, EchoStub

# What takes a login, which is an object of google-auth's, to two caches on channels to the server.
Way: TypeAlias = Callable[[EchoServer, Any], Awaitable[None]]


def connection(server: EchoServer, credentials: Any, **arguments: Any) -> Connection[EchoStub]:
    """Return a connection to the echo server."""
    return connect(
        server.target, EchoStub, credentials=credentials, ssl_credentials=server.ssl_credentials, **arguments
    )


async def _on_both(server: EchoServer, login: Any, other: Any, **arguments: Any) -> None:
    async with connection(server, login) as one, connection(server, other, **arguments) as two:
        await asyncio.gather(one.UnaryUnary(b"x"), two.UnaryUnary(b"x"))


async def two_headers(server: EchoServer, login: Any) -> None:
    """One channel, and a mapping of two headers."""
    async with connection(server, {"authorization": login, "proxy-authorization": login}) as stub:
        await stub.UnaryUnary(b"x")


async def id_tokens(server: EchoServer, login: Any) -> None:
    """A channel with access tokens, and one with ID tokens."""
    await _on_both(server, login, id_token(credentials=login))


async def a_google_api(server: EchoServer, login: Any) -> None:
    """Two channels, one of them for an audience under googleapis.com."""
    await _on_both(server, login, login, audience="https://pubsub.googleapis.com")


async def keep_warm(server: EchoServer, login: Any) -> None:
    """Two channels, one of them with `keep_warm`."""
    await _on_both(server, login, login, keep_warm=True)


async def a_request(server: EchoServer, login: Any) -> None:
    """Two channels, one of them with a transport of its own."""
    async with AiohttpRequest() as request:
        await _on_both(server, login, login, request=request)


async def an_identity(server: EchoServer, login: Any) -> None:
    """A channel, and `identity()` on it."""
    async with connection(server, login) as stub:
        own = stub.UnaryUnary(b"x")
        with identity(login):
            await asyncio.gather(own, stub.UnaryUnary(b"x"))


WAYS = [two_headers, id_tokens, a_google_api, keep_warm, a_request, an_identity]
