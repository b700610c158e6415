"""Opening a channel, from its token cache, certificates and connections, and waiting until it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import grpc
import grpc.aio

from aio_authgrpc._calls.channel import AuthorizedChannel
from aio_authgrpc._calls.telemetry import ChannelTelemetry
from aio_authgrpc._channels.connection_hints import connection_hint
from aio_authgrpc._channels.interceptors import OuterInterceptors
from aio_authgrpc._channels.rotating import RotatingChannel
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._client.arguments import ChannelSettings
from aio_authgrpc._loop.ownership import running_loop
from aio_authgrpc._tls.credentials import SslCredentials, tls_source
from aio_authgrpc._tls.settings import TlsSettings
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc._tokens.events import EventCallback, TokenEvent
from aio_authgrpc._tokens.shared import lease_cache
from aio_authgrpc._tokens.source import TokenSource
from aio_authgrpc.errors import ConfigurationError, ConnectionNotReadyError, TokenDeadlineExceededError

# It gives every channel of grpc.aio an interceptor that makes spans of the RPCs.
_INSTRUMENTATION = "opentelemetry.instrumentation.grpc"
# The answer is there already.
_ANSWER_TIMEOUT = 1.0


async def open_channel(
    settings: ChannelSettings,
    source: TokenSource | None = None,
    outer_interceptors: OuterInterceptors | None = None,
) -> AuthorizedChannel:
    """Read the files that it needs, off the loop, and make the channel. No RPC is made.

    Cancelling it closes what it had opened. `source` and `outer_interceptors` replace those of the settings.
    """
    running_loop()  # first: what follows would say less
    lease = await lease_cache(
        settings.source if source is None else source,
        audience=settings.audience,
        request=settings.request,
        keep_warm=settings.keep_warm,
        clock=settings.clock,
    )
    stop_events = None
    if settings.on_event is not None:
        listener = partial(_tell_with_target, settings.on_event, settings.target.address)
        stop_events = lease.cache.subscribe(listener)

    async def close() -> None:
        if stop_events is not None:
            stop_events()
        await lease.give_back()

    async with AsyncExitStack() as opened:
        opened.push_async_callback(close)
        below = await _channel_below(settings)
        opened.push_async_callback(below.close)
        if settings.service_config is not None:
            await _check_service_config(below)
        channel = AuthorizedChannel(
            below,
            lease.cache,
            header=settings.header,
            metadata=settings.metadata,
            audience=settings.audience,
            close_auth=close,
            in_the_clear=settings.target.address if settings.warns_of_identities else "",
            max_identities=settings.max_identities,
            plaintext=settings.plaintext,
            replay=settings.replay,
            outer_interceptors=(
                OuterInterceptors(settings.outer_interceptors)
                if outer_interceptors is None
                else outer_interceptors
            ),
            telemetry=_telemetry(settings, lease.cache, below),
        )
        opened.pop_all()  # the channel closes them
    return channel


def _tell_with_target(listener: EventCallback, target: str, event: TokenEvent) -> None:
    listener(event.replace(target=target))


async def _check_service_config(below: grpc.aio.Channel) -> None:
    """Refuse a service config that gRPC does not take, such as one with an unknown load balancer.

    Such a channel has failed from the start, and says why to RPCs alone.
    """
    if below.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
        return
    untyped: Any = below
    try:
        await untyped.unary_unary("/aio_authgrpc.ServiceConfig/Failure")(b"", timeout=_ANSWER_TIMEOUT)
    except grpc.aio.AioRpcError as error:
        _, found, reason = (error.details() or "").partition("service config: ")
        if found:
            hint = "gRPC's documentation has the fields: doc/service_config.md in grpc/grpc."
            raise ConfigurationError(redacted(reason), field="service_config", hint=hint) from None


def _telemetry(
    settings: ChannelSettings, auth: TokenCache, below: grpc.aio.Channel
) -> ChannelTelemetry | None:
    if settings.telemetry is None:
        return None
    interceptors: list[object] = getattr(below, "_unary_unary_interceptors", [])
    traced = any(type(one).__module__.startswith(_INSTRUMENTATION) for one in interceptors)
    return settings.telemetry.channel(settings.target.address, auth, traced=traced)


async def _channel_below(settings: ChannelSettings) -> grpc.aio.Channel:
    """Make the channel that carries the RPCs, replaced when its certificates have changed."""
    given = settings.ssl_credentials
    if settings.plaintext:
        return _connection(settings, None)
    if isinstance(given, grpc.ChannelCredentials):
        return _connection(settings, given)
    source = tls_source(SslCredentials() if given is None else given)
    tls = await source.on_opening()

    def make(tls: TlsSettings) -> grpc.aio.Channel:
        return _connection(settings, tls.channel_credentials())

    interval = source.refresh_interval
    if interval is None:
        return make(tls)
    return RotatingChannel(make, tls, source.read, interval=interval, clock=settings.clock)


def _connection(settings: ChannelSettings, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    # Through the module at run time, and by keyword: instrumentations replace these functions and add
    # keywords of their own.
    make: Callable[..., grpc.aio.Channel] = grpc.aio.insecure_channel
    if credentials is not None:
        make = partial(grpc.aio.secure_channel, credentials=credentials)
    return make(
        target=settings.target.address,
        options=settings.options,
        compression=settings.compression,
        interceptors=settings.interceptors or None,
    )


async def make_ready(channel: AuthorizedChannel, settings: ChannelSettings, timeout: float) -> None:
    """Fetch the token and connect at the same time, in `timeout` seconds; the error says what is missing."""
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
                f"No access token came within {timeout:g} s; {settings.target.address} {reached}.",
                hint="The token endpoint is slow, or cannot be reached from here.",
            )
        if not connected.done():
            raise await _not_ready(channel, settings, timeout)
        connected.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _not_ready(
    channel: AuthorizedChannel, settings: ChannelSettings, timeout: float
) -> ConnectionNotReadyError:
    text = f"{settings.target.address} was not reached within {timeout:g} s; the token was fetched."
    failure = await channel.connection_failure()
    reason = redacted((failure.details() or "") if failure is not None else "")
    hint = connection_hint(reason, plaintext=settings.plaintext)
    if not hint:
        certificate = "" if settings.plaintext else ", and its certificate"
        hint = f"Check that the server runs, and its address{certificate}."
    error = ConnectionNotReadyError(text + (f" gRPC says: {reason}" if reason else ""), hint=hint)
    error.__cause__ = failure
    return error
