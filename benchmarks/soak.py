"""Two hundred callers, tokens that live for three seconds, and all that can go wrong, for a minute or more.

    python benchmarks/soak.py [--minutes 1] [--callers 200] [--rate 1000] [--seed 1] [--json]

The authority and the gRPC server are in processes of their own, each behind a chaos proxy. The callers make
unary RPCs, each after a random pause, with `wait_for_ready` and a timeout of 10 s. Meanwhile, with rests, the
token endpoint fails, lies, hangs, breaks off and goes down, the network is cut, freezes and goes down
(`soak_chaos.py` has the list), and the server is restarted twice on its port.

A failure is explained by an outage of the token endpoint that lasted longer than the token did, and by a
network that was cut or a server that was stopped under a call. Promised, and the exit code is 1 where it is
not kept:

- no failure without such an explanation;
- token requests within 5 % of the rotations and the retries that the back-off allows, none too early;
- p99.9 of the latency in windows of 250 ms with a rotation at most 1.2 times that in windows without one,
  while nothing is disturbed;
- memory grows by less than 2 MB from the first minute on (in a run of one minute: from the 20th second on);
- no task and no thread left.

A run of less than a minute judges neither latency nor memory: it has too little of them. How much of the
longest stall is the process's own, and not a wait for a core that others had, is told apart on Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import os
import random
import sys
import threading
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from figures import print_json, print_note, print_table
from first_token import OwnStallWatch
from server_process import EchoStub, OrderedProcess
from soak_chaos import Chaos, Refreshes

import aio_authgrpc

PAYLOAD = b"x" * 32
LIFETIME = 3.0
WINDOW = 0.25
_CALL_TIMEOUT = 10.0
# One HTTP request: longer than the slow answers, shorter than a token's life.
_HTTP_TIMEOUT = 0.5
_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]

MAX_RATIO = 1.2
MAX_GROWTH = 2.0
MAX_REQUESTS = 1.05


class Latencies:
    """Counts latencies in bins of 2 %, in memory that does not grow."""

    _smallest = 1e-5
    _width = math.log(1.02)

    def __init__(self) -> None:
        self._bins = array("Q", bytes(8 * 1000))
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count one."""
        place = int(math.log(max(seconds, self._smallest) / self._smallest) / self._width)
        self._bins[min(place, len(self._bins) - 1)] += 1
        self.count += 1

    def take(self, other: Latencies) -> None:
        """Count what another has counted, and empty that."""
        for place, count in enumerate(other._bins):
            if count:
                self._bins[place] += count
                other._bins[place] = 0
        self.count, other.count = self.count + other.count, 0

    def percentile(self, percent: float) -> float:
        """Return the latency in milliseconds that so many percent do not exceed; 0 where there is none."""
        left = self.count * percent / 100
        for place, count in enumerate(self._bins):
            left -= count
            if count and left <= 0:
                return 1000 * self._smallest * math.exp(self._width * (place + 1))
        return 0.0


def memory() -> float:
    """Return the process's resident memory in MB, garbage collected; 0 where Linux does not tell."""
    path = Path("/proc/self/statm")
    gc.collect()
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if path.exists() else 0.0


