"""A hostile gRPC server: calls end, requests for tokens stay few, and nothing else is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import connect
from aio_authgrpc.testing import EchoServer, EchoStub, ScriptedTokens

from .hostile import Attack, HostileServer, drip, endless, once

PREFACE = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # empty SETTINGS
GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)
RESET = b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x07"
ATTACKS: dict[str, Attack] = {
    "nothing": once(b""),
    "http/1": once(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    "tls": once(b"\x15\x03\x01\x00\x02\x02\x46"),
    "garbage": once(bytes(range(256))),
    "a frame of 16 MB": once(PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(1000)),
    "going away": once(PREFACE + GOAWAY),
    "a reset at once": once(PREFACE + RESET),
    "endless settings": endless(b"", PREFACE),
    "endless pings": endless(PREFACE, PING),
    "endless headers": endless(PREFACE, b"\x00\x10\x00\x09\x00\x00\x00\x00\x01" + bytes(4096)),
    "silence": drip(PREFACE, b""),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_call_to_a_hostile_server_ends_with_its_timeout(name: str) -> None:
    """Or before; the token is fetched once, because the server has not refused it."""
    tokens = ScriptedTokens()
    async with HostileServer(ATTACKS[name]) as server:
        async with connect(f"127.0.0.1:{server.port}", EchoStub, credentials=tokens, plaintext=True) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.UnaryUnary(b"x", timeout=0.3)
    assert tokens.fetches <= 1
    assert "token-1" not in f"{caught.value!r}{caught.value.details()}"


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_server_without_a_certificate_gets_no_byte_of_a_token(name: str) -> None:
    """Over TLS, whatever it says before or instead of the handshake."""
    tokens = ScriptedTokens("s3cret-token")
    async with HostileServer(ATTACKS[name]) as server:
        async with connect(f"127.0.0.1:{server.port}", EchoStub, credentials=tokens) as stub:
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.UnaryUnary(b"x", timeout=0.3)
        assert b"s3cret" not in server.received


async def test_a_server_that_refuses_every_token_causes_no_storm(echo_server: EchoServer, arity: Any) -> None:
    """20 calls at once, each refused: at most two sends for each, and few requests for a token."""
    tokens = ScriptedTokens()
    echo_server.refuse(grpc.StatusCode.UNAUTHENTICATED, times=None)
    async with connect(
        echo_server.target, EchoStub, credentials=tokens, ssl_credentials=echo_server.ssl_credentials
    ) as stub:
        calls = [arity.finish(arity.begin(stub, timeout=10)) for _ in range(20)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {outcome.code() for outcome in outcomes} == {grpc.StatusCode.UNAUTHENTICATED}  # type: ignore[union-attr]  # each is an error
    assert len(echo_server.calls) <= 40
    assert tokens.fetches <= 3
