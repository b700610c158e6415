"""Targets as they are dialled: by name, by address, and under another name than the certificate's."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import SslCredentials, connect, static_token
from aio_authgrpc.testing import EchoServer, EchoStub

TOKEN = static_token("abc")
OVERRIDE = "grpc.ssl_target_name_override"


@pytest.mark.parametrize(
    "form", ["localhost:{}", "dns:localhost:{}", "dns:///localhost:{}", "ipv4:127.0.0.1:{}"]
)
async def test_a_target_is_dialled_over_tls(echo_server: EchoServer, form: str) -> None:
    """The certificate has localhost and 127.0.0.1."""
    async with connect(
        form.format(echo_server.port),
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=SslCredentials(root_certificates=echo_server.ca_pem),
    ) as stub:
        assert await stub.UnaryUnary(b"x", timeout=10) == b"x"


async def test_several_addresses_are_one_target(echo_server: EchoServer, certified_server: Any) -> None:
    """The first that answers is taken; port 1 refuses connections."""
    target = f"ipv4:127.0.0.1:1,127.0.0.1:{echo_server.port}"
    async with connect(
        target,
        EchoStub,
        credentials=TOKEN,
        authority="localhost",
        ssl_credentials=SslCredentials(root_certificates=echo_server.ca_pem),
    ) as stub:
        assert await stub.UnaryUnary(b"x", timeout=10) == b"x"


@pytest.mark.parametrize(
    "arguments",
    [{"authority": "service.example.com"}, {"options": [(OVERRIDE, "service.example.com")]}],
    ids=["authority", "override"],
)
async def test_the_certificates_name_may_be_another_than_the_targets(
    certified_server: Any, arguments: dict[str, Any]
) -> None:
    """Said by `authority=`, which the server sees too, or by gRPC's option (seed 001's --servername)."""
    async with certified_server("service.example.com") as server:
        async with connect(
            server.target,
            EchoStub,
            credentials=TOKEN,
            ssl_credentials=SslCredentials(root_certificates=server.ca_pem),
            **arguments,
        ) as stub:
            assert await stub.UnaryUnary(b"x", timeout=10) == b"x"


@pytest.mark.parametrize(
    "arguments",
    [{"authority": "service.example.com"}, {"options": [(OVERRIDE, "service.example.com")]}],
    ids=["authority", "override"],
)
async def test_a_name_that_the_certificate_lacks_is_refused(
    echo_server: EchoServer, arguments: dict[str, Any]
) -> None:
    """Whichever way it was said; no call arrives."""
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=SslCredentials(root_certificates=echo_server.ca_pem),
        **arguments,
    ) as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="Hostname Verification"):
            await stub.UnaryUnary(b"x", timeout=10)
    assert echo_server.calls == []
