"""What a storm of callers without a token does to token endpoint and process, beside google-auth's plugin.

    python benchmarks/storm.py [--sizes 1 100 1000 3000 10000 30000] [--json]

A service account's token takes 100 ms at the authority, which is in another process with the gRPC server.
Each storm has a new channel that is connected already, and a credential without a token; `plain` is a channel
whose metadata is passed by hand, without a token to wait for. Counted from the first call to the last answer:

    requests  token requests that came to the authority
    threads   the most beyond those before, looked at every millisecond, and by google-auth's plugin in the
              thread that it is called in
    stall     the longest time in which the event loop did not come round
    wall, CPU of all calls together, and the failed among them

Calls that have no answer after a minute count as failed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import google.auth.transport.grpc
import google.auth.transport.requests
import grpc
import grpc.aio
from contenders import METADATA
from figures import print_json, print_table
from google.oauth2 import service_account
from server_process import EchoStub, ServerProcess

import aio_authgrpc

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_PAYLOAD = b"x" * 32
_TOKEN_TAKES = 0.1
_TIMEOUT = 60.0
_TICK = 0.001

Opener = Callable[[ServerProcess, "Watch"], AbstractAsyncContextManager[EchoStub]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What one storm did; times in seconds."""

    token_requests: int
    threads: int
    failed: int
    stall: float
    wall: float
    cpu: float


class Watch:
    """Keeps the longest stall of the loop and the most threads, in a `with`."""

    def __init__(self) -> None:
        self.threads = 0
        self.stall = 0.0
        self._start = threading.active_count()
        self._ticking: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._start = threading.active_count()
        self.threads = 0
        self._ticking = asyncio.create_task(self._tick())
        return self

    def __exit__(self, *_: object) -> None:
        if self._ticking is not None:
            self._ticking.cancel()

    def count_threads(self) -> None:
        """Count them now."""
        self.threads = max(self.threads, threading.active_count() - self._start)

    async def _tick(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(_TICK)
            now = time.perf_counter()
            self.stall = max(self.stall, now - last - _TICK)
            self.count_threads()
            last = now


class _CountingPlugin(google.auth.transport.grpc.AuthMetadataPlugin):
    """google-auth's plugin, which counts the threads where it is called."""

    def __init__(self, watch: Watch, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]  # google-auth is typed in parts
        self._watch = watch

    def __call__(self, *arguments: Any) -> None:
        self._watch.count_threads()
        super().__call__(*arguments)  # type: ignore[no-untyped-call]  # see above


@asynccontextmanager
async def _plain(server: ServerProcess, _: Watch) -> AsyncIterator[EchoStub]:
    async with grpc.aio.secure_channel(server.target, server.ssl_credentials) as channel:
        await channel.channel_ready()
        stub = EchoStub(channel)
        stub.echo = partial(stub.echo, metadata=METADATA)  # type: ignore[assignment]  # it is called alike
        yield stub


@asynccontextmanager
async def _aio_authgrpc(server: ServerProcess, _: Watch) -> AsyncIterator[EchoStub]:
    credentials = aio_authgrpc.service_account(server.key_file, scopes=_SCOPES)
    async with aio_authgrpc.connect(
        server.target, credentials=credentials, ssl_credentials=server.ssl_credentials
    ) as channel:
        await channel.channel_ready()
        yield EchoStub(channel)


@asynccontextmanager
async def _google_auth(server: ServerProcess, watch: Watch) -> AsyncIterator[EchoStub]:
    make: Any = service_account.Credentials.from_service_account_info
    account = make(server.key_file, scopes=_SCOPES)
    plugin = _CountingPlugin(watch, account, google.auth.transport.requests.Request())
    credentials = grpc.composite_channel_credentials(
        server.ssl_credentials, grpc.metadata_call_credentials(plugin)
    )
    async with grpc.aio.secure_channel(server.target, credentials) as channel:
        await channel.channel_ready()
        yield EchoStub(channel)


OPENERS: dict[str, Opener] = {"plain": _plain, "aio_authgrpc": _aio_authgrpc, "google-auth": _google_auth}


async def _call_all(stub: EchoStub, size: int) -> int:
    """Make `size` calls at once; return how many failed."""
    calls = [asyncio.ensure_future(_echo(stub)) for _ in range(size)]
    _, pending = await asyncio.wait(calls, timeout=_TIMEOUT)
    for call in pending:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return sum(isinstance(answer, BaseException) for answer in answers)


async def _echo(stub: EchoStub) -> bytes:
    return await stub.echo(_PAYLOAD)


async def _storm(server: ServerProcess, opener: Opener, size: int) -> Storm:
    watch = Watch()
    async with opener(server, watch) as stub:
        await server.order("token_requests")
        gc.collect()
        with watch:
            await asyncio.sleep(2 * _TICK)
            wall, cpu = time.perf_counter(), time.process_time()
            failed = await _call_all(stub, size)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            await asyncio.sleep(2 * _TICK)
        requests = await server.order("token_requests")
    return Storm(
        token_requests=requests, threads=watch.threads, failed=failed, stall=watch.stall, wall=wall, cpu=cpu
    )


async def run(sizes: Sequence[int]) -> dict[str, dict[int, Storm]]:
    """Return the storms of each size, by who made them."""
    storms: dict[str, dict[int, Storm]] = {name: {} for name in OPENERS}
    async with ServerProcess() as server:
        await server.order("delay", _TOKEN_TAKES)
        for opener in OPENERS.values():
            await _storm(server, opener, 1)  # imports, and grpc's own thread
        for size in sizes:
            for name, opener in OPENERS.items():
                storms[name][size] = await _storm(server, opener, size)
    return storms


def _show(storms: dict[str, dict[int, Storm]]) -> None:
    columns = ("callers", "requests", "threads", "failed", "stall ms", "wall s", "CPU s")
    for name, of_size in storms.items():
        rows = [
            (
                str(size),
                *(str(count) for count in (storm.token_requests, storm.threads, storm.failed)),
                f"{1000 * storm.stall:.0f}",
                f"{storm.wall:.2f}",
                f"{storm.cpu:.2f}",
            )
            for size, storm in of_size.items()
        ]
        print_table(name, columns, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 100, 1000, 3000, 10_000, 30_000])
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    arguments = parser.parse_args()
    storms = asyncio.run(run(arguments.sizes))
    if arguments.json:
        print_json({"token_takes": _TOKEN_TAKES, "storms": storms})
    else:
        _show(storms)


if __name__ == "__main__":
    main()
