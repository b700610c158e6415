"""`soak.py` with the lowest and the newest grpcio, under several Pythons, two at a time.

    python benchmarks/soak_versions.py [--minutes 2] [--pythons 3.11 3.13 3.14] [--json]

Each runs in a virtual environment of its own, made at the first time in `.venv-versions` of the checkout and
kept. A Python that this machine does not have is printed as not run. Memory is looked at after a third of the
time, one minute at most, and at the end: the growth per hour is that growth carried forward, and no more than
a bound while a run is short.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from environments import NEWEST, Environment, lowest_grpcio
from figures import print_json, print_note, print_table

_AT_A_TIME = 2


def soak(environment: Environment, minutes: float) -> dict[str, Any]:
    """Return what a soak found there; without `measures` where it could not run."""
    found: dict[str, Any] = {"python": environment.python, "grpcio": environment.grpcio}
    interpreter = environment.make()
    if interpreter is None:
        return found
    script = str(Path(__file__).with_name("soak.py"))
    command = [str(interpreter), script, "--minutes", f"{minutes:g}", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if not ran.stdout:
        raise RuntimeError(f"{environment.name}: {ran.stderr}")
    report = json.loads(ran.stdout)
    versions = {name: report["machine"][name] for name in ("python", "grpcio")}
    return {**found, **versions, "measures": report["measures"], "broken": report["broken"]}


def run(pythons: list[str], minutes: float) -> list[dict[str, Any]]:
    """Soak under every Python with both versions of grpcio."""
    versions = (lowest_grpcio(), NEWEST)
    environments = [Environment(python, grpcio) for python in pythons for grpcio in versions]
    for environment in environments:
        environment.make()  # one after the other: pip's work would be in the way of a soak
    with ThreadPoolExecutor(_AT_A_TIME) as workers:
        return list(workers.map(lambda environment: soak(environment, minutes), environments))


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    measures = found.get("measures")
    named = (f"Python {found['python']}, grpcio {found['grpcio']}",)
    if measures is None:
        return (*named, "not run: no such Python", "", "", "")
    return (
        *named,
        f"{measures['calls']}",
        f"{measures['memory_growth']:.1f}",
        f"{measures['memory_growth_per_hour']:.0f}",
        f"{measures['tasks_left']} / {measures['threads_left']}",
    )


def main() -> None:
    """Soak and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--pythons", nargs="+", default=["3.11", "3.13", "3.14"])
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    arguments = parser.parse_args()
    found = run(arguments.pythons, arguments.minutes)
    if arguments.json:
        print_json({"minutes": arguments.minutes, "at_a_time": _AT_A_TIME, "soaks": found})
        return
    columns = ("versions", "calls", "MB more", "MB an hour", "tasks / threads left")
    print_table(f"{arguments.minutes:g} minutes each", columns, [_row(one) for one in found])
    broken = [f"{one['python']}/{one['grpcio']}: {text}" for one in found for text in one.get("broken", ())]
    print_note("BROKEN: " + " ".join(broken) if broken else "All promises kept by those that ran.")


if __name__ == "__main__":
    main()
