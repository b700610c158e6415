"""Servers that cannot be trusted, or do not trust us: each RPC says so, names the peer, and ends in time."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from aio_authgrpc import SslCredentials, connect, static_token
from aio_authgrpc.errors import ConnectionNotReadyError
from aio_authgrpc.testing import EchoServer, EchoStub

TOKEN = static_token("abc")
Peer = Callable[[Any], AbstractAsyncContextManager[tuple[EchoServer, dict[str, Any]]]]


@asynccontextmanager
async def wrong_authority(certified: Any) -> AsyncIterator[tuple[EchoServer, dict[str, Any]]]:
    async with EchoServer() as server:
        yield server, {"ssl_credentials": SslCredentials(root_certificates=trustme.CA().cert_pem.bytes())}


@asynccontextmanager
async def expired(certified: Any) -> AsyncIterator[tuple[EchoServer, dict[str, Any]]]:
    async with certified("localhost", not_after=datetime.datetime(2020, 1, 2)) as server:
        yield server, {"ssl_credentials": SslCredentials(root_certificates=server.ca_pem)}


@asynccontextmanager
async def other_name(certified: Any) -> AsyncIterator[tuple[EchoServer, dict[str, Any]]]:
    async with certified("elsewhere.example.com") as server:
        yield server, {"ssl_credentials": SslCredentials(root_certificates=server.ca_pem)}


@asynccontextmanager
async def plaintext(certified: Any) -> AsyncIterator[tuple[EchoServer, dict[str, Any]]]:
    async with EchoServer(tls=False) as server:
        yield server, {}


@asynccontextmanager
async def tls_for_plaintext(certified: Any) -> AsyncIterator[tuple[EchoServer, dict[str, Any]]]:
    async with EchoServer() as server:
        yield server, {"plaintext": True}


@asynccontextmanager
async def demands_a_certificate(certified: Any) -> AsyncIterator[tuple[EchoServer, dict[str, Any]]]:
    async with EchoServer(mutual_tls=True) as server:
        yield server, {"ssl_credentials": SslCredentials(root_certificates=server.ca_pem)}


@asynccontextmanager
async def demands_another_certificate(certified: Any) -> AsyncIterator[tuple[EchoServer, dict[str, Any]]]:
    foreign = trustme.CA().issue_cert("client@example.com")
    pair = (foreign.cert_chain_pems[0].bytes(), foreign.private_key_pem.bytes())
    async with EchoServer(mutual_tls=True) as server:
        yield (
            server,
            {
                "ssl_credentials": SslCredentials(
                    root_certificates=server.ca_pem, client_certificate=lambda: pair
                )
            },
        )


@asynccontextmanager
async def broken_credentials(certified: Any) -> AsyncIterator[tuple[EchoServer, dict[str, Any]]]:
    async with EchoServer() as server:
        (chain, _), (_, key) = server.issue_client_certificate(), server.issue_client_certificate()
        yield server, {"ssl_credentials": grpc.ssl_channel_credentials(server.ca_pem, key, chain)}


def at(server: EchoServer) -> str:
    """By address: for localhost, gRPC may report the refused connection to ::1 instead."""
    return f"127.0.0.1:{server.port}"


PEERS = [
    pytest.param(wrong_authority, "CERTIFICATE_VERIFY_FAILED", "root_certificates=", id="wrong-ca"),
    pytest.param(expired, "certificate has expired", "expired", id="expired"),
    pytest.param(other_name, "Hostname Verification", "authority=", id="another-name"),
    pytest.param(plaintext, "WRONG_VERSION_NUMBER", "plaintext=True", id="no-tls"),
    pytest.param(tls_for_plaintext, "Socket closed", "it probably speaks TLS", id="tls-for-plaintext"),
    pytest.param(demands_a_certificate, "Socket closed", "client_certificate=", id="demands-certificate"),
    pytest.param(demands_another_certificate, "Socket closed", "or another one", id="foreign-certificate"),
    pytest.param(broken_credentials, "security handshaker", "ssl_credentials=", id="broken-credentials"),
]


@pytest.mark.parametrize(("peer", "reason", "hint"), PEERS)
async def test_an_rpc_says_why_and_names_the_peer(
    peer: Peer, certified_server: Any, reason: str, hint: str
) -> None:
    """UNAVAILABLE, at once; no call reaches the server."""
    async with peer(certified_server) as (server, arguments):
        async with connect(at(server), EchoStub, credentials=TOKEN, **arguments) as stub:
            with pytest.raises(ConnectionNotReadyError, match=reason) as caught:
                await stub.UnaryUnary(b"x", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert hint in caught.value.hint
    assert f"127.0.0.1:{server.port}" in (caught.value.details() or "")
    assert server.calls == []


@pytest.mark.parametrize(("peer", "reason", "hint"), PEERS)
async def test_an_rpc_that_waits_for_the_server_ends_by_its_deadline(
    peer: Peer, certified_server: Any, reason: str, hint: str
) -> None:
    """Nothing hangs, whatever is wrong."""
    async with peer(certified_server) as (server, arguments):
        async with connect(at(server), EchoStub, credentials=TOKEN, **arguments) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.UnaryUnary(b"x", timeout=0.3, wait_for_ready=True)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(("peer", "reason", "hint"), PEERS)
async def test_a_connection_that_is_not_ready_says_why_and_what_to_do(
    peer: Peer, certified_server: Any, reason: str, hint: str
) -> None:
    """In gRPC's own words, with gRPC's error as the cause."""
    async with peer(certified_server) as (server, arguments):
        more = {**arguments, "ready_timeout": 1, "credentials": TOKEN}
        with pytest.raises(ConnectionNotReadyError, match=rf"gRPC says: .*{reason}") as caught:
            async with connect(at(server), EchoStub, **more):
                pytest.fail("it was ready")
    assert f"127.0.0.1:{server.port}" in str(caught.value)
    assert hint in caught.value.hint
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)
    assert server.calls == []


async def test_a_refused_connection_is_said(listener: Any) -> None:
    """The commonest mistake."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    with pytest.raises(ConnectionNotReadyError, match="Connection refused") as caught:
        async with connect(f"127.0.0.1:{port}", EchoStub, credentials=TOKEN, ready_timeout=0.5):
            pytest.fail("it was ready")
    assert "Nothing listens at this address" in caught.value.hint


async def test_a_channel_that_has_not_failed_has_no_failure_to_tell(echo_server: EchoServer) -> None:
    """It asks the server nothing."""
    connection = connect(
        echo_server.target, EchoStub, credentials=TOKEN, ssl_credentials=echo_server.ssl_credentials
    )
    async with connection as stub:
        assert await connection.channel.connection_failure() is None
        await stub.UnaryUnary(b"x")
        assert await connection.channel.connection_failure() is None
    assert len(echo_server.calls) == 1
