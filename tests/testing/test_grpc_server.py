"""What BookstoreServer and EchoServer have in common: TLS."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from aio_authgrpc.testing import EchoServer, EchoStub


async def echo(target: str, credentials: grpc.ChannelCredentials) -> bytes:
    async with grpc.aio.secure_channel(target, credentials) as channel:
        return await EchoStub(channel).UnaryUnary(b"hello", timeout=5)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_certificate_is_good_for_both_names(host: str) -> None:
    """The server can be called by name and by address."""
    async with EchoServer() as server:
        credentials = grpc.ssl_channel_credentials(server.ca_pem)
        assert await echo(f"{host}:{server.port}", credentials) == b"hello"


async def test_client_that_trusts_another_authority_cannot_connect() -> None:
    """Each server has an authority of its own."""
    async with EchoServer() as server, EchoServer() as other:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await echo(server.target, other.ssl_credentials)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not server.calls


async def test_mutual_tls_lets_in_a_client_with_a_certificate() -> None:
    """The server's own credentials hold a client certificate."""
    async with EchoServer(mutual_tls=True) as server:
        assert await echo(server.target, server.ssl_credentials) == b"hello"


async def test_mutual_tls_refuses_a_client_without_a_certificate() -> None:
    """Trusting the server is not enough."""
    async with EchoServer(mutual_tls=True) as server:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await echo(server.target, grpc.ssl_channel_credentials(server.ca_pem))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_plaintext_server_has_no_certificate() -> None:
    """Asking a plaintext server for its certificate is an error that says why."""
    async with EchoServer(tls=False) as server:
        with pytest.raises(RuntimeError, match="tls=False"):
            _ = server.ca_pem


def test_mutual_tls_in_plaintext_is_an_error() -> None:
    """The two contradict each other."""
    with pytest.raises(ValueError, match="mutual_tls"):
        EchoServer(tls=False, mutual_tls=True)
