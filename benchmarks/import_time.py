"""How long `import aio_authgrpc` takes beyond what it cannot do without: grpc, google.auth and aiohttp.

    python benchmarks/import_time.py [--rounds 15] [--json]

Each round is a fresh interpreter that imports grpc, grpc.aio, google.auth and aiohttp, then the package, and
tells how long the latter took. The promise is a median under 15 ms. Further interpreters with `-X importtime`
name the modules that the package adds and that take longest by themselves, their own imports not counted;
tracing makes them slower than they are.
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
import aio_authgrpc
end = time.perf_counter()
print(json.dumps([middle - start, end - middle, len(sys.modules.keys() - known)]))
"""
_TRACED = f"""
import sys
{_NEEDED}
print("marker", file=sys.stderr)
import aio_authgrpc
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


def measure(interpreter: Interpreter, rounds: int) -> tuple[Spread, Spread, int]:
    """Return the milliseconds of the needed imports, those of the package, and how many modules it adds."""
    interpreter.run(_TIMED)  # compiles, once
    measured = [json.loads(interpreter.run(_TIMED).stdout) for _ in range(rounds)]
    needed, added, modules = zip(*measured, strict=True)
    return Spread.of([1000 * one for one in needed]), Spread.of([1000 * one for one in added]), modules[0]


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
        needed, added, modules = measure(interpreter, arguments.rounds)
        heaviest = trace(interpreter)
    kept = added.median < PROMISE_MS
    if arguments.json:
        figures = {
            "needed_ms": needed,
            "added_ms": added,
            "added_modules": modules,
            "kept": kept,
            "own_ms": heaviest,
        }
        print_json({"rounds": arguments.rounds, **figures})
        return
    rows = [("grpc, grpc.aio, google.auth, aiohttp", *needed.with_quartiles(1), f"{needed.minimum:.1f}")]
    rows.append((f"aio_authgrpc, {modules} modules more", *added.with_quartiles(1), f"{added.minimum:.1f}"))
    print_table(f"{arguments.rounds} fresh interpreters", ("ms", "median", "quartiles", "minimum"), rows)
    print_table(
        "The five heaviest of the modules added, traced",
        ("module", "own ms"),
        [(name, f"{own:.2f}") for name, own in list(heaviest.items())[:5]],
    )
    print_note(f"Promised: a median under {PROMISE_MS:g} ms. {'Kept.' if kept else 'BROKEN.'}")


if __name__ == "__main__":
    main()
