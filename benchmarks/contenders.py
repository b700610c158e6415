"""The ways of sending a token that `overhead.py` compares, each on a channel of its own.

The token is the same, but for gcloud-aio-auth, which fetches one of the benchmarks' authority. What a
contender needs beyond the extra `cli` may be missing: it is left out then, and named.
"""

from __future__ import annotations

import importlib.util
import io
import json
import secrets
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import google.auth.transport.grpc
import google.auth.transport.requests
import google.oauth2.credentials
import grpc
import grpc.aio
from server_process import EchoStub

import aio_authgrpc

# As long as Google's access tokens for service accounts are.
TOKEN = "ya29.c." + secrets.token_urlsafe(670)
METADATA = (("authorization", f"Bearer {TOKEN}"),)


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of sending the token: its name and how its RPCs are called, with the request alone.

    Those without streams make unary calls only.
    """

    name: str
    echo: Callable[[bytes], Awaitable[bytes]]
    count: Callable[[bytes], AsyncIterable[bytes]] | None = None
    echo_all: Callable[[AsyncIterator[bytes]], AsyncIterable[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A server: its target, what a channel to it trusts (None: plaintext), and an account for its tokens."""

    target: str
    ssl_credentials: grpc.ChannelCredentials | None
    key_file: Mapping[str, str]

    def channel(self, interceptors: Sequence[grpc.aio.ClientInterceptor] = ()) -> grpc.aio.Channel:
        """Return a channel of grpc.aio."""
        if self.ssl_credentials is None:
            return grpc.aio.insecure_channel(self.target, interceptors=interceptors)
        return grpc.aio.secure_channel(self.target, self.ssl_credentials, interceptors=interceptors)


Opener = Callable[[AsyncExitStack, Place], Awaitable[Contender]]


class _AddToUnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details._replace(metadata=METADATA), request)


class _AddToUnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details._replace(metadata=METADATA), request)


class _AddToStreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await continuation(client_call_details._replace(metadata=METADATA), request_iterator)


async def _plain(stack: AsyncExitStack, place: Place) -> Contender:
    return await _by_hand("plain", stack, place)


async def _plain_again(stack: AsyncExitStack, place: Place) -> Contender:
    return await _by_hand("plain again", stack, place)


async def _by_hand(name: str, stack: AsyncExitStack, place: Place) -> Contender:
    stub = EchoStub(await stack.enter_async_context(place.channel()))
    echo, count, echo_all = (
        partial(method, metadata=METADATA) for method in (stub.echo, stub.count, stub.echo_all)
    )
    return Contender(name, echo, count, echo_all)  # type: ignore[arg-type]  # partial forgets what it returns


async def _aio_authgrpc(stack: AsyncExitStack, place: Place) -> Contender:
    token = aio_authgrpc.static_token(aio_authgrpc.Token(TOKEN, expires_at=time.time() + 3600))
    if place.ssl_credentials is None:
        opening = aio_authgrpc.insecure_authorized_channel(token, place.target)
    else:
        opening = aio_authgrpc.secure_authorized_channel(token, None, place.target, place.ssl_credentials)
    return _of_channel("aio_authgrpc", await stack.enter_async_context(opening))


async def _telemetry(stack: AsyncExitStack, place: Place) -> Contender:
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - may be missing
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415 - see above
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - see above

    from aio_authgrpc.otel import OpenTelemetry  # noqa: PLC0415 - see above

    connection = aio_authgrpc.connect(
        place.target,
        credentials=aio_authgrpc.static_token(TOKEN),
        ssl_credentials=place.ssl_credentials,
        plaintext=place.ssl_credentials is None,
        telemetry=OpenTelemetry(TracerProvider(), MeterProvider([InMemoryMetricReader()])),
    )
    return _of_channel("telemetry", await stack.enter_async_context(connection))


async def _interceptor(stack: AsyncExitStack, place: Place) -> Contender:
    channel = place.channel((_AddToUnaryUnary(), _AddToUnaryStream(), _AddToStreamStream()))
    return _of_channel("interceptor", await stack.enter_async_context(channel))


async def _google_auth(stack: AsyncExitStack, place: Place) -> Contender:
    plugin = google.auth.transport.grpc.AuthMetadataPlugin(
        google.oauth2.credentials.Credentials(token=TOKEN), google.auth.transport.requests.Request()
    )
    # Call credentials need a connection that counts as safe; plaintext on this machine may be declared so.
    below = place.ssl_credentials or grpc.local_channel_credentials()
    credentials = grpc.composite_channel_credentials(below, grpc.metadata_call_credentials(plugin))
    channel = grpc.aio.secure_channel(place.target, credentials)
    return _of_channel("google-auth", await stack.enter_async_context(channel))


async def _gcloud_aio_auth(stack: AsyncExitStack, place: Place) -> Contender:
    import aiohttp  # noqa: PLC0415 - beside what may be missing
    from gcloud.aio.auth import Token  # noqa: PLC0415 - may be missing

    token: Any = Token(
        service_file=io.StringIO(json.dumps(dict(place.key_file))),
        session=await stack.enter_async_context(aiohttp.ClientSession()),
        scopes=["https://www.googleapis.com/auth/cloud-platform"],
    )
    stack.push_async_callback(token.close)
    stub = EchoStub(await stack.enter_async_context(place.channel()))

    async def echo(request: bytes) -> bytes:
        return await stub.echo(request, metadata=(("authorization", f"Bearer {await token.get()}"),))

    return Contender("gcloud-aio-auth", echo)


def _of_channel(name: str, channel: grpc.aio.Channel) -> Contender:
    stub = EchoStub(channel)
    return Contender(name, stub.echo, stub.count, stub.echo_all)


OPENERS: dict[str, tuple[Opener, str]] = {
    "plain": (_plain, "grpc"),
    "plain again": (_plain_again, "grpc"),
    "aio_authgrpc": (_aio_authgrpc, "grpc"),
    "telemetry": (_telemetry, "opentelemetry.sdk"),
    "interceptor": (_interceptor, "grpc"),
    "google-auth": (_google_auth, "grpc"),
    "gcloud-aio-auth": (_gcloud_aio_auth, "gcloud.aio.auth"),
}
"""How each contender is opened, and the module that it needs."""


def is_installed(name: str) -> bool:
    """Return whether a contender has what it needs."""
    try:
        return importlib.util.find_spec(OPENERS[name][1]) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False
