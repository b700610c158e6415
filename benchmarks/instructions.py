"""What a warm token costs in processor instructions: figures that a busy machine hardly touches.

    python benchmarks/instructions.py [--modes sequential wide ...] [--contenders "plain again" aio_authgrpc]
        [--json]

It needs valgrind, whose callgrind counts the instructions of the client's process, all of its threads and
gRPC's core included; what the kernel does is not counted. The server is in another process, with TLS, and
the contenders and modes are those of `overhead.py`, with 100 RPCs under way in `wide`. Each client runs
twice, for a small and a large number of RPCs or messages; the difference of the two counts, divided by that
of the numbers, leaves the start of the process out. What a wake-up of the event loop finds to do still
depends on the machine: `plain again` says how much.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
from contenders import OPENERS, Place
from figures import print_json, print_table
from overhead import all_modes
from server_process import ServerProcess

_WIDTH = 100
_WARM = 50
# The small and the large number of RPCs, or messages.
_NUMBERS = {
    "sequential": (100, 1100),
    "wide": (200, 2200),
    "stream": (500, 5500),
    "stream-stream": (500, 5500),
    "short-streams": (100, 1100),
}
_AT_ONCE = 2
_TIMEOUT = 300.0

Counts = dict[str, dict[str, float]]
"""Instructions of an RPC or message, by mode and contender."""


async def _client(told: dict[str, Any]) -> None:
    """Open a contender, warm it up, and let it do its part."""
    trusted = grpc.ssl_channel_credentials(told["ca_pem"].encode())
    mode = all_modes(_WIDTH)[told["mode"]]
    async with AsyncExitStack() as stack:
        contender = await OPENERS[told["contender"]][0](stack, Place(told["target"], trusted, {}))
        await mode.run(contender, _WARM)
        gc.collect()
        await mode.run(contender, told["number"])


async def _count(server: ServerProcess, turn: asyncio.Semaphore, mode: str, name: str, number: int) -> int:
    """Return the instructions of a client's whole process."""
    told = {
        "target": server.target,
        "ca_pem": server.ca_pem.decode(),
        "mode": mode,
        "contender": name,
        "number": number,
    }
    async with turn:
        process = await asyncio.create_subprocess_exec(
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(sys.executable, __file__, "--client"),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, said = await asyncio.wait_for(process.communicate(json.dumps(told).encode()), _TIMEOUT)
        except BaseException:  # another one's failure cancels this one
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
    counted = re.search(rb"Collected : (\d+)", said)
    if process.returncode or counted is None:
        raise RuntimeError(f"{name} failed in {mode}: {said.decode()[-1000:]}")
    return int(counted[1])


async def run(modes: Sequence[str], contenders: Sequence[str]) -> Counts:
    """Count every contender in every mode."""
    turn = asyncio.Semaphore(_AT_ONCE)
    async with ServerProcess() as server, asyncio.TaskGroup() as group:
        counting = {
            (mode, name, number): group.create_task(_count(server, turn, mode, name, number))
            for mode in modes
            for name in contenders
            for number in _NUMBERS[mode]
        }
    counts: Counts = {mode: {} for mode in modes}
    for mode in modes:
        small, large = _NUMBERS[mode]
        for name in contenders:
            more = counting[mode, name, large].result() - counting[mode, name, small].result()
            counts[mode][name] = more / (large - small)
    return counts


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--modes", nargs="+", choices=_NUMBERS, default=list(_NUMBERS))
    parser.add_argument(
        "--contenders", nargs="+", choices=OPENERS, default=["plain", "plain again", "aio_authgrpc"]
    )
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    parser.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Count and print."""
    arguments = _arguments()
    if arguments.client:
        asyncio.run(_client(json.load(sys.stdin)))
        return
    contenders = ["plain", *(name for name in arguments.contenders if name != "plain")]
    counts = asyncio.run(run(arguments.modes, contenders))
    if arguments.json:
        numbers = {mode: _NUMBERS[mode] for mode in counts}
        print_json({"width": _WIDTH, "numbers": numbers, "instructions": counts})
        return
    rows = [
        (mode, name, f"{count:,.0f}", f"{count / of_mode['plain']:.3f}")
        for mode, of_mode in counts.items()
        for name, count in of_mode.items()
    ]
    print_table("Instructions", ("mode", "contender", "of an RPC, or message", "of plain"), rows)


if __name__ == "__main__":
    main()
