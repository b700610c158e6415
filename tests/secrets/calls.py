"""RPCs that fail, on a channel whose token, cookie and identities are secrets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from aio_authgrpc import AuthMetadataPlugin, AuthorizedChannel, Token, TokenSource, identity, static_token
from aio_authgrpc.testing import EchoStub
from aio_authgrpc.tokens import TokenCache
from tests.support.arity import ARITIES, Arity

from .lab import Lab
from .planted import PLANTED
from .sources import UsersClass, users_source

Stage = Callable[[Lab], Awaitable[object]]
Use = Callable[[Lab, AuthorizedChannel, Arity], Awaitable[object]]
OF_CALL = PLANTED["metadata of a call"]


def secret_token(key: str = "x-any") -> TokenSource:
    """Return a source whose token brings more metadata."""
    return static_token(Token(PLANTED["static token"], metadata=((key, PLANTED["metadata of a token"]),)))


async def call(channel: grpc.aio.Channel, arity: Arity, **arguments: Any) -> object:
    return await arity.finish(arity.begin(EchoStub(channel), **arguments))


async def closed(_: Lab, channel: AuthorizedChannel, arity: Arity) -> object:
    await channel.close()
    return await call(channel, arity)


async def closed_below(lab: Lab, channel: AuthorizedChannel, arity: Arity) -> object:
    """Close the real channel behind the back of the one with the token."""
    inner = grpc.aio.secure_channel(lab.echo_server.target, lab.echo_server.ssl_credentials)
    over = AuthorizedChannel(inner, channel.auth, metadata={"cookie": PLANTED["cookie"]})
    await inner.close()
    async with over:
        return await call(over, arity)


async def unfit_metadata(_: Lab, channel: AuthorizedChannel, arity: Arity) -> object:
    """Pass metadata that gRPC refuses."""
    return await call(channel, arity, metadata=(("x-of-call", OF_CALL), ("x-other", 1)))


async def second_credentials(_: Lab, channel: AuthorizedChannel, arity: Arity) -> object:
    return await call(channel, arity, credentials=grpc.access_token_call_credentials(OF_CALL))


async def unfit_token(lab: Lab, channel: AuthorizedChannel, arity: Arity) -> object:
    """Use a token whose own metadata has the channel's header."""
    inner = grpc.aio.secure_channel(lab.echo_server.target, lab.echo_server.ssl_credentials)
    async with TokenCache(secret_token("authorization")) as cache, AuthorizedChannel(inner, cache) as other:
        return await call(other, arity)


async def refused(lab: Lab, channel: AuthorizedChannel, arity: Arity) -> object:
    """Let the server repeat the token in its challenge."""
    challenge = f'Bearer error="invalid_token", error_description="{PLANTED["static token"]} is bad"'
    trailing = (("www-authenticate", challenge),)
    lab.echo_server.refuse(grpc.StatusCode.UNAUTHENTICATED, "no", trailing=trailing)
    return await call(channel, arity)


async def refused_identity(lab: Lab, channel: AuthorizedChannel, arity: Arity) -> object:
    lab.echo_server.refuse(grpc.StatusCode.UNAUTHENTICATED, "no", times=2)
    with identity(static_token(PLANTED["token of an identity"])):
        return await call(channel, arity)


async def refused_plugin(lab: Lab, _: AuthorizedChannel, arity: Arity) -> object:
    lab.echo_server.refuse(grpc.StatusCode.UNAUTHENTICATED, "no")
    async with AuthMetadataPlugin(static_token(PLANTED["token of a plugin"])) as plugin:
        credentials = grpc.composite_channel_credentials(
            lab.echo_server.ssl_credentials, grpc.metadata_call_credentials(plugin)
        )
        async with grpc.aio.secure_channel(lab.echo_server.target, credentials) as channel:
            return await call(channel, arity)


async def failing_identity(lab: Lab, channel: AuthorizedChannel, arity: Arity) -> object:
    lab.repeater.fault = "refusal"
    with identity(UsersClass(f"{lab.repeater.url}/token")):
        return await call(channel, arity)


async def failing_function(_: Lab, channel: AuthorizedChannel, arity: Arity) -> object:
    with identity(users_source()):
        return await call(channel, arity)


async def failing_plugin(lab: Lab, _: AuthorizedChannel, arity: Arity) -> object:
    """Use call credentials of a source that fails, and look at the error that they keep."""
    lab.repeater.fault = "refusal"
    async with AuthMetadataPlugin(UsersClass(f"{lab.repeater.url}/token")) as plugin:
        credentials = grpc.composite_channel_credentials(
            lab.echo_server.ssl_credentials, grpc.metadata_call_credentials(plugin)
        )
        async with grpc.aio.secure_channel(lab.echo_server.target, credentials) as channel:
            try:
                return await call(channel, arity)
            except grpc.aio.AioRpcError:
                lab.errors.append(plugin.last_error)
                raise


USES: tuple[Use, ...] = (
    *(closed, closed_below, unfit_metadata, second_credentials),
    *(
        unfit_token,
        refused,
        refused_identity,
        refused_plugin,
        failing_identity,
        failing_function,
        failing_plugin,
    ),
)


def on_channel(use: Use, arity: Arity) -> Stage:
    async def stage(lab: Lab) -> object:
        inner = grpc.aio.secure_channel(lab.echo_server.target, lab.echo_server.ssl_credentials)
        async with TokenCache(secret_token(), request=lab.http, attempts=1) as cache:
            cache.subscribe(lab.events.append)
            await cache.get()
            async with AuthorizedChannel(inner, cache, metadata={"cookie": PLANTED["cookie"]}) as channel:
                return await use(lab, channel, arity)

    return stage


CALLS: dict[str, dict[str, Stage]] = {
    use.__name__: {arity.method: on_channel(use, arity) for arity in ARITIES} for use in USES
}
