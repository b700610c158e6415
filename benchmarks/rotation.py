"""The latency of calls while tokens rotate: with tokens that live for 3 s, beside a plain channel.

    python benchmarks/rotation.py [--seconds 20] [--rate 400] [--token-takes 0.3] [--json]

Two channels, one of this package and a plain one with metadata passed by hand, make unary RPCs at the same
rate to the same server, each call at a random moment. The authority is in a process of its own, so that
signing a token holds no call up, and takes 300 ms for each. Windows of 100 ms in which a token was being
fetched are told from those without; the latency's p50, p99 and p99.9 of both are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc.aio
from contenders import METADATA
from figures import print_json, print_table
from server_process import EchoStub, ServerProcess

import aio_authgrpc
from aio_authgrpc.events import RefreshStarted, RefreshSucceeded, TokenEvent

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_PAYLOAD = b"x" * 32
_LIFETIME = 3.0
_WINDOW = 0.1
_WARM_UP = 1.0

Call = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Rotations:
    """When tokens were being fetched, by the loop's clock."""

    periods: list[list[float]] = field(default_factory=list)

    def note(self, event: TokenEvent) -> None:
        """Take an event of the token."""
        now = asyncio.get_running_loop().time()
        if isinstance(event, RefreshStarted):
            self.periods.append([now, float("inf")])
        elif isinstance(event, RefreshSucceeded):
            self.periods[-1][1] = now

    def at(self, start: float, end: float) -> bool:
        """Return whether a token was being fetched at some time from `start` to `end`."""
        return any(began < end and ended > start for began, ended in self.periods)


Latencies = list[tuple[float, float]]
"""When a call began, by the loop's clock, and how many seconds it took."""


async def _call_at_random(call: Call, rate: float, seconds: float, seen: Latencies) -> None:
    loop = asyncio.get_running_loop()
    rng = random.Random(rate)

    async def timed() -> None:
        began_at = loop.time()
        await call()
        seen.append((began_at, loop.time() - began_at))

    due_at, end_at = loop.time(), loop.time() + seconds
    async with asyncio.TaskGroup() as group:
        while (due_at := due_at + rng.expovariate(rate)) < end_at:
            await asyncio.sleep(due_at - loop.time())
            group.create_task(timed())


def percentiles(latencies: list[float]) -> dict[str, float]:
    """Return how many calls there were, and percentiles of their latency in milliseconds."""
    cuts = statistics.quantiles(latencies, n=1000, method="inclusive")
    return {"calls": len(latencies), **{f"p{p:g}": 1000 * cuts[round(10 * p) - 1] for p in (50, 99, 99.9)}}


def summary(seen: Latencies, rotations: Rotations) -> dict[str, dict[str, float]]:
    """Return the percentiles of calls that began in windows with and without a rotation."""
    with_rotation: list[float] = []
    without: list[float] = []
    for began_at, took in seen:
        start = began_at - began_at % _WINDOW
        (with_rotation if rotations.at(start, start + _WINDOW) else without).append(took)
    return {"with": percentiles(with_rotation), "without": percentiles(without)}


def windows(seen: Latencies, start_at: float) -> list[dict[str, float]]:
    """Return the median and the largest latency, in milliseconds, of each window."""
    by_window: dict[int, list[float]] = {}
    for began_at, took in seen:
        by_window.setdefault(int((began_at - start_at) / _WINDOW), []).append(1000 * took)
    return [
        {"at": number * _WINDOW, "median": statistics.median(own), "max": max(own)}
        for number, own in sorted(by_window.items())
    ]


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Let both channels call; return what that took."""
    rotations = Rotations()
    async with ServerProcess(token_lifetime=_LIFETIME) as authority, ServerProcess() as server:
        await authority.order("delay", arguments.token_takes)
        plain = grpc.aio.secure_channel(server.target, server.ssl_credentials)
        connection = aio_authgrpc.connect(
            server.target,
            EchoStub,
            credentials=aio_authgrpc.service_account(authority.key_file, scopes=_SCOPES),
            ssl_credentials=server.ssl_credentials,
        )
        async with plain, connection as stub:
            connection.auth.subscribe(rotations.note)
            calls: dict[str, Call] = {
                "aio_authgrpc": partial(stub.echo, _PAYLOAD),
                "plain": partial(EchoStub(plain).echo, _PAYLOAD, metadata=METADATA),
            }
            await asyncio.gather(*(_call_at_random(call, 50, _WARM_UP, []) for call in calls.values()))
            start_at = asyncio.get_running_loop().time()
            seen: dict[str, Latencies] = {name: [] for name in calls}
            await asyncio.gather(
                *(
                    _call_at_random(call, arguments.rate, arguments.seconds, seen[name])
                    for name, call in calls.items()
                )
            )
    return {
        "seconds": arguments.seconds,
        "rate": arguments.rate,
        "token_lifetime": _LIFETIME,
        "token_takes": arguments.token_takes,
        "rotations": [[round(at - start_at, 3) for at in period] for period in rotations.periods],
        "latency": {name: summary(own, rotations) for name, own in seen.items()},
        "windows": {name: windows(own, start_at) for name, own in seen.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=400.0, help="calls a second of each channel")
    parser.add_argument("--token-takes", type=float, default=0.3, help="seconds")
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    arguments = parser.parse_args()
    found = asyncio.run(run(arguments))
    if arguments.json:
        print_json(found)
        return
    rows = [
        (f"{name}, {part} a rotation", *(f"{value:.1f}" for value in figures.values()))
        for name, parts in found["latency"].items()
        for part, figures in parts.items()
    ]
    print_table(f"{len(found['rotations'])} rotations", ("ms", "calls", "p50", "p99", "p99.9"), rows)


if __name__ == "__main__":
    main()
