"""What a warm token costs in Node, for comparison: @grpc/grpc-js and google-auth-library.

    (cd benchmarks/node_client && npm install)
    python benchmarks/node_overhead.py [--rounds 10] [--json]

The same server as for `overhead.py`, in another process; `plain` passes the metadata by hand, and
`google-auth-library` has its call credentials with a token that is fresh. The modes are those of
`overhead.py`. A ratio compares with Node's own plain call: the engines of Node and Python are not compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from contenders import TOKEN
from figures import print_json
from overhead import WIDE, Cost, show, summary
from server_process import ServerProcess

_CLIENT = Path(__file__).with_name("node_client")
# RPCs a turn.
_MODES = {"sequential": 300, "wide": 3000}


async def run(rounds: int) -> dict[str, Any]:
    """Return what each way costs in Node."""
    async with ServerProcess() as server:
        told = {
            "target": server.target,
            "ca_pem": server.ca_pem.decode(),
            "token": TOKEN,
            "rounds": rounds,
            "wide": WIDE,
            "modes": _MODES,
        }
        process = await asyncio.create_subprocess_exec(
            "node",
            str(_CLIENT / "overhead.js"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(json.dumps(told).encode()), 110)
    if process.returncode:
        raise RuntimeError(f"node ended with {process.returncode}")
    found = json.loads(output)
    modes = {
        mode: summary({name: [Cost(**turn) for turn in own] for name, own in turns.items()})
        for mode, turns in found["turns"].items()
    }
    return {"node": found["node"], "rounds": rounds, "modes": modes}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    arguments = parser.parse_args()
    if shutil.which("node") is None or not (_CLIENT / "node_modules").exists():
        sys.exit("It needs node, and `npm install` in benchmarks/node_client.")
    found = asyncio.run(run(arguments.rounds))
    if arguments.json:
        print_json(found)
        return
    for mode, figures in found["modes"].items():
        show(mode, figures)


if __name__ == "__main__":
    main()
