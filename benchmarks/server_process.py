"""The client's side of servers in another process: start them, order them about, call them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

# Several key files in one line.
_LONGEST_ANSWER = 1024 * 1024

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


class OrderedProcess:
    """An async context manager around a process that answers one JSON array a line with one JSON value.

    Args:
        script: What it runs, a file beside this one.
        *arguments: The script's.
        answers_within: Seconds that an answer may take, for what hangs.
    """

    def __init__(self, script: str, *arguments: str, answers_within: float = 30.0) -> None:
        self._script = script
        self._answers_within = answers_within
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    async def order(self, command: str, *arguments: object) -> Any:
        """Send one of the commands that the script knows, and return its answer."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("the server process is not running")
        process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
        await process.stdin.drain()
        line = await asyncio.wait_for(process.stdout.readline(), self._answers_within)
        if not line:
            raise RuntimeError(f"the server process ended during {command!r}")
        return json.loads(line)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name(self._script)),
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_ANSWER,
        )
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


class ServerProcess(OrderedProcess):
    """A process that runs `serve.py`.

    Args:
        token_lifetime: Seconds that a token of its authority lives.

    Attributes:
        target: What a channel connects to.
        ca_pem: The certificate of the server's authority.
        key_file: The key file, as a dict, of a service account whose tokens the authority issues.
    """

    def __init__(self, *, token_lifetime: float = 3600) -> None:
        super().__init__("serve.py", str(token_lifetime))
        self.target = ""
        self.ca_pem = b""
        self.key_file: dict[str, str] = {}

    @property
    def ssl_credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials that trust the server."""
        return grpc.ssl_channel_credentials(self.ca_pem)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        described = await self.order("describe")
        self.target = described["target"]
        self.ca_pem = described["ca_pem"].encode()
        self.key_file = described["key_file"]
        return self


async def answer_orders(orders: object) -> None:
    """Answer the orders on standard input until that ends: the other end of `OrderedProcess`.

    Args:
        orders: Has a coroutine method for each command.
    """
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, *arguments = json.loads(line)
        answer = await getattr(orders, name)(*arguments)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
