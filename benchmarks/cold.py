"""What a crowd of calls without a token costs: one token request, and hardly more than with a token.

    python benchmarks/cold.py [--sizes 1000 10000] [--rounds 5] [--no-gc] [--json]

A service account's token is exchanged at a real authority, which holds the request while the calls pile up;
it and the gRPC server are in another process. In every round, for every size, in shuffled order,

    cold        a connection is opened anew, that many calls are made, which have to wait, and the authority
                lets the request pass: CPU time per call from the first line to the last response, and the
                part of it until each of them waits
    warm        as many calls on a connection that has its token: the same
    cancelled   on another new connection, as many tasks that await a call are cancelled: CPU time per call

`cold / warm` is the median of the rounds' ratios. Counted are the token requests (1, however many calls
wait), the calls that failed (none), this package's tasks while the calls wait, and the threads at most beyond
those before the first `connect()`. Neither waiting nor cancelling may grow with the size, beyond what
Python's garbage collector makes of a larger heap: `--no-gc` leaves that out.
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
from functools import partial

import grpc.aio
from figures import Spread, print_json, print_note, print_table
from server_process import EchoStub, ServerProcess

import aio_authgrpc

PAYLOAD = b"x" * 32
_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
# The garbage collector, colder caches and a noisy machine make up to twice as much of it. What grows with the
# size, such as a search through those who wait, is ten times as much from 1 000 to 10 000.
GROWTH_ALLOWED = 2.5
# For ten thousand calls on a slow machine; a crowd that hangs should not do so for ever.
_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """What one crowd did; times in microseconds per call, CPU but for the wall times."""

    token_requests: int
    failed: int
    tasks: int
    threads: int
    cold_us: float
    waiting_us: float
    warm_us: float
    cold_wall_us: float
    warm_wall_us: float
    cancelled_us: float

    @property
    def ratio(self) -> float:
        """CPU time of the calls without a token for that of those with one."""
        return self.cold_us / self.warm_us


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
    async with _connect(server) as stub:
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


class Stopwatch:
    """CPU and wall time from its making on."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    @property
    def cpu(self) -> float:
        """Seconds of CPU time so far."""
        return time.process_time() - self._cpu

    @property
    def wall(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._wall


Part = dict[str, float]
"""Some attributes of a `Crowd`; times in seconds, all calls together."""


def _failed(answers: Sequence[object]) -> int:
    return sum(isinstance(answer, BaseException) for answer in answers)


def _tasks_of_ours() -> int:
    return sum(task.get_name().startswith("aio_authgrpc") for task in asyncio.all_tasks())


async def _cold(server: ServerProcess, size: int, threads: ThreadPeak) -> Part:
    """Let `size` calls wait for a token, and be answered."""
    async with _held(server) as (stub, first):
        gc.collect()
        watch = Stopwatch()
        calls = [stub.echo(PAYLOAD) for _ in range(size)]
        await _settle()
        waiting = watch.cpu
        threads.look()
        tasks = _tasks_of_ours()
        answers = asyncio.gather(first, *calls, return_exceptions=True)
        await server.order("release")
        failed = _failed(await asyncio.wait_for(answers, _TIMEOUT))
        cold = {"cold_us": watch.cpu, "waiting_us": waiting, "cold_wall_us": watch.wall}
    return {"failed": failed, "tasks": tasks, **cold}


async def _warm(stub: EchoStub, size: int) -> Part:
    """Let `size` calls be answered that have a token."""
    gc.collect()
    watch = Stopwatch()
    calls = [stub.echo(PAYLOAD) for _ in range(size)]
    failed = _failed(await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), _TIMEOUT))
    return {"failed_warm": failed, "warm_us": watch.cpu, "warm_wall_us": watch.wall}


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


async def _measure(server: ServerProcess, warm: EchoStub, size: int, threads: ThreadPeak) -> Crowd:
    await server.order("token_requests")
    watching = asyncio.create_task(threads.watch())
    parts = [partial(_cold, server, size, threads), partial(_warm, warm, size)]
    measured: Part = {}
    for part in random.sample(parts, len(parts)):
        measured |= await part()
    token_requests = await server.order("token_requests")
    measured["cancelled_us"] = await _cancel(server, size)
    watching.cancel()
    failed = int(measured.pop("failed") + measured.pop("failed_warm"))
    tasks = int(measured.pop("tasks"))
    each = {name: 1e6 * seconds / size for name, seconds in measured.items()}
    return Crowd(token_requests=token_requests, failed=failed, tasks=tasks, threads=threads.peak, **each)


def _connect(server: ServerProcess) -> aio_authgrpc.Connection[EchoStub]:
    credentials = aio_authgrpc.service_account(server.key_file, scopes=_SCOPES)
    return aio_authgrpc.connect(
        server.target, EchoStub, credentials=credentials, ssl_credentials=server.ssl_credentials
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
        async with _connect(server) as warm:
            await _warm(warm, min(sizes))
            for _ in range(rounds):
                for size in random.sample(sizes, len(sizes)):
                    crowds[size].append(await _measure(server, warm, size, ThreadPeak(start)))
    return crowds


TIMES = ("cold_us", "waiting_us", "warm_us", "cold_wall_us", "warm_wall_us", "cancelled_us")
COUNTS = ("token_requests", "failed", "tasks", "threads")


def summary(crowds: Sequence[Crowd]) -> dict[str, object]:
    """Return the counts at their worst, and the spread of the ratios and the times."""
    counts = {name: max(getattr(crowd, name) for crowd in crowds) for name in COUNTS}
    ratio = Spread.of([crowd.ratio for crowd in crowds])
    return {**counts, "ratio": ratio, **{name: _spread(crowds, name) for name in TIMES}}


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
        *(name.removeprefix("token_") for name in COUNTS),
        "ratio",
        *(name.removesuffix("_us").replace("_", " ") for name in TIMES),
    )
    rows = []
    for size, of_size in crowds.items():
        figures = summary(of_size)
        counts = [str(figures[name]) for name in COUNTS]
        ratio = f"{_spread(of_size, 'ratio').median:.2f}"
        rows.append((str(size), *counts, ratio, *(f"{_spread(of_size, name).median:.1f}" for name in TIMES)))
    rows.append(("growth", *([""] * len(COUNTS)), "", *(f"{growth(crowds, name):.2f}" for name in TIMES)))
    print_table(
        "Cold crowds: counts at their worst, medians of µs of CPU per call, or of wall time", columns, rows
    )


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
        collector = gc.isenabled()
        print_json({"rounds": arguments.rounds, "collector": collector, "sizes": figures, "broken": broken})
        return
    _show(crowds)
    print_note(
        " ".join(["BROKEN:", *broken])
        if broken
        else "Promised: one token request, no failure, no growth. Kept."
    )


if __name__ == "__main__":
    main()
