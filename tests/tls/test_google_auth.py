"""google-auth's own documented usage, beside the same with only the import changed and `await` added."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aio_authgrpc.testing import Authority, EchoServer

pytestmark = pytest.mark.timeout(60)  # each starts processes

PRINTS_FILES = "import sys, pathlib; print(*(pathlib.Path(p).read_text() for p in sys.argv[1:]), sep='')"
SCRIPT = Path(__file__).with_name("documented_usage.py")


@pytest.fixture
async def environment(
    authority: Authority, echo_server: EchoServer, client_files: Any, tmp_path: Path, home: Path
) -> Mapping[str, str]:
    """Give that of a device with a certificate and default credentials, which trusts both servers."""
    key_file, roots = tmp_path / "account.json", tmp_path / "roots.pem"
    key_file.write_text(json.dumps(await authority.service_account_info()))
    roots.write_bytes(echo_server.ca_pem + client_files.server.ca_pem)
    metadata = home / ".secureConnect" / "context_aware_metadata.json"
    metadata.parent.mkdir()
    command = [sys.executable, "-c", PRINTS_FILES, str(client_files.cert), str(client_files.key)]
    metadata.write_text(json.dumps({"cert_provider_command": command}))
    return {
        "GOOGLE_APPLICATION_CREDENTIALS": str(key_file),
        "GOOGLE_API_USE_CLIENT_CERTIFICATE": "true",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots),
    }


async def run(environment: Mapping[str, str], *arguments: object) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, SCRIPT, *(str(argument) for argument in arguments)),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


@pytest.mark.parametrize("option", ["1", "2", "3", "4"])
async def test_each_documented_option_does_the_same_here(
    environment: Mapping[str, str], echo_server: EchoServer, client_files: Any, option: str
) -> None:
    """The same server sees the same certificate, and a token of the same endpoint, one of each."""
    mutual = client_files.server
    places = (echo_server.target, mutual.target, client_files.cert, client_files.key)
    outputs = [await run(environment, library, option, *places) for library in ("google-auth", "here")]
    assert outputs == [b"b'hello'\n"] * 2
    theirs, ours = [*echo_server.calls, *mutual.calls]
    assert theirs.client_names == ours.client_names == (() if option == "1" else ("first@example.com",))
    assert [len(call.values("authorization")) for call in (theirs, ours)] == [1, 1]
    assert all(str(call.values("authorization")[0]).startswith("Bearer ey") for call in (theirs, ours))