@dataclass(slots=True)
class Soak:
    """What a soak found."""

    seconds: float
    calls: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    all_calls: Latencies = field(default_factory=Latencies)
    with_rotation: Latencies = field(default_factory=Latencies)
    without: Latencies = field(default_factory=Latencies)
    refreshes: Refreshes = field(default_factory=Refreshes)
    received: int = 0
    disturbances: Counter[str] = field(default_factory=Counter)
    stalls: dict[str, float] = field(default_factory=dict)
    own_stalls: dict[str, float] = field(default_factory=dict)
    memory_before: float = 0.0
    memory_after: float = 0.0
    tasks_left: int = 0
    threads_left: int = 0

    @property
    def unexplained(self) -> int:
        """How many failures no disturbance explains."""
        return sum(count for cause, count in self.failures.items() if cause.startswith("UNEXPLAINED"))

    @property
    def allowed_requests(self) -> float:
        """How many tokens are needed, each from the stale window of the one before on, and the retries."""
        needed = self.seconds / (0.8 * LIFETIME) + 1
        return needed + self.refreshes.attempts - self.refreshes.rotations

    @property
    def requests_ratio(self) -> float:
        """How many requests were made for each that is allowed."""
        return max(self.refreshes.attempts, self.received) / self.allowed_requests

    @property
    def latency_ratio(self) -> float:
        """P99.9 in windows with a rotation for each millisecond of those without."""
        return self.with_rotation.percentile(99.9) / max(self.without.percentile(99.9), 1e-9)

    @property
    def settled(self) -> float:
        """How many seconds pass before memory is looked at for the first time."""
        return min(60.0, self.seconds / 3)

    @property
    def memory_growth(self) -> float:
        """How many MB the process grew by after it had settled."""
        return self.memory_after - self.memory_before

    def broken(self) -> list[str]:
        """Return what does not hold, as sentences."""
        growth, long = self.memory_growth, self.seconds >= 60
        promises = {
            f"{self.unexplained} failures are not explained.": not self.unexplained,
            f"Token requests: {self.requests_ratio:.2f} of what is allowed.": self.requests_ratio
            <= MAX_REQUESTS,
            f"{self.refreshes.too_early} refreshes were too early.": not self.refreshes.too_early,
            f"p99.9 with a rotation is {self.latency_ratio:.2f} times that without.": not long
            or self.latency_ratio <= MAX_RATIO,
            f"Memory grew by {growth:.1f} MB.": not long or growth < MAX_GROWTH,
            f"{self.tasks_left} tasks are left.": not self.tasks_left,
            f"{self.threads_left} threads are left.": not self.threads_left,
            "No call was made.": self.calls > 0,
        }
        return [sentence for sentence, kept in promises.items() if not kept]

    def figures(self) -> dict[str, str]:
        """Return what is printed, by its name."""
        counted, refreshes = self.all_calls, self.refreshes
        both = (self.with_rotation, self.without)
        tails = " / ".join(f"{part.percentile(99.9):.1f}" for part in both)
        return {
            "calls": f"{self.calls}",
            "disturbances": f"{self.disturbances.total()} of {len(self.disturbances)} kinds",
            "failures, unexplained": f"{self.unexplained}",
            **{f"failures: {cause}": f"{count}" for cause, count in sorted(self.failures.items())},
            "tokens fetched": f"{refreshes.rotations}",
            "refreshes that failed": f"{refreshes.failed}",
            "token requests sent / received / allowed": f"{refreshes.attempts} / {self.received} / "
            f"{self.allowed_requests:.0f}",
            "latency p50 / p99 / p99.9 in ms": " / ".join(
                f"{counted.percentile(p):.1f}" for p in (50, 99, 99.9)
            ),
            "undisturbed calls with a rotation / without": " / ".join(f"{part.count}" for part in both),
            "their p99 in ms": " / ".join(f"{part.percentile(99):.1f}" for part in both),
            "their p99.9 in ms": f"{tails}, ratio {self.latency_ratio:.2f}",
            **{
                f"longest stall in ms {part} a refresh, all / own": f"{1000 * self.stalls[part]:.1f} / "
                f"{1000 * self.own_stalls[part]:.1f}"
                for part in sorted(self.stalls)
            },
            "memory in MB, before / after": f"{self.memory_before:.1f} / {self.memory_after:.1f}",
            "tasks / threads left": f"{self.tasks_left} / {self.threads_left}",
        }

    def measures(self) -> dict[str, float]:
        """Return what versions of grpcio and Python are compared by, as numbers; memory in MB."""
        return {
            "seconds": self.seconds,
            "watched_seconds": self.seconds - self.settled,
            "calls": self.calls,
            "unexplained": self.unexplained,
            "latency_ratio": self.latency_ratio,
            "memory_after": self.memory_after,
            "memory_growth": self.memory_growth,
            "memory_growth_per_hour": self.memory_growth * 3600 / (self.seconds - self.settled),
            "tasks_left": self.tasks_left,
            "threads_left": self.threads_left,
        }


