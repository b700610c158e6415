"""How long the event loop stands still while a credential of each type becomes a token, from nothing.

    python benchmarks/identity_stall.py [--rounds 5] [--delay 0.4] [--only NAME] [--json]

Every round is a fresh interpreter (`first_token.py`), so that reading and parsing the key, and whatever
is imported at the first use, count. There a task wakes up every millisecond and notes how late it was at
most while the source loads and fetches its first token. The endpoints are in another process
(`serve_google_cloud.py`), and each takes 400 ms for an answer; `default()` looks for a metadata server, too,
that hangs, that refuses connections, that is slow and that answers.

What begins with "handed in" is an object of google-auth's that the user made, before the watch began. The
promise is a median under 10 ms for each type, and an end of each look-up within its 5 s. What the machine
itself adds shows in the column `idle`; and in `own`, which is the median without the time in which the loop's
thread waited for a core that other processes had.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Spread, print_json, print_note, print_table
from server_process import OrderedProcess

PROMISE_MS = 10.0
# The budget of a look-up, and the refresh that may follow.
LONGEST_S = 5.0 + 1.0

ADC = "GOOGLE_APPLICATION_CREDENTIALS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table.

    Attributes:
        name: What it is called.
        maker: The function of `first_token.py` that makes the source.
        file: The type of the file that Application Default Credentials find.
        metadata: What the metadata server does: answer, be slow, hang or refuse connections.
        outcome: What has to come of it.
    """

    name: str
    maker: str
    file: str | None = None
    metadata: str = "answers"
    outcome: str = "token"


