"""How long the first answer takes where the token and the connection take 300 ms each.

    python benchmarks/first_answer.py [--rounds 8] [--seconds 0.3] [--json]

The authority answers after that time, and a proxy in front of the gRPC server passes a new connection on
after it. Timed is everything from the making of the channel to the first answer:

    ready    `connect(ready_timeout=10)`: token and connection start together, before the first RPC
    connect  `connect()`, and the first RPC
    lazy     `LazyChannel`, which opens itself at its first RPC

The three take turns in shuffled order; the ratio is the median of a round's ratio to `ready`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from figures import Spread, print_json, print_table
from server_process import EchoStub, ServerProcess

import aio_authgrpc
from aio_authgrpc.testing import ChaosProxy

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_PAYLOAD = b"x" * 32

Arguments = dict[str, Any]
"""The keyword arguments of `connect`."""


async def _ready(target: str, arguments: Arguments) -> None:
    async with aio_authgrpc.connect(target, EchoStub, ready_timeout=10, **arguments) as stub:
        await stub.echo(_PAYLOAD)


async def _connect(target: str, arguments: Arguments) -> None:
    async with aio_authgrpc.connect(target, EchoStub, **arguments) as stub:
        await stub.echo(_PAYLOAD)


async def _lazy(target: str, arguments: Arguments) -> None:
    channel = aio_authgrpc.LazyChannel(target, **arguments)
    await EchoStub(channel).echo(_PAYLOAD)
    await channel.close()


WAYS: dict[str, Callable[[str, Arguments], Awaitable[None]]] = {
    "ready": _ready,
    "connect": _connect,
    "lazy": _lazy,
}


async def _pass_late(proxy: ChaosProxy, seconds: float) -> None:
    gate = proxy.hold(times=1)
    await gate.arrived.wait()
    await asyncio.sleep(seconds)
    gate.release()


async def _first_answer(
    server: ServerProcess, seconds: float, way: Callable[[str, Arguments], Awaitable[None]]
) -> float:
    arguments = {
        "credentials": aio_authgrpc.service_account(server.key_file, scopes=_SCOPES),
        "ssl_credentials": grpc.ssl_channel_credentials(server.ca_pem),
    }
    async with ChaosProxy(server.target) as proxy:
        passing = asyncio.create_task(_pass_late(proxy, seconds))
        await asyncio.sleep(0)
        start = time.perf_counter()
        await way(proxy.target, arguments)
        took = time.perf_counter() - start
        await passing
    return took


async def run(rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the seconds to the first answer, round by round, for each way."""
    took: dict[str, list[float]] = {name: [] for name in WAYS}
    async with ServerProcess() as server:
        first = partial(_first_answer, server, seconds)
        for way in WAYS.values():
            await first(way)  # what is imported and parsed once
        await server.order("delay", seconds)
        for _ in range(rounds):
            for name in random.sample(list(WAYS), len(WAYS)):
                took[name].append(await first(WAYS[name]))
    return took


def summary(took: dict[str, list[float]]) -> dict[str, dict[str, Spread]]:
    """Return, for each way, the milliseconds and the ratio to `ready`."""
    return {
        name: {
            "ms": Spread.of([1000 * one for one in own]),
            "ratio": Spread.of([one / ready for one, ready in zip(own, took["ready"], strict=True)]),
        }
        for name, own in took.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.3, help="that token and connection take")
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    arguments = parser.parse_args()
    figures = summary(asyncio.run(run(arguments.rounds, arguments.seconds)))
    if arguments.json:
        print_json({"rounds": arguments.rounds, "seconds": arguments.seconds, "ways": figures})
        return
    rows = [
        (name, *own["ms"].with_quartiles(0), *own["ratio"].with_quartiles()) for name, own in figures.items()
    ]
    print_table("The first answer", ("way", "ms", "quartiles", "ratio", "quartiles"), rows)


if __name__ == "__main__":
    main()