class Callers:
    """Make calls, one each at a time, and notes how long they took and why they failed.

    Args:
        stub: What they call.
        soak: Where that is noted.
        chaos: Tells why a call failed.
        pause: Seconds between two calls of one caller, on average.
    """

    def __init__(self, stub: EchoStub, soak: Soak, chaos: Chaos, pause: float) -> None:
        self._stub = stub
        self._soak = soak
        self._chaos = chaos
        self._pause = pause
        self._window = Latencies()
        self._loop = asyncio.get_running_loop()

    async def run(self, rng: random.Random) -> None:
        """Call until cancelled."""
        while True:
            await asyncio.sleep(rng.expovariate(1 / self._pause))
            began_at = self._loop.time()
            try:
                await self._stub.echo(PAYLOAD, timeout=_CALL_TIMEOUT, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                ended_at = self._loop.time()
                offset = time.time() - ended_at
                self._soak.failures[self._chaos.cause_of(error, began_at, ended_at, offset)] += 1
            else:
                taken = self._loop.time() - began_at
                self._soak.all_calls.add(taken)
                self._window.add(taken)
            self._soak.calls += 1

    async def sort_windows(self) -> None:
        """File each window's latencies, until cancelled: with a rotation, without, or neither (disturbed)."""
        refreshes = self._soak.refreshes
        while True:
            began_at = self._loop.time()
            await asyncio.sleep(WINDOW)
            if self._chaos.in_force(began_at, self._loop.time()):
                self._window = Latencies()
            elif refreshes.seen:
                self._soak.with_rotation.take(self._window)
            else:
                self._soak.without.take(self._window)
            refreshes.seen = refreshes.under_way


async def _ended(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):  # a mistake of this script's
            raise outcome


async def _let_it_run(stub: EchoStub, soak: Soak, chaos: Chaos, arguments: argparse.Namespace) -> None:
    callers = Callers(stub, soak, chaos, arguments.callers / arguments.rate)
    watch = OwnStallWatch(lambda: "with" if soak.refreshes.under_way else "without")
    rng = random.Random(arguments.seed)
    await stub.echo(PAYLOAD, timeout=_CALL_TIMEOUT)
    tasks = [asyncio.create_task(callers.run(random.Random(rng.random()))) for _ in range(arguments.callers)]
    tasks += [asyncio.create_task(run) for run in (callers.sort_windows(), watch.run(), chaos.run())]
    watched = soak.seconds - soak.settled
    try:
        await asyncio.sleep(soak.settled / 2)
        await chaos.restart_server()
        await asyncio.sleep(soak.settled / 2)
        soak.memory_before = memory()
        await asyncio.sleep(watched / 2)
        await chaos.restart_server()
        await asyncio.sleep(watched / 2)
        soak.memory_after = memory()
    finally:
        await _ended(tasks)
    soak.stalls, soak.own_stalls = watch.longest, watch.own


async def run(arguments: argparse.Namespace) -> Soak:
    """Soak, and return what that found."""
    soak = Soak(arguments.seconds or 60 * arguments.minutes)
    async with (
        OrderedProcess("serve_soak.py", "authority") as authority,
        OrderedProcess("serve_soak.py", "server") as server,
    ):
        place = await server.order("describe")
        trusted = grpc.ssl_channel_credentials(place["ca_pem"].encode())
        async with grpc.aio.secure_channel(place["target"], trusted) as other:
            await other.channel_ready()  # grpc.aio's own thread is there from now on
            tasks, threads = asyncio.all_tasks(), threading.active_count()
            async with aio_authgrpc.AiohttpRequest(timeout=_HTTP_TIMEOUT) as request:
                connection = aio_authgrpc.connect(
                    place["target"],
                    EchoStub,
                    credentials=aio_authgrpc.service_account(
                        await authority.order("describe"), scopes=_SCOPES
                    ),
                    ssl_credentials=trusted,
                    request=request,
                    options=_OPTIONS,
                )
                chaos = Chaos(authority, server, random.Random(arguments.seed), soak.refreshes)
                async with connection as stub:
                    connection.auth.subscribe(soak.refreshes.note)
                    await _let_it_run(stub, soak, chaos, arguments)
            soak.disturbances = chaos.counts
            soak.tasks_left = len(asyncio.all_tasks() - tasks)
            soak.threads_left = threading.active_count() - threads
        soak.received = await authority.order("token_requests")
    return soak


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, help="in place of minutes")
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1000.0, help="calls a second, all callers together")
    parser.add_argument("--seed", type=int, default=1, help="of the disturbances and the pauses")
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    return parser.parse_args()


def main() -> int:
    """Soak and print; return the exit code."""
    arguments = _arguments()
    soak = asyncio.run(run(arguments))
    broken = soak.broken()
    if arguments.json:
        print_json({"figures": soak.figures(), "measures": soak.measures(), "broken": broken})
    else:
        print_table(f"A soak of {soak.seconds:g} s", ("what", "figure"), list(soak.figures().items()))
        print_note(" ".join(["BROKEN:", *broken]) if broken else "All promises kept.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