FILES = (
    "service_account",
    "authorized_user",
    "impersonated_service_account",
    "external_account_file",
    "external_account_url",
    "external_account_url_json",
    "external_account_executable",
    "external_account_aws",
    "external_account_x509",
    "external_account_impersonating",
    "external_account_authorized_user",
    "gdch_service_account",
)
ID_TOKEN_FILES = (
    "service_account",
    "authorized_user",
    "impersonated_service_account",
    "external_account_impersonating",
)
HANDED_IN = (
    "service_account_id_token",
    "impersonated",
    "impersonated_id_token",
    "compute_engine_id_token",
    "compute_engine_id_token_by_iam",
    "downscoped",
    "api_key",
    "anonymous",
)
ROWS = (
    *(
        Row(name=f"{maker}(file)", maker=maker)
        for maker in ("service_account", "service_account_self_signed", "service_account_jwt")
    ),
    *(Row(name=f"default(): {file}", maker="default", file=file) for file in FILES),
    *(Row(name=f"id_token(): {file}", maker="id_token", file=file) for file in ID_TOKEN_FILES),
    Row(name="id_token(): metadata server", maker="id_token"),
    *(Row(name=f"handed in: {name}", maker=f"handed_in_{name}") for name in HANDED_IN),
    Row(name="default(): metadata server answers", maker="default"),
    Row(name="default(): metadata server slow", maker="default", metadata="is slow"),
    *(
        Row(
            name=f"default(): metadata server {metadata}",
            maker="default",
            metadata=metadata,
            outcome="ConfigurationError",
        )
        for metadata in ("hangs", "refuses")
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one interpreter reported.

    Attributes:
        idle: The longest stall before it began, in milliseconds.
        busy: The longest stall from then on, in milliseconds.
        own: The same, less the wait for a core that others had.
        took: Seconds until the token, or the error, was there.
        outcome: `token`, or the error's name.
    """

    idle: float
    busy: float
    own: float
    took: float
    outcome: str


class Endpoints(OrderedProcess):
    """The process with all endpoints, and where they are."""

    def __init__(self, delay: float) -> None:
        super().__init__("serve_google_cloud.py")
        self._delay = delay
        self._described: dict[str, Any] = {}

    async def prepare(self, row: Row) -> dict[str, str]:
        """Let the metadata server do what the row wants, and return the environment of its interpreter."""
        self._described = self._described or await self.order("describe")
        await self.order("delay", self._delay)
        environment = {**self._described["environment"]}
        match row.metadata:
            case "is slow":
                await self.order("delay_metadata", 2 * self._delay)
            case "hangs":
                await self.order("hang_metadata")
            case "refuses":
                environment |= dict.fromkeys(("GCE_METADATA_HOST", "GCE_METADATA_IP"), _refused_address())
        if row.file is not None:
            environment[ADC] = self._described["paths"][row.file]
        if row.outcome != "token":
            # It would say that this is Google Cloud, where the server is waited for.
            del environment["GCE_METADATA_HOST"]
        return environment

    @property
    def paths(self) -> Mapping[str, str]:
        """The credential files, by type."""
        return dict(self._described["paths"])


def _refused_address() -> str:
    """Return an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


async def measure(row: Row, endpoints: Endpoints) -> Round:
    """Let a fresh interpreter become somebody."""
    environment = {name: value for name, value in os.environ.items() if name != ADC}
    environment |= await endpoints.prepare(row)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("first_token.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # google-auth's warnings that nobody answers
        env=environment,
    )
    settings = json.dumps({"who": row.maker, "paths": endpoints.paths}).encode()
    try:
        output, _ = await asyncio.wait_for(process.communicate(settings), 60)
    except TimeoutError:
        process.kill()
        raise
    if not output:
        return Round(idle=0, busy=0, own=0, took=0, outcome=f"exit code {process.returncode}")
    report = json.loads(output)
    idle, busy = (1000 * report["stalls"].get(phase, 0.0) for phase in ("idle", "becoming somebody"))
    own = 1000 * report["own"].get("becoming somebody", 0.0)
    return Round(idle=idle, busy=busy, own=own, took=report["took"], outcome=report["outcome"])


async def run(rows: Sequence[Row], rounds: int, delay: float) -> dict[Row, list[Round]]:
    """Measure each row in `rounds` interpreters, all rows once before any a second time.

    Args:
        rows: Which.
        rounds: How many each.
        delay: Seconds that the endpoints take.
    """
    measured: dict[Row, list[Round]] = {row: [] for row in rows}
    async with Endpoints(delay) as endpoints:
        for _ in range(rounds):
            for row in random.sample(rows, len(rows)):
                measured[row].append(await measure(row, endpoints))
    return measured


def broken(row: Row, rounds: Sequence[Round]) -> str:
    """Return which promise was broken; empty if all were kept."""
    outcomes = {one.outcome for one in rounds}
    if outcomes != {row.outcome}:
        return ", ".join(sorted(outcomes))
    if Spread.of([one.busy for one in rounds]).median >= PROMISE_MS:
        return "stalls"
    return "slow" if max(one.took for one in rounds) > LONGEST_S else ""


def _show(measured: Mapping[Row, Sequence[Round]]) -> None:
    table = []
    for row, rounds in measured.items():
        busy, idle = Spread.of([one.busy for one in rounds]), Spread.of([one.idle for one in rounds])
        took = Spread.of([one.took for one in rounds])
        table.append(
            (
                row.name,
                f"{idle.median:.1f}",
                *busy.with_quartiles(1),
                f"{busy.maximum:.1f}",
                f"{Spread.of([one.own for one in rounds]).median:.1f}",
                f"{took.median:.2f}",
                broken(row, rounds) or "kept",
            )
        )
    columns = ("type", "idle", "median", "quartiles", "maximum", "own", "took s", "promise")
    print_table("longest stall in ms until the first token", columns, table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--delay", type=float, default=0.4, help="seconds that each endpoint takes")
    parser.add_argument("--only", default="", help="the rows whose name has this in it")
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    rows = [row for row in ROWS if arguments.only in row.name]
    measured = asyncio.run(run(rows, arguments.rounds, arguments.delay))
    failed = [row.name for row, rounds in measured.items() if broken(row, rounds)]
    if arguments.json:
        figures = {
            row.name: {
                "ms": Spread.of([one.busy for one in rounds]),
                "promise": broken(row, rounds) or "kept",
            }
            for row, rounds in measured.items()
        }
        print_json({"rounds": arguments.rounds, "rows": figures, "kept": not failed})
        return
    _show(measured)
    verdict = f"BROKEN by {len(failed)} of {len(measured)}." if failed else "Kept by all."
    print_note(f"Promised: a median under {PROMISE_MS:g} ms, and an end within {LONGEST_S:g} s. {verdict}")


if __name__ == "__main__":
    main()
