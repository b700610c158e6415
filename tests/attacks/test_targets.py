"""Hostile targets: the audience is of the host that gRPC dials, and no secret is shown."""

from __future__ import annotations

import os
import tempfile

import grpc
import grpc.aio
import pytest
from hypothesis import given, settings

from aio_authgrpc import ConfigurationError, connect, static_token
from aio_authgrpc.testing import EchoServer, EchoStub

from .targets import check_target, texts


@settings(max_examples=8 * settings.default.max_examples)
@given(texts)
def test_a_target_is_refused_or_dialled_as_its_audience_says(target: str) -> None:
    """The oracle follows gRPC's own way of reading a target."""
    check_target(target)


@pytest.mark.parametrize(
    "form", ["localhost:{}%00.example", "dns:///localhost:{}\0.example", "dns:///x/localhost:{}"]
)
async def test_a_server_that_a_trick_leads_to_gets_no_call(form: str) -> None:
    """GRPC dials this server, and the audience would be that of another."""
    async with EchoServer(tls=False) as server:
        target = form.format(server.port)
        with pytest.raises(ConfigurationError):
            async with connect(target, EchoStub, credentials=static_token("abc"), plaintext=True) as stub:
                await stub.UnaryUnary(b"x", timeout=10)
        assert server.calls == []


async def test_a_unix_socket_keeps_its_odd_name() -> None:
    """What no other target may have, a path may: an @, a question mark's neighbours, umlauts."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "ä@b;c=d&e")  # noqa: PTH118 - as text, for the target
        server = grpc.aio.server()
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        async with connect(f"unix:{path}", credentials=static_token("abc"), plaintext=True) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/a/b")(b"", timeout=10)
        await server.stop(None)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
