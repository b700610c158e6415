"""Opening a channel, from its token cache, certificates and connections, and waiting until it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio

from aio_authgrpc._calls.channel import AuthorizedChannel
from aio_authgrpc._channels.connection_hints import connection_hint
from aio_authgrpc._channels.pool import ChannelPool
from aio_authgrpc._channels.rotating import RotatingChannel
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._client.arguments import ChannelSettings, Options
from aio_authgrpc._tls.credentials import SslCredentials, tls_source
from aio_authgrpc._tls.settings import TlsSettings
from aio_authgrpc._tokens.shared import lease_cache
from aio_authgrpc.errors import ConnectionNotReadyError, TokenDeadlineExceededError


async def open_channel(settings: ChannelSettings) -> AuthorizedChannel:
    """Read the files that it needs, off the loop, and make the channel. No RPC is made.

    Cancelling it closes what it had opened.
    """
    lease = await lease_cache(
        settings.source, audience=settings.audience, request=settings.request, keep_warm=settings.keep_warm
    )
    stop_events = None if settings.on_event is None else lease.cache.subscribe(settings.on_event)

    async def close() -> None:
        if stop_events is not None:
            stop_events()
        await lease.give_back()

    try:
        return AuthorizedChannel(
            await _channel_below(settings),
            lease.cache,
            header=settings.header,
            metadata=settings.metadata,
            audience=settings.audience,
            close_auth=close,
            in_the_clear=settings.target.address if settings.warns_of_identities else None,
            outer_interceptors=settings.outer_interceptors,
            replay=settings.replay,
        )
    except BaseException:
        await close()
        raise


async def _channel_below(settings: ChannelSettings) -> grpc.aio.Channel:
    """Make the channel that carries the RPCs, replaced when its certificates have changed."""
    given = settings.ssl_credentials
    if settings.plaintext:
        return _connections(settings, None)
    if isinstance(given, grpc.ChannelCredentials):
        return _connections(settings, given)
    source = tls_source(SslCredentials() if given is None else given)
    tls = await source.on_opening()

    def make(tls: TlsSettings) -> grpc.aio.Channel:
        return _connections(settings, tls.channel_credentials())

    interval = source.refresh_interval
    return make(tls) if interval is None else RotatingChannel(make, tls, source.read, interval=interval)


def _connections(settings: ChannelSettings, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if settings.pool_size == 1:
        return _connection(settings, credentials, settings.options)
    # Channels with equal arguments may share one connection.
    numbered = [(*settings.options, ("aio_authgrpc.connection", n)) for n in range(settings.pool_size)]
    return ChannelPool([_connection(settings, credentials, options) for options in numbered])


def _connection(
    settings: ChannelSettings, credentials: grpc.ChannelCredentials | None, options: Options
) -> grpc.aio.Channel:
    # Through the module at run time, and by keyword: instrumentations replace these functions and add
    # keywords of their own.
    make: Callable[..., grpc.aio.Channel] = grpc.aio.insecure_channel
    if credentials is not None:
        make = partial(grpc.aio.secure_channel, credentials=credentials)
    return make(
        target=settings.target.address,
        options=options,
        compression=settings.compression,
        interceptors=settings.interceptors or None,
    )


async def make_ready(channel: AuthorizedChannel, address: str, timeout: float) -> None:
    """Fetch the token and connect at the same time; the error says which of them did not come."""
    token = asyncio.create_task(channel.auth.get(), name="aio_authgrpc ready: token")
    connected = asyncio.create_task(channel.channel_ready(), name="aio_authgrpc ready: connection")
    tasks: set[asyncio.Task[Any]] = {token, connected}
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
        if token.done():
            token.result()
        reached = "was reached" if connected.done() else "was not reached either"
        if not token.done():
            raise TokenDeadlineExceededError(
                f"No access token came within ready_timeout={timeout:g} s; {address} {reached}.",
                hint="The token endpoint is slow, or cannot be reached from here.",
            )
        if not connected.done():
            raise await _not_ready(channel, address, timeout)
        connected.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _not_ready(channel: AuthorizedChannel, address: str, timeout: float) -> ConnectionNotReadyError:
    text = f"{address} was not reached within ready_timeout={timeout:g} s; the token was fetched."
    failure = await channel.connection_failure()
    reason = redacted((failure.details() or "") if failure is not None else "")
    hint = connection_hint(reason) or "Check that the server runs, its address and its certificate."
    error = ConnectionNotReadyError(text + (f" gRPC says: {reason}" if reason else ""), hint=hint)
    error.__cause__ = failure
    return error
