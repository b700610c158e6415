"""How long the event loop stands still while a channel opens and the first call waits for a slow token.

    python benchmarks/loop_stall.py [--rounds 12] [--delay 0.4] [--json]

Every round is a fresh interpreter, so that what is imported at the first use counts (`first_call.py`). There
a task wakes up every millisecond and notes how late it was at most while

    opening                `connect()` reads a service account's key file
    waiting for the token  the token endpoint takes 400 ms to answer
    first RPC              grpc connects, with TLS, and the response comes

and, for comparison, before all that, when nothing happens (idle), and while a plain grpc.aio channel with
metadata passed by hand does the same, in rounds of its own. The server and the authority are in another
process. The promise is a median under 10 ms while the token is fetched; what the machine itself adds shows in
`idle`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from figures import Spread, print_json, print_note, print_table
from server_process import ServerProcess

PROMISE_MS = 10.0
CALLERS = ("aio_authgrpc", "plain")
PHASES = ("idle", "opening", "waiting for the token", "first RPC")
# Those that are the channel's doing.
BUSY = PHASES[1:]

Stalls = Mapping[str, float]
"""The longest stall of each phase of one round, in milliseconds."""


async def _first_call(settings: Mapping[str, str]) -> Stalls:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("first_call.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(json.dumps(settings).encode()), 60)
    except TimeoutError:
        process.kill()
        raise
    return {phase: 1000 * seconds for phase, seconds in json.loads(output).items()}


def _write_files(directory: Path, server: ServerProcess) -> dict[str, str]:
    ca, key = directory / "ca.pem", directory / "key.json"
    ca.write_bytes(server.ca_pem)
    key.write_text(json.dumps(server.key_file))
    return {"ca_path": str(ca), "key_path": str(key)}


async def run(rounds: int, delay: float) -> dict[str, list[Stalls]]:
    """Let each caller make its first call in `rounds` interpreters.

    Args:
        rounds: How many each.
        delay: Seconds that the token endpoint takes.
    """
    stalls: dict[str, list[Stalls]] = {who: [] for who in CALLERS}
    async with ServerProcess() as server:
        with tempfile.TemporaryDirectory() as directory:
            settings = {"target": server.target, **_write_files(Path(directory), server)}
            await server.order("delay", delay)
            for _ in range(rounds):
                for who in random.sample(CALLERS, len(CALLERS)):
                    stalls[who].append(await _first_call({"who": who, **settings}))
    return stalls


def summary(rounds: Sequence[Stalls]) -> dict[str, Spread]:
    """Return the spread of the longest stall in each phase, and in all of them together but `idle`."""
    spreads = {phase: Spread.of([one[phase] for one in rounds]) for phase in PHASES if phase in rounds[0]}
    return {**spreads, "longest": Spread.of([max(one.get(phase, 0.0) for phase in BUSY) for one in rounds])}


def where(rounds: Sequence[Stalls]) -> dict[str, int]:
    """Return how often the longest stall fell into which phase."""
    return dict(Counter(max(BUSY, key=lambda phase: one.get(phase, 0.0)) for one in rounds).most_common())


def _show(stalls: Mapping[str, Sequence[Stalls]]) -> None:
    for who, rounds in stalls.items():
        rows = [
            (phase, *spread.with_quartiles(1), f"{spread.maximum:.1f}")
            for phase, spread in summary(rounds).items()
        ]
        print_table(f"{who}: longest stall in ms", ("phase", "median", "quartiles", "maximum"), rows)
        print_note(
            f"The longest fell into: {', '.join(f'{phase} ({n})' for phase, n in where(rounds).items())}"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--delay", type=float, default=0.4, help="seconds that the token endpoint takes")
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    stalls = asyncio.run(run(arguments.rounds, arguments.delay))
    ours = summary(stalls["aio_authgrpc"])["waiting for the token"]
    kept = ours.median < PROMISE_MS
    if arguments.json:
        figures = {who: {"ms": summary(rounds), "where": where(rounds)} for who, rounds in stalls.items()}
        print_json({"rounds": arguments.rounds, "callers": figures, "kept": kept})
        return
    _show(stalls)
    verdict = "Kept." if kept else "BROKEN."
    print_note(f"Promised: a median under {PROMISE_MS:g} ms while the token is fetched. {verdict}")


if __name__ == "__main__":
    main()
