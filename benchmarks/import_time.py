"""How long `import aio_authgrpc` takes beyond its dependencies: grpc, grpc.aio, google.auth and aiohttp.

    python benchmarks/import_time.py [--rounds 15] [--json]

Each round is a fresh interpreter that imports the dependencies, then the package, and asks it for `connect`,
as every program does. That is the time that is promised: a median under 15 ms. The other names on top are
imported at their first use; the time for all of them together is printed beside it, and is not part of the
promise. Further interpreters with `-X importtime` name the modules that take longest by themselves, their own
imports not counted; tracing makes them slower than they are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict

from figures import Spread, print_json, print_note, print_table

PROMISE_MS = 15.0

_NEEDED = "import grpc, grpc.aio, google.auth, aiohttp"
_TIMED = f"""
import json, sys, time
start = time.perf_counter()
{_NEEDED}
middle = time.perf_counter()
known = set(sys.modules)
imported = time.perf_counter()
import aio_authgrpc
aio_authgrpc.connect
usable = time.perf_counter()
modules = len(sys.modules.keys() - known)
complete = time.perf_counter()
for name in aio_authgrpc.__all__:
    getattr(aio_authgrpc, name)
end = time.perf_counter()
print(json.dumps([middle - start, usable - imported, end - complete, modules]))
"""
_TRACED = f"""
import sys
{_NEEDED}
print("marker", file=sys.stderr)
import aio_authgrpc
aio_authgrpc.connect
"""
_TRACE_LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \| +(\S+)")
# The figures of a trace are rough whatever is done; a few show which modules come back.
_TRACES = 5


class Interpreter:
    """Runs code in fresh interpreters that keep their bytecode, whatever the environment says.

    Args:
        cache: A directory for the bytecode; the checkout stays clean.
    """

    def __init__(self, cache: str) -> None:
        self._environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(self, code: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `code`; the current directory is not searched, as for an installed program."""
        return subprocess.run(
            [sys.executable, "-P", *options, "-c", code],
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )


def measure(interpreter: Interpreter, rounds: int) -> tuple[list[Spread], int]:
    """Return the milliseconds of the dependencies, the package and its lazy names; and the modules added."""
    interpreter.run(_TIMED)  # compiles, once
    measured = [json.loads(interpreter.run(_TIMED).stdout) for _ in range(rounds)]
    *times, modules = zip(*measured, strict=True)
    return [Spread.of([1000 * one for one in part]) for part in times], modules[0]


def trace(interpreter: Interpreter) -> dict[str, float]:
    """Return the milliseconds that each added module takes by itself, the longest first."""
    times: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(_TRACES):
        _, _, added = interpreter.run(_TRACED, "-X", "importtime").stderr.partition("marker\n")
        for own, _, name in _TRACE_LINE.findall(added):
            times[name].append(int(own) / 1000)
    medians = {name: statistics.median(own) for name, own in times.items()}
    return dict(sorted(medians.items(), key=lambda item: -item[1]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as cache:
        interpreter = Interpreter(cache)
        (needed, added, lazy), modules = measure(interpreter, arguments.rounds)
        heaviest = trace(interpreter)
    kept = added.median < PROMISE_MS
    if arguments.json:
        figures = {
            "needed_ms": needed,
            "added_ms": added,
            "lazy_ms": lazy,
            "added_modules": modules,
            "kept": kept,
            "own_ms": heaviest,
        }
        print_json({"rounds": arguments.rounds, **figures})
        return
    rows = [("grpc, grpc.aio, google.auth, aiohttp", *needed.with_quartiles(1), f"{needed.minimum:.1f}")]
    rows.append(
        (f"aio_authgrpc and connect, {modules} modules", *added.with_quartiles(1), f"{added.minimum:.1f}")
    )
    rows.append(("all other names on top", *lazy.with_quartiles(1), f"{lazy.minimum:.1f}"))
    print_table(f"{arguments.rounds} fresh interpreters", ("ms", "median", "quartiles", "minimum"), rows)
    print_table(
        "The five heaviest of the modules added, traced",
        ("module", "own ms"),
        [(name, f"{own:.2f}") for name, own in list(heaviest.items())[:5]],
    )
    print_note(f"Promised: a median under {PROMISE_MS:g} ms. {'Kept.' if kept else 'BROKEN.'}")


if __name__ == "__main__":
    main()
