"""HTTPS_PROXY and NO_PROXY for the token endpoint: a real proxy, which tunnels TLS that it cannot read."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from aiohttp import web
from google.auth.exceptions import TransportError

from aio_authgrpc import AiohttpRequest, Token, TokenRequest, connect, static_token
from aio_authgrpc.testing import EchoServer, EchoStub

HOST = "oauth2.example.invalid"


@dataclass
class Endpoint:
    """A token endpoint over TLS, which is reached by a proxy alone: its name is in no DNS."""

    asked: list[str] = field(default_factory=list)
    proxy_port: int = 0
    port: int = 0
    trust: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    async def eavesdrop(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note one request for a tunnel, and refuse it."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(" ".join(head.decode().split()[:2]))
        writer.close()

    async def tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one CONNECT."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(" ".join(head.decode().split()[:2]))
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pipe(reader, there_writer), pipe(there_reader, writer))


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def token(_: web.Request) -> web.Response:
    return web.json_response({"access_token": "abc"})


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoint]:
    endpoint, ca = Endpoint(), trustme.CA()
    ca.configure_trust(endpoint.trust)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(HOST).configure_cert(context)
    app = web.Application()
    app.router.add_get("/token", token)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    endpoint.port = runner.addresses[0][1]
    proxy: Any = await asyncio.start_server(endpoint.tunnel, "127.0.0.1", 0)
    endpoint.proxy_port = proxy.sockets[0].getsockname()[1]
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield endpoint
    proxy.close()
    await runner.cleanup()


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_a_token_comes_through_the_proxy(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    """By CONNECT: what it tunnels is TLS from end to end. A proxy without a scheme is an HTTP one."""
    monkeypatch.setenv(name, f"{scheme}127.0.0.1:{endpoint.proxy_port}")
    async with AiohttpRequest() as request:
        response = await request.send(f"https://{HOST}/token", ssl_context=endpoint.trust)
    assert (response.status, endpoint.asked) == (200, [f"CONNECT {HOST}:443"])


@pytest.mark.parametrize("exempt", [HOST, ".example.invalid", "*"])
async def test_no_proxy_goes_past_it(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, exempt: str
) -> None:
    """The host by name, its domain, or every host."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{endpoint.proxy_port}")
    monkeypatch.setenv("NO_PROXY", exempt)
    async with AiohttpRequest() as request:
        with pytest.raises(TransportError):
            await request.send(f"https://{HOST}/token", timeout=5, ssl_context=endpoint.trust)
    assert endpoint.asked == []


async def test_a_call_gets_its_token_through_the_proxy(
    endpoint: Endpoint, echo_server: EchoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The RPC itself goes where gRPC's own variables say."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{endpoint.proxy_port}")
    monkeypatch.setenv("no_grpc_proxy", "localhost")

    class Source:
        async def fetch(self, request: TokenRequest) -> Token:
            response = await request.http.send(f"https://{HOST}/token", ssl_context=endpoint.trust)
            return Token("abc" if b"abc" in response.data else "wrong")

    async with connect(
        echo_server.target, EchoStub, credentials=Source(), ssl_credentials=echo_server.ssl_credentials
    ) as stub:
        await stub.UnaryUnary(b"x", timeout=10)
    assert (endpoint.asked, echo_server.calls[0].values("authorization")) == (
        [f"CONNECT {HOST}:443"],
        ("Bearer abc",),
    )


# RPCs


PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy")


@pytest.fixture
async def grpc_proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoint]:
    """Give a proxy for gRPC, which notes what it is asked for, and refuses it."""
    endpoint = Endpoint()
    server: Any = await asyncio.start_server(endpoint.eavesdrop, "127.0.0.1", 0)
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield endpoint
    server.close()


@pytest.mark.parametrize(
    "target", ["localhost:{}", "127.0.0.1:{}", "ipv4:127.0.0.1:{}", "dns:///localhost:{}"]
)
async def test_plaintext_for_this_machine_goes_past_the_proxy(grpc_proxy: Endpoint, target: str) -> None:
    """The proxy may be another machine, and would read the token."""
    async with EchoServer(tls=False) as server:
        there = target.format(server.port)
        async with connect(there, EchoStub, credentials=static_token("abc"), plaintext=True) as stub:
            await stub.UnaryUnary(b"x", timeout=10)
    assert (grpc_proxy.asked, len(server.calls)) == ([], 1)


async def test_local_credentials_go_past_the_proxy(grpc_proxy: Endpoint) -> None:
    """For gRPC the connection to a proxy on this machine is a local one, wherever it leads to."""
    local = grpc.local_channel_credentials()
    async with connect(
        "192.0.2.1:80", EchoStub, credentials=static_token("abc"), ssl_credentials=local
    ) as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.UnaryUnary(b"x", timeout=0.2)
    assert grpc_proxy.asked == []


@pytest.mark.parametrize("option", ["grpc.enable_http_proxy", "grpc.http_proxy"])
async def test_the_callers_options_about_proxies_stand(
    grpc_proxy: Endpoint, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option that the user names is kept; it warns, because the proxy may be elsewhere."""
    value = {"grpc.enable_http_proxy": 1, "grpc.http_proxy": os.environ["http_proxy"]}[option]
    with pytest.warns(UserWarning, match="in the clear"):
        connection = connect(
            "localhost:1",
            EchoStub,
            credentials=static_token("abc"),
            plaintext=True,
            options=[(option, value)],
        )
    async with connection as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.UnaryUnary(b"x", timeout=10)
    assert "CONNECT localhost:1" in grpc_proxy.asked
