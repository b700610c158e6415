"""RPCs whose connection fails say what to do about it; all other errors stay what they are."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, static_token
from aio_authgrpc._channels.connection_hints import explained
from aio_authgrpc.errors import ConnectionNotReadyError
from aio_authgrpc.testing import EchoServer, EchoStub
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
    ],
)
def test_each_thing_that_grpc_says_has_its_hint(details: str, hint: str | None) -> None:
    """What is not known stays as it is."""
    original = error(f"failed to connect to all addresses; last error: {details}")
    made = explained(original)
    assert (made is original) == (hint is None)
    assert hint is None or hint in (made.details() or "")


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
