"""The commands `call` and `doctor` at a real Envoy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aio_authgrpc.testing import Authority, EnvoyProxy
from tests.cli.chat_server import ChatServer
from tests.cli.command import run

pytestmark = pytest.mark.timeout(90)  # whole processes


async def test_server_behind_envoy_is_called(authority: Authority, tmp_path: Path) -> None:
    """Over TLS, with an ID token that Envoy verifies; reflection is behind it, too."""
    async with ChatServer(tls=False) as server, EnvoyProxy(authority, server) as proxy:
        (tmp_path / "ca.pem").write_bytes(proxy.ca_pem)
        (tmp_path / "key.json").write_text(json.dumps(await authority.service_account_info()))
        arguments = ["--root-certificates", str(tmp_path / "ca.pem")]
        credentials = ["--credentials", str(tmp_path / "key.json"), "--audience", proxy.audience]
        request = ["call", proxy.tls_target, "Chat/Talk", "-d", '{"text": "a"} {"text": "b"}']
        called = await run(*request, *arguments, *credentials)
        refused = await run(*request, *arguments)
        examined = await run(
            "doctor", proxy.tls_target, "--json", *arguments, *credentials[:2], "--audience", "x"
        )
    assert (called.code, called.lines, called.err) == (0, [{"text": "A"}, {"text": "B"}], "")
    assert refused.code == 64 + 16
    assert examined.json["fault"] == "wrong-audience"
