"""What a crowd of calls without a token costs: one token request, and no more a call for a larger crowd.

    python benchmarks/cold.py [--sizes 1000 10000] [--rounds 5] [--no-gc] [--json]

A service account's token is exchanged at a real authority, which holds the request while the calls pile up;
it and the gRPC server are in another process. In every round, for every size, a connection is opened anew and

    waiting     that many calls are made, which have to wait: CPU time per call until each of them waits
    answered    the authority lets the request pass: wall time per call until the last response
    warm        as many calls again, now that the token is there: wall time per call, for comparison
    cancelled   on another new connection, as many tasks that await a call are cancelled: CPU time per call

Counted are the token requests (1, however many calls wait), the calls that failed (none), and the threads at
most beyond those before the first `connect()`. Neither `waiting` nor `cancelled` may grow with the size,
beyond what Python's garbage collector makes of a larger heap: `--no-gc` leaves that out.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio
from figures import Spread, print_json, print_note, print_table
from server_process import EchoStub, ServerProcess

import aio_authgrpc

PAYLOAD = b"x" * 32
# The garbage collector, colder caches and a noisy machine make up to twice as much of it. What grows with the
# size, such as a search through those who wait, is ten times as much from 1 000 to 10 000.
GROWTH_ALLOWED = 2.5
# For ten thousand calls on a slow machine; a crowd that hangs should not do so for ever.
_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """What one crowd did; times in microseconds per call."""

    token_requests: int
    failed: int
    threads: int
    waiting_us: float
    answered_us: float
    warm_us: float
    cancelled_us: float


class ThreadPeak:
    """Watches how many threads there are beyond those there at the start.

    Args:
        start: How many these were.
    """

    def __init__(self, start: int) -> None:
        self._start = start
        self.peak = 0

    def look(self) -> None:
        """Count them now."""
        self.peak = max(self.peak, threading.active_count() - self._start)

    async def watch(self) -> None:
        """Count them every 5 ms."""
        while True:
            self.look()
            await asyncio.sleep(0.005)


@asynccontextmanager
async def _held(server: ServerProcess) -> AsyncIterator[tuple[EchoStub, asyncio.Task[bytes]]]:
    """Give a stub without a token, and the task of a first call, for which a token request is being held."""
    await server.order("hold")
    credentials = aio_authgrpc.service_account(
        server.key_file, scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    connection = aio_authgrpc.connect(
        server.target, EchoStub, credentials=credentials, ssl_credentials=server.ssl_credentials
    )
    async with connection as stub:
        first = asyncio.create_task(_echo(stub))
        try:
            await server.order("arrived")
            yield stub, first
        finally:
            await server.order("release")
            await asyncio.wait({first}, timeout=_TIMEOUT)


async def _echo(stub: EchoStub) -> bytes:
    return await stub.echo(PAYLOAD)


async def _settle() -> None:
    # Every task that is ready now has its step, and what that made ready its own.
    for _ in range(3):
        await asyncio.sleep(0)


async def _answer(server: ServerProcess, size: int, threads: ThreadPeak) -> dict[str, float]:
    """Let `size` calls wait, be answered, and be made again with the token."""
    async with _held(server) as (stub, first):
        gc.collect()
        cpu = time.process_time()
        calls = [stub.echo(PAYLOAD) for _ in range(size)]
        await _settle()
        cpu = time.process_time() - cpu
        threads.look()
        answers = asyncio.gather(first, *calls, return_exceptions=True)
        wall = time.perf_counter()
        await server.order("release")
        failed = sum(
            isinstance(answer, BaseException) for answer in await asyncio.wait_for(answers, _TIMEOUT)
        )
        wall, warm = time.perf_counter() - wall, time.perf_counter()
        failed += sum(
            isinstance(answer, BaseException)
            for answer in await asyncio.gather(
                *(stub.echo(PAYLOAD) for _ in range(size)), return_exceptions=True
            )
        )
        warm = time.perf_counter() - warm
    return {"failed": failed, "waiting_us": cpu, "answered_us": wall, "warm_us": warm}


async def _cancel(server: ServerProcess, size: int) -> float:
    """Return the CPU seconds that it takes to cancel `size` tasks whose calls wait."""
    async with _held(server) as (stub, _):
        tasks = [asyncio.create_task(_echo(stub)) for _ in range(size)]
        await _settle()
        gc.collect()
        cpu = time.process_time()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_TIMEOUT)
        await _settle()
        cpu = time.process_time() - cpu
        if not all(task.cancelled() for task in tasks):
            raise RuntimeError("a cancelled task was not cancelled")
    return cpu


async def _measure(server: ServerProcess, size: int, threads: ThreadPeak) -> Crowd:
    await server.order("token_requests")
    watching = asyncio.create_task(threads.watch())
    answered = await _answer(server, size, threads)
    token_requests = await server.order("token_requests")
    cancelled = await _cancel(server, size)
    watching.cancel()
    failed = int(answered.pop("failed"))
    each = {name: 1e6 * seconds / size for name, seconds in answered.items()}
    return Crowd(
        token_requests=token_requests,
        failed=failed,
        threads=threads.peak,
        cancelled_us=1e6 * cancelled / size,
        **each,
    )


async def run(sizes: Sequence[int], rounds: int) -> dict[int, list[Crowd]]:
    """Measure crowds of each size, in shuffled order in every round."""
    crowds: dict[int, list[Crowd]] = {size: [] for size in sizes}
    async with (
        ServerProcess() as server,
        grpc.aio.secure_channel(server.target, server.ssl_credentials) as other,
    ):
        # grpc.aio's own thread is there from the first connection on, whoever makes it.
        await other.channel_ready()
        start = threading.active_count()
        for _ in range(rounds):
            for size in random.sample(sizes, len(sizes)):
                crowds[size].append(await _measure(server, size, ThreadPeak(start)))
    return crowds


TIMES = ("waiting_us", "answered_us", "warm_us", "cancelled_us")


def summary(crowds: Sequence[Crowd]) -> dict[str, object]:
    """Return the counts at their worst and the spread of the times."""
    counts = {
        name: max(getattr(crowd, name) for crowd in crowds)
        for name in ("token_requests", "failed", "threads")
    }
    return {**counts, **{name: _spread(crowds, name) for name in TIMES}}


def growth(crowds: dict[int, list[Crowd]], name: str) -> float:
    """Return how many times as much a call costs in the largest crowd as in the smallest."""
    return _spread(crowds[max(crowds)], name).median / _spread(crowds[min(crowds)], name).median


def _spread(crowds: Sequence[Crowd], name: str) -> Spread:
    return Spread.of([getattr(crowd, name) for crowd in crowds])


def broken_promises(crowds: dict[int, list[Crowd]]) -> list[str]:
    """Return what does not hold, as sentences."""
    all_crowds = [crowd for of_size in crowds.values() for crowd in of_size]
    broken = []
    if any(crowd.token_requests != 1 for crowd in all_crowds):
        broken.append("A crowd made more than one token request, or none.")
    if any(crowd.failed for crowd in all_crowds):
        broken.append("Calls failed.")
    grown = {name: growth(crowds, name) for name in ("waiting_us", "cancelled_us")}
    broken += [f"{name} grew {times:.2f} times." for name, times in grown.items() if times > GROWTH_ALLOWED]
    return broken


def _show(crowds: dict[int, list[Crowd]]) -> None:
    columns = (
        "calls",
        "token requests",
        "failed",
        "threads",
        *(name.replace("_us", " µs") for name in TIMES),
    )
    rows = []
    for size, of_size in crowds.items():
        figures = summary(of_size)
        counts = [str(figures[name]) for name in ("token_requests", "failed", "threads")]
        rows.append((str(size), *counts, *(f"{_spread(of_size, name).median:.1f}" for name in TIMES)))
    rows.append(("growth", "", "", "", *(f"{growth(crowds, name):.2f}" for name in TIMES)))
    print_table("Cold crowds: counts at their worst, medians of the times per call", columns, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-gc", action="store_true", help="collect garbage between the measurements only")
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    if arguments.no_gc:
        gc.disable()
    crowds = asyncio.run(run(arguments.sizes, arguments.rounds))
    broken = broken_promises(crowds)
    if arguments.json:
        figures = {str(size): summary(of_size) for size, of_size in crowds.items()}
        print_json({"rounds": arguments.rounds, "sizes": figures, "broken": broken})
        return
    _show(crowds)
    print_note(
        " ".join(["BROKEN:", *broken])
        if broken
        else "Promised: one token request, no failure, no growth. Kept."
    )


if __name__ == "__main__":
    main()
