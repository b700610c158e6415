"""`overhead.py` with the lowest grpcio that the package admits, and with each minor version since.

    python benchmarks/versions.py [--python 3.11] [--rounds 8] [--json]

Each runs in a virtual environment of its own, made at the first time in `.venv-versions` of the checkout and
kept. pip's index tells which versions there are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from environments import Environment, admitted_grpcio
from figures import print_json, print_table

_MODES = ("sequential", "wide", "stream")


def compare(environment: Environment, rounds: int) -> dict[str, Any]:
    """Return what the modes cost there."""
    interpreter = environment.make()
    if interpreter is None:
        raise RuntimeError(f"this machine has no Python {environment.python}")
    script = str(Path(__file__).with_name("overhead.py"))
    chosen = ("--modes", *_MODES, "--contenders", "plain again", "aio_authgrpc")
    command = [str(interpreter), script, "--rounds", str(rounds), *chosen, "--json"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(ran.stdout)
    found = {name: report["machine"][name] for name in ("python", "grpcio")}
    return {**found, "modes": report["modes"], "counted": report["counted"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    arguments = parser.parse_args()
    environments = [Environment(arguments.python, version) for version in admitted_grpcio()]
    for environment in environments:
        environment.make()  # pip's work would be in the way of a measurement
    found = [compare(environment, arguments.rounds) for environment in environments]
    if arguments.json:
        print_json({"rounds": arguments.rounds, "versions": found})
        return
    rows = [
        (
            one["grpcio"],
            *(f"{one['modes'][mode]['aio_authgrpc']['cpu_ratio']['median']:.3f}" for mode in _MODES),
        )
        for one in found
    ]
    print_table("CPU ratio to a plain channel", ("grpcio", *_MODES), rows)


if __name__ == "__main__":
    main()
