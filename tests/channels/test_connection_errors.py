"""RPCs whose connection fails say what to do about it; all other errors stay what they are."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from aio_authgrpc import AuthorizedChannel, anonymous, static_token
from aio_authgrpc._channels.connection_hints import connection_hint, explained
from aio_authgrpc.errors import ConnectionNotReadyError
from aio_authgrpc.testing import EchoServer, EchoStub
from aio_authgrpc.testing.servers.certificates import server_context
from aio_authgrpc.tokens import TokenCache


def error(details: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


async def test_an_untrusted_server_is_explained_by_the_call(echo_server: EchoServer, replayable: Any) -> None:
    """With gRPC's own error as the cause, in both arities that are looked after to their end."""
    inner = grpc.aio.secure_channel(echo_server.target, grpc.ssl_channel_credentials())
    async with TokenCache(static_token("t")) as cache, AuthorizedChannel(inner, cache) as channel:
        with pytest.raises(ConnectionNotReadyError, match="root_certificates=") as caught:
            await replayable.finish(replayable.begin(EchoStub(channel), timeout=10))
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)
    assert caught.value.__cause__.details() in (caught.value.details() or "")
    assert echo_server.calls == []


async def test_reading_explains_too(echo_server: EchoServer) -> None:
    """As iterating does."""
    inner = grpc.aio.secure_channel(echo_server.target, grpc.ssl_channel_credentials())
    async with TokenCache(static_token("t")) as cache, AuthorizedChannel(inner, cache) as channel:
        with pytest.raises(ConnectionNotReadyError, match="root_certificates="):
            await EchoStub(channel).UnaryStream(b"x", timeout=10).read()


async def test_a_refused_connection_is_explained(replayable: Any) -> None:
    """By its address, as gRPC has it."""
    async with EchoServer(tls=False) as server:
        target = server.target
    inner = grpc.aio.insecure_channel(target)
    async with TokenCache(static_token("t")) as cache, AuthorizedChannel(inner, cache) as channel:
        with pytest.raises(
            ConnectionNotReadyError, match=r"Nothing listens at this address.* only the last of"
        ) as caught:
            await replayable.finish(replayable.begin(EchoStub(channel), timeout=10))
    assert f":{target.rpartition(':')[2]}:" in (caught.value.details() or "")


@pytest.mark.parametrize(
    ("plaintext", "hint"),
    [
        pytest.param(
            True, "^The server ended the plaintext connection: it probably speaks TLS", id="plaintext"
        ),
        pytest.param(None, "a plaintext one, the server probably speaks TLS", id="not-known"),
    ],
)
async def test_plaintext_to_a_server_with_tls_is_explained(
    replayable: Any, echo_server: EchoServer, plaintext: bool | None, hint: str
) -> None:
    """In the words of gRPC, "Socket closed", a demanded client certificate is the same."""
    inner = grpc.aio.insecure_channel(f"127.0.0.1:{echo_server.port}")
    async with (
        TokenCache(static_token("t")) as cache,
        AuthorizedChannel(inner, cache, plaintext=plaintext) as channel,
    ):
        with pytest.raises(ConnectionNotReadyError) as caught:
            await replayable.finish(replayable.begin(EchoStub(channel), timeout=10))
    assert re.search(hint, caught.value.hint)
    assert ("client certificate" in caught.value.hint) == (plaintext is None)


async def test_an_unknown_host_name_is_explained(replayable: Any) -> None:
    """By the name, as gRPC has it. Its resolver asks no server for .onion names (RFC 7686)."""
    inner = grpc.aio.insecure_channel("no-such-host.onion:443")
    async with TokenCache(anonymous()) as cache, AuthorizedChannel(inner, cache) as channel:
        with pytest.raises(ConnectionNotReadyError, match=r"no-such-host\.onion.* check its spelling"):
            await replayable.finish(replayable.begin(EchoStub(channel), timeout=10))


