"""What a burst of calls above the limit of streams does: failures, throughput, the client's CPU.

    python benchmarks/burst.py [--sizes 3000 30000] [--rounds 3] [--servers grpcio go envoy] [--json]

Each server allows `--streams` (100) on a connection, and takes `--seconds` (0.05) for a call; it is in a
process of its own. Envoy and Go's server are used where they are installed (see go_server/README.md). In
every round, in shuffled order, a channel is opened anew, makes one call, and then all calls of the burst at
once:

    no limit   a channel of grpc.aio, at a server of that kind without a limit: what the machine's CPU allows
    plain      a channel of grpc.aio
    1 … 8      `connect(max_connections=...)`
    8 held     the same, with at most nine tenths of what its connections admit under way at any time, by an
               `asyncio.Semaphore` around the calls
    N in turn  N connections of one connection each, used in turn: what gRPC's connection scaling replaces

Counted are the failed calls and the connections at the end. `allowed` is what the limits admit: connections ×
streams / seconds or, where it is less, the throughput of `no limit`; `share` is the throughput's part of it.

Then a quiet user: calls one after another at a server that answers at once, the client's CPU per call for a
plain channel, for one connection and for the default, and the connections that they had.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import random
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
from burst_servers import UNLIMITED, available, of_grpcio
from figures import Spread, print_json, print_note, print_table
from server_process import EchoStub

import aio_authgrpc

PAYLOAD = b"x" * 32
PLAIN = "plain"
NO_LIMIT = "no limit"
_DEFAULT = "default"
_HELD = "held"
_IN_TURN = "in turn"
_CALLS_IN_A_ROW = 2000
_TIMEOUT = 120.0  # for a burst on a slow machine; one that hangs should not do so for ever
_ESTABLISHED = "01"

Call = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """What one burst did; `per_second` are the calls that were answered."""

    failed: int
    per_second: float
    cpu_us: float
    wall: float
    connections: int


def connections_to(port: int) -> int:
    """Return how many connections of this machine lead to a port (Linux)."""
    # gRPC's sockets are of IPv6, with addresses of IPv4 in them.
    tables = [Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    columns = [line.split() for table in tables for line in table]
    return sum(there.endswith(f":{port:04X}") and state == _ESTABLISHED for _, _, there, state, *_ in columns)


@asynccontextmanager
async def _open(contender: str, port: int, streams: int = 0) -> AsyncIterator[Call]:
    """Give the function that makes a call on a contender's new channel.

    `streams` are those that the server allows on a connection.
    """
    target = f"127.0.0.1:{port}"
    async with AsyncExitStack() as opened:
        if contender in (PLAIN, NO_LIMIT):
            # Plaintext channels with equal arguments would share connections with the contender before.
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = await opened.enter_async_context(grpc.aio.insecure_channel(target, options))
            yield EchoStub(channel).echo
            return
        number, _, how = contender.partition(" ")
        in_turn = how == _IN_TURN
        stubs = [
            await opened.enter_async_context(_connect(target, 1 if in_turn else _limit(number)))
            for _ in range(int(number) if in_turn else 1)
        ]
        call = _in_turn([stub.echo for stub in stubs]) if in_turn else stubs[0].echo
        yield _held(call, round(0.9 * streams * int(number))) if how == _HELD else call


def _in_turn(methods: Sequence[Call]) -> Call:
    turns = itertools.cycle(methods)

    def call(request: bytes) -> Any:
        return next(turns)(request)

    return call


def _held(call: Call, most: int) -> Call:
    under_way = asyncio.Semaphore(most)

    async def call_when_there_is_room(request: bytes) -> Any:
        async with under_way:
            return await call(request)

    return call_when_there_is_room


def _limit(number: str) -> int | None:
    return None if number == _DEFAULT else int(number)


def _connect(target: str, max_connections: int | None) -> aio_authgrpc.Connection[EchoStub]:
    return aio_authgrpc.connect(
        target,
        EchoStub,
        credentials=aio_authgrpc.static_token("token"),
        plaintext=True,
        max_connections=max_connections,
        options=[("grpc.use_local_subchannel_pool", 1)],
    )


async def _burst(contender: str, port: int, size: int, streams: int) -> Burst:
    async with _open(contender, port, streams) as call:
        await call(PAYLOAD)
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        calls = [call(PAYLOAD) for _ in range(size)]
        async with asyncio.timeout(_TIMEOUT):
            answers = await asyncio.gather(*calls, return_exceptions=True)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        connections = connections_to(port)
    failed = sum(isinstance(answer, BaseException) for answer in answers)
    return Burst(
        failed=failed,
        per_second=(size - failed) / wall,
        cpu_us=1e6 * cpu / size,
        wall=wall,
        connections=connections,
    )


Bursts = dict[tuple[str, int, str], list[Burst]]


async def bursts(arguments: argparse.Namespace) -> Bursts:
    """Measure each server, size and contender, in shuffled order in every round."""
    limits = [str(limit) for limit in arguments.limits]
    several = [limit for limit in limits if limit != "1"]
    contenders = [NO_LIMIT, PLAIN, *limits, *(f"{limit} {_IN_TURN}" for limit in several)]
    contenders += [f"{limit} {_HELD}" for limit in limits[-1:]]
    measured: Bursts = defaultdict(list)
    servers = available()
    for name in arguments.servers or servers:
        start = servers[name]
        async with (
            start(arguments.streams, arguments.seconds) as limited,
            start(UNLIMITED, arguments.seconds) as unlimited,
        ):
            for _ in range(arguments.rounds):
                for size in arguments.sizes:
                    for contender in random.sample(contenders, len(contenders)):
                        port = unlimited if contender == NO_LIMIT else limited
                        burst = await _burst(contender, port, size, arguments.streams)
                        measured[name, size, contender].append(burst)
    order = {contender: number for number, contender in enumerate(contenders)}
    return dict(sorted(measured.items(), key=lambda item: (item[0][0], item[0][1], order[item[0][2]])))


async def in_a_row(rounds: int) -> dict[str, dict[str, object]]:
    """Measure calls one after another: the client's CPU per call, as a ratio to plain's of the same round."""
    figures: dict[str, list[float]] = defaultdict(list)
    connections: dict[str, int] = {}
    contenders = (PLAIN, "1", _DEFAULT)
    async with of_grpcio(100, 0.0) as port:
        for _ in range(rounds):
            for contender in random.sample(contenders, len(contenders)):
                async with _open(contender, port) as call:
                    await call(PAYLOAD)
                    cpu = time.process_time()
                    for _ in range(_CALLS_IN_A_ROW):
                        await call(PAYLOAD)
                    figures[contender].append(1e6 * (time.process_time() - cpu) / _CALLS_IN_A_ROW)
                    connections[contender] = connections_to(port)
    return {
        contender: {
            "cpu_us": Spread.of(of_one),
            "to_one_connection": statistics.median(
                mine / one for mine, one in zip(of_one, figures["1"], strict=True)
            ),
            "connections": connections[contender],
        }
        for contender, of_one in figures.items()
    }


def summaries(measured: Bursts, per_connection: float) -> list[dict[str, Any]]:
    """Return the medians of each server, size and contender, with what the limits allow."""
    rows: list[dict[str, Any]] = []
    for (server, size, contender), of_one in measured.items():
        middle = {
            name: statistics.median(getattr(burst, name) for burst in of_one)
            for name in ("failed", "per_second", "cpu_us", "wall", "connections")
        }
        row = {"server": server, "size": size, "contender": contender, **middle}
        row["failed_at_most"] = max(burst.failed for burst in of_one)
        row["failed_share"] = middle["failed"] / size
        row["to_plain"] = _paired(of_one, measured[server, size, PLAIN])
        pool = measured.get((server, size, f"{contender} {_IN_TURN}"))
        row["to_in_turn"] = None if pool is None else _paired(of_one, pool)
        row["to_no_limit"] = _paired(of_one, measured[server, size, NO_LIMIT])
        machine = statistics.median(burst.per_second for burst in measured[server, size, NO_LIMIT])
        number = contender.partition(" ")[0]
        connections = per_connection * int(number) if number.isdigit() else per_connection
        row["allowed"] = machine if contender == NO_LIMIT else min(connections, machine)
        row["allowed_by"] = "connections" if row["allowed"] == connections else "CPU"
        row["share"] = middle["per_second"] / row["allowed"]
        rows.append(row)
    return rows


def _paired(bursts: Sequence[Burst], others: Sequence[Burst]) -> float:
    """Return the median ratio of the throughputs of the same round."""
    return statistics.median(
        one.per_second / other.per_second for one, other in zip(bursts, others, strict=True)
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[3000, 30_000])
    parser.add_argument("--limits", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--servers", nargs="+", choices=list(available()))
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    per_connection = arguments.streams / arguments.seconds
    measured = asyncio.run(bursts(arguments))
    quiet = asyncio.run(in_a_row(arguments.rounds))
    rows = summaries(measured, per_connection)
    if arguments.json:
        print_json({"rounds": arguments.rounds, "bursts": rows, "in_a_row": quiet})
        return
    _show(rows, quiet)


def _show(rows: Sequence[dict[str, Any]], quiet: dict[str, dict[str, Any]]) -> None:
    columns = ("burst", "failed", "a second", "to plain", "allowed", "by", "share", "CPU µs", "connections")
    texts = [
        (
            f"{row['server']} {row['size']} {row['contender']}",
            f"{row['failed']:.0f}",
            f"{row['per_second']:.0f}",
            f"{row['to_plain']:.2f}",
            f"{row['allowed']:.0f}",
            row["allowed_by"],
            f"{row['share']:.2f}",
            f"{row['cpu_us']:.0f}",
            f"{row['connections']:.0f}",
        )
        for row in rows
    ]
    print_table("Bursts of calls: medians", columns, texts)
    for contender, of_one in quiet.items():
        median, quartiles = of_one["cpu_us"].with_quartiles(1)
        print_note(
            f"In a row, {contender}: {median} µs of CPU a call ({quartiles}), "
            f"{of_one['to_one_connection']:.3f} of one connection's; {of_one['connections']} connection(s)."
        )


if __name__ == "__main__":
    main()
