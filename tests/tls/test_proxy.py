"""HTTPS_PROXY and NO_PROXY for the token endpoint: a real proxy, which tunnels TLS that it cannot read."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme
from aiohttp import web
from google.auth.exceptions import TransportError

from aio_authgrpc import AiohttpRequest, Token, TokenRequest, connect
from aio_authgrpc.testing import EchoServer, EchoStub

HOST = "oauth2.example.invalid"


@dataclass
class Endpoint:
    """A token endpoint over TLS, which is reached by a proxy alone: its name is in no DNS."""

    asked: list[str] = field(default_factory=list)
    proxy_port: int = 0
    port: int = 0
    trust: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

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
