"""The client's side of `serve.py`: start the servers in another process, order them about, call them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

SERVICE = "aio_authgrpc.benchmarks.Echo"


class EchoStub:
    """Call the echo server. Messages are bytes as they are.

    Attributes:
        echo: Answers the request.
        count: Answers the request, a decimal number, that many times.
        echo_all: Answers each request at once.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Echo")
        self.count: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
            f"/{SERVICE}/Count"
        )
        self.echo_all: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            f"/{SERVICE}/EchoAll"
        )


class ServerProcess:
    """An async context manager around a process that runs `serve.py`.

    Attributes:
        target: What a channel connects to.
        ca_pem: The certificate of the server's authority.
        key_file: The key file, as a dict, of a service account whose tokens the authority issues.
    """

    def __init__(self) -> None:
        self.target = ""
        self.ca_pem = b""
        self.key_file: dict[str, str] = {}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def ssl_credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials that trust the server."""
        return grpc.ssl_channel_credentials(self.ca_pem)

    async def order(self, command: str, *arguments: object) -> Any:
        """Send one of the commands of `serve.Orders` and return its answer."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("the server process is not running")
        process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
        await process.stdin.drain()
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        if not line:
            raise RuntimeError(f"the server process ended during {command!r}")
        return json.loads(line)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("serve.py")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        described = await self.order("describe")
        self.target = described["target"]
        self.ca_pem = described["ca_pem"].encode()
        self.key_file = described["key_file"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
