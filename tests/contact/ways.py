"""Every way to open a channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio

import aio_authgrpc
from aio_authgrpc import AuthorizedChannel, SslCredentials, connect
from aio_authgrpc.testing import EchoServer, EchoStub, ScriptedTokens
from aio_authgrpc.tokens import TokenCache


@asynccontextmanager
async def by_connect(server: EchoServer, tokens: ScriptedTokens) -> AsyncIterator[EchoStub]:
    async with connect(
        server.target, EchoStub, credentials=tokens, ssl_credentials=server.ssl_credentials
    ) as stub:
        yield stub


@asynccontextmanager
async def by_connect_with_certificates(server: EchoServer, tokens: ScriptedTokens) -> AsyncIterator[EchoStub]:
    ssl_credentials = SslCredentials(root_certificates=server.ca_pem, refresh_interval=600)
    async with connect(server.target, EchoStub, credentials=tokens, ssl_credentials=ssl_credentials) as stub:
        yield stub


@asynccontextmanager
async def by_googles_function(server: EchoServer, tokens: ScriptedTokens) -> AsyncIterator[EchoStub]:
    opening = aio_authgrpc.secure_authorized_channel(tokens, None, server.target, server.ssl_credentials)
    async with opening as channel:
        yield EchoStub(channel)


@asynccontextmanager
async def by_wrapping(server: EchoServer, tokens: ScriptedTokens) -> AsyncIterator[EchoStub]:
    inner = grpc.aio.secure_channel(server.target, server.ssl_credentials)
    async with TokenCache(tokens) as cache, AuthorizedChannel(inner, cache) as channel:
        yield EchoStub(channel)


@asynccontextmanager
async def by_factory(server: EchoServer, tokens: ScriptedTokens) -> AsyncIterator[EchoStub]:
    make = aio_authgrpc.channel_factory(tokens, ssl_credentials=server.ssl_credentials)
    async with make(server.target) as channel:
        yield EchoStub(channel)


WAYS = [by_connect, by_connect_with_certificates, by_googles_function, by_wrapping, by_factory]
