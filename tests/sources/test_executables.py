"""Subject tokens from an executable: off unless the environment allows them, and never delaying others."""

from __future__ import annotations

import asyncio
import json
import os
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aio_authgrpc import connect
from aio_authgrpc.credentials import external_account
from aio_authgrpc.errors import ChannelClosedError, TokenDeadlineExceededError, TokenRefusedError
from aio_authgrpc.testing import EchoServer, EchoStub
from tests.support.patience import patience

pytestmark = pytest.mark.timeout(60)  # each starts processes

ALLOWED = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"


@pytest.fixture
def info(tmp_path: Path) -> Iterator[dict[str, object]]:
    """Give a configuration whose executable says that it was started, and hangs until the test has ended."""
    never = tmp_path / "never"
    os.mkfifo(never)
    os.mkfifo(tmp_path / "alive")
    writer = os.open(never, os.O_RDWR)  # for writing alone it would wait for a reader
    executable = tmp_path / "hang"
    executable.write_text(
        f"#!/bin/sh\nexec 3<>{tmp_path}/alive\ntouch {tmp_path}/started\n"
        f"(read line < {tmp_path}/never) &\nprintf '!' >&3\nread line < {tmp_path}/never\n"
    )
    executable.chmod(executable.stat().st_mode | stat.S_IEXEC)
    yield {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.example.com/v1/token",
        "credential_source": {"executable": {"command": str(executable), "timeout_millis": 120_000}},
    }
    never.unlink()  # one that was slow to start fails at once
    os.close(writer)


async def test_an_executable_is_not_run_unless_the_environment_allows_it(
    echo_server: EchoServer, info: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """google-auth's own switch; the error names the variable."""
    monkeypatch.delenv(ALLOWED, raising=False)
    credentials = external_account(info)
    async with connect(
        echo_server.target, EchoStub, credentials=credentials, ssl_credentials=echo_server.ssl_credentials
    ) as stub:
        with pytest.raises(TokenRefusedError, match=ALLOWED):
            await stub.UnaryUnary(b"x", timeout=10)
    assert not (tmp_path / "started").exists()
    assert echo_server.calls == []


async def test_an_executable_that_hangs_holds_neither_the_call_nor_the_close(
    echo_server: EchoServer, info: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call ends with its timeout, and the connection at once."""
    monkeypatch.setenv(ALLOWED, "1")
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=external_account(info),
        ssl_credentials=echo_server.ssl_credentials,
    ) as stub:
        with pytest.raises(TokenDeadlineExceededError):
            await stub.UnaryUnary(b"x", timeout=0.5)
    assert echo_server.calls == []


async def test_closing_kills_the_executable_with_what_it_started(
    echo_server: EchoServer, info: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe that each of its processes holds open comes to its end."""
    monkeypatch.setenv(ALLOWED, "1")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(alive, True)
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=external_account(info),
        ssl_credentials=echo_server.ssl_credentials,
    ) as stub:
        call = stub.UnaryUnary(b"x", timeout=60)
        # Not reading at once: without a writer, that ends at once.
        await asyncio.to_thread(select.select, [alive], [], [], patience(20))
        assert os.read(alive, 1) == b"!"
    with pytest.raises(ChannelClosedError):
        await call
    assert await asyncio.to_thread(os.read, alive, 1) == b""
    os.close(alive)


SCRIPT = """
import asyncio, json, sys
import aio_authgrpc
from aio_authgrpc.testing import EchoServer, EchoStub

async def main():
    source = aio_authgrpc.credentials.external_account(sys.argv[1])
    async with EchoServer() as server, aio_authgrpc.connect(
        server.target, EchoStub, credentials=source, ssl_credentials=server.ssl_credentials
    ) as stub:
        try:
            await stub.UnaryUnary(b"x", timeout=0.5)
        except aio_authgrpc.errors.TokenDeadlineExceededError:
            print("out of time")

asyncio.run(main())
"""


async def test_an_executable_that_hangs_does_not_hold_the_end_of_the_process(
    info: dict[str, object], tmp_path: Path
) -> None:
    """google-auth would wait for it for 2 minutes here, in an abandoned thread."""
    (tmp_path / "credentials.json").write_text(json.dumps(info))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, str(tmp_path / "credentials.json")),
        env=os.environ | {ALLOWED: "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(patience(30)):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert output == b"out of time\n"
    assert process.returncode == 0