@pytest.mark.parametrize(
    ("answer", "plaintext", "hint"),
    [
        pytest.param(
            b"HTTP/1.1 400 Bad Request\r\n\r\n", True, "speaks TLS at this port, or is no", id="http1"
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", True, "no gRPC server", id="ssh"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", False, "does not speak TLS", id="tls-to-http1"),
    ],
)
async def test_a_server_of_another_protocol_is_explained(answer: bytes, plaintext: bool, hint: str) -> None:
    """It answers in its own."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    tls = grpc.ssl_channel_credentials()
    inner = grpc.aio.insecure_channel(target) if plaintext else grpc.aio.secure_channel(target, tls)
    async with (
        server,
        TokenCache(static_token("t")) as cache,
        AuthorizedChannel(inner, cache, plaintext=plaintext) as channel,
    ):
        with pytest.raises(ConnectionNotReadyError, match=hint):
            await EchoStub(channel).UnaryUnary(b"x", timeout=10)


async def test_a_server_without_http2_is_explained() -> None:
    """Such as a load balancer for HTTP/1: it agrees on no protocol."""
    ca = trustme.CA()
    server = await asyncio.start_server(
        lambda _, writer: writer.close(),
        "127.0.0.1",
        0,
        ssl=server_context(ca, "127.0.0.1", protocols=["http/1.1"]),
    )
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    inner = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca.cert_pem.bytes()))
    async with (
        server,
        TokenCache(static_token("t")) as cache,
        AuthorizedChannel(inner, cache, plaintext=False) as channel,
    ):
        with pytest.raises(ConnectionNotReadyError, match="TLS without HTTP/2"):
            await EchoStub(channel).UnaryUnary(b"x", timeout=10)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
async def test_a_proxy_that_cannot_be_reached_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Its address is in no argument, and is all that gRPC names."""
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with EchoServer(tls=False) as server:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{server.port}")
    inner = grpc.aio.insecure_channel("bookstore.example.com:443")
    async with TokenCache(anonymous()) as cache, AuthorizedChannel(inner, cache) as channel:
        with pytest.raises(ConnectionNotReadyError, match=f"that of the proxy in {variable}"):
            await EchoStub(channel).UnaryUnary(b"x", timeout=10)


def test_an_address_that_is_not_the_proxys_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target on this machine goes past the proxy."""
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:3128")
    assert "grpc_proxy" in connection_hint("ipv4:127.0.0.1:3128: Connection refused")
    assert "grpc_proxy" not in connection_hint("ipv4:127.0.0.1:3129: Connection refused")


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED])
async def test_a_refused_audience_gets_a_note(
    stub: EchoStub, echo_server: EchoServer, replayable: Any, code: grpc.StatusCode
) -> None:
    """The server's own error stays what it is; tracebacks show the note."""
    echo_server.refuse(code, "Audiences in Jwt are not allowed", times=None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await replayable.finish(replayable.begin(stub, timeout=10))
    assert not isinstance(caught.value, ConnectionNotReadyError)
    (note,) = caught.value.__notes__
    assert "connect(audience=...)" in note


@pytest.mark.parametrize(
    ("details", "hint"),
    [
        ("certificate has expired", None),
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired", "has expired, or this machine's clock"),
        ("CERTIFICATE_VERIFY_FAILED: self-signed", "root_certificates="),
        ("Hostname Verification Check failed", "authority="),
        ("WRONG_VERSION_NUMBER", "plaintext=True"),
        ("Unwrap failed (TSI_DATA_CORRUPTED)", "client_certificate="),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "client_certificate="),
        ("TLSV1_ALERT_UNKNOWN_CA", "client_certificate="),
        ("connection attempt timed out before receiving SETTINGS frame", "no gRPC server"),
        ("Handshake read failed (Endpoint closing)", "did not answer the TLS handshake"),
        ("HTTP proxy returned response code 403", "no_proxy"),
        ("connect failed: addr: unix:/x error: No such file or directory", "no socket of this name"),
    ],
)
def test_each_thing_that_grpc_says_has_its_hint(details: str, hint: str | None) -> None:
    """What is not known stays as it is."""
    original = error(f"failed to connect to all addresses; last error: {details}")
    made = explained(original)
    assert (made is original) == (hint is None)
    assert hint is None or (isinstance(made, ConnectionNotReadyError) and hint in made.hint)


@pytest.mark.parametrize(
    "original",
    [
        error("Connection refused, says the server's own code"),
        error("failed to connect to all addresses: Connection refused", grpc.StatusCode.INTERNAL),
    ],
)
def test_what_a_server_says_itself_is_left_alone(original: grpc.aio.AioRpcError) -> None:
    """Only gRPC's own words, and its own code, are taken for a connection's failure."""
    assert explained(original) is original
