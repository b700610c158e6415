"""Run the benchmarks, keep their figures as JSON, draw them, and write them into the documentation.

    python benchmarks/report.py [--only overhead,cold] [--page] [--list]

Each part runs in a process of its own, within a time limit, and writes `docs/figures/<part>.json`: the
figures, the date, the versions and size of the machine, its load before and after. What other parts wrote
stays, so that a part can be measured again alone. Then the plots (`docs/figures/*.svg`, with matplotlib from
the dependency group `benchmarks`) and the places of the documentation that hold figures are made anew from
all files; `--page` does that alone. Without `--only` all parts but the slow ones run, within 8 minutes. Run
it on an idle machine. The exit code is 1 where a part failed; the others are kept.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

import page
from results import ROOT, keep, load_all


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the report: a script that prints JSON.

    Attributes:
        name: The part's, and its file's.
        script: The script and its arguments, without `--json`.
        limit: Seconds that it may take.
        slow: It runs only where it is named.
        needs: A path in the checkout, a program or a module, without which it is left out.
    """

    name: str
    script: tuple[str, ...]
    limit: float = 120
    slow: bool = False
    needs: str = ""

    @property
    def missing(self) -> str:
        """What it lacks here; empty where nothing is missing."""
        script = f"benchmarks/{self.script[0]}"
        if not (ROOT / script).exists():
            return script
        found = not self.needs or (ROOT / self.needs).exists() or shutil.which(self.needs)
        return "" if found or _is_module(self.needs) else self.needs

    @property
    def command(self) -> list[str]:
        """What is typed after `python`, in the checkout."""
        return [f"benchmarks/{self.script[0]}", "--json", *self.script[1:]]


# Built by hand; go_server/README.md says how.
_GO_SERVER = "benchmarks/go_server/server"

PARTS = [
    Part("counted", ("counted.py",)),
    Part("own_cost", ("own_cost.py",)),
    Part("blocking", ("blocking.py",)),
    Part("overhead", ("overhead.py", "--rounds", "8"), 300),
    Part(
        "uvloop",
        (
            *("overhead.py", "--loop", "uvloop", "--rounds", "8"),
            *("--modes", "sequential", "wide", "stream"),
            *("--contenders", "plain again", "aio_authgrpc", "google-auth"),
        ),
        needs="uvloop",
    ),
    Part(
        "go",
        (
            *("overhead.py", "--rounds", "12", "--modes", "sequential", "wide"),
            *("--program", _GO_SERVER, "-streams", "1000", "-delay", "0s"),
        ),
        needs=_GO_SERVER,
    ),
    Part("node", ("node_overhead.py", "--rounds", "6"), needs="benchmarks/node_client/node_modules"),
    Part("cold", ("cold.py", "--sizes", "1000", "10000", "30000", "--rounds", "3"), 180),
    Part("storm", ("storm.py",), 240),
    Part("first_answer", ("first_answer.py",)),
    Part("loop_stall", ("loop_stall.py", "--rounds", "6")),
    Part("rotation", ("rotation.py", "--seconds", "16")),
    Part("memory", ("memory.py",), 180),
    Part("import_time", ("import_time.py", "--rounds", "10")),
    Part("soak", ("soak.py", "--minutes", "1"), 150, slow=True),
    Part("burst", ("burst.py", "--sizes", "300", "1000", "3000", "--rounds", "1"), 180),
    Part("shared_store", ("shared_store.py",), needs="redis-server"),
    Part("burst_wide", ("burst.py", "--sizes", "3000", "30000", "--servers", "grpcio"), 1800, slow=True),
    Part("simulation", ("simulation.py", "--hosts", "1000"), 7200, slow=True),
    Part("instructions", ("instructions.py",), 1800, slow=True, needs="valgrind"),
    Part("versions", ("versions.py",), 1800, slow=True),
    Part("soak_versions", ("soak_versions.py",), 1800, slow=True),
]


def _is_module(name: str) -> bool:
    return name.isidentifier() and importlib.util.find_spec(name) is not None


def measure(part: Part) -> bool:
    """Run a part and keep what it prints; return whether it did."""
    if part.missing:
        print(f"{part.name}: left out, there is no {part.missing}", flush=True)
        return True
    print(f"{part.name}: {' '.join(part.command)} ...", end=" ", flush=True)
    before, started = os.getloadavg()[0], time.perf_counter()
    try:
        ran = subprocess.run(
            [sys.executable, *part.command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=part.limit,
        )
        result = json.loads(ran.stdout)  # a promise that is broken has an exit code, and figures all the same
    except subprocess.TimeoutExpired:
        print(f"not done after {part.limit:g} s")
        return False
    except json.JSONDecodeError:
        print(f"failed with exit code {ran.returncode}\n{ran.stderr[-2000:]}")
        return False
    took = time.perf_counter() - started
    keep(
        part.name,
        {
            "measured_at": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "command": " ".join(["python", *part.command]),
            "took_seconds": took,
            "load_before": before,
            "load_after": os.getloadavg()[0],
            "machine": result.pop("machine"),
            "result": result,
        },
    )
    print(f"{took:.0f} s", flush=True)
    return True


def draw() -> None:
    """Make the plots anew, where matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        print("plots: left out, matplotlib is not installed (dependency group `benchmarks`)")
        return
    import plots  # noqa: PLC0415 - needs matplotlib

    for name in plots.draw_all(load_all()):
        print(f"plot: {name}")


def _chosen(only: str | None, parser: argparse.ArgumentParser) -> list[Part]:
    if only is None:
        return [part for part in PARTS if not part.slow]
    by_name = {part.name: part for part in PARTS}
    names = only.split(",")
    unknown = set(names) - by_name.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names]


def main() -> int:
    """Measure what was chosen, then draw and write; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="PART,PART", help="measure these parts alone")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--list", action="store_true", help="print the parts")
    arguments = parser.parse_args()
    chosen = [] if arguments.page else _chosen(arguments.only, parser)
    if arguments.list:
        for part in PARTS:
            print(f"{part.name:15}{'slow  ' if part.slow else '      '}python {' '.join(part.command)}")
        return 0
    done = [measure(part) for part in chosen]
    draw()
    for name in page.write_all(load_all()):
        print(f"page: {name}")
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
