"""The command in a process of its own, beside servers that run in the test's loop."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from dataclasses import dataclass
from typing import Any

import typer.main

from aio_authgrpc.cli.app import app

# -P: the installed package, not the directory that pytest was started in.
COMMAND = (sys.executable, "-P", "-m", "aio_authgrpc")
# These variables make rich and typer colour a pipe; these lead to other credentials or another server.
_LEFT_OUT = ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TTY_COMPATIBLE", "GOOGLE_APPLICATION_CREDENTIALS")
# gRPC looks for its default roots there; none of a loopback server is among them.
_QUIET = {"NO_GCE_CHECK": "true", "CLOUDSDK_CONFIG": "/nonexistent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a process left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON value of each line on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(**more: str) -> dict[str, str]:
    """Return an environment without colours and without credentials."""
    return {name: value for name, value in os.environ.items() if name not in _LEFT_OUT} | _QUIET | more


def unusable(line: str) -> str:
    """Return why a shell's line is no use of this command; empty where it is, or is of another command."""
    words = shlex.split(line)
    if words[0] != "aio-authgrpc":
        return ""
    group: Any = typer.main.get_command(app)
    if words[1].startswith("-"):
        return ""
    try:
        group.commands[words[1]].make_context(words[1], words[2:])
    except Exception as error:  # noqa: BLE001 - typer brings a click of its own, or not
        return f"{line}: {error}"
    return ""


async def run(*arguments: str, stdin: str | None = None, **more: str) -> Finished:
    """Run the command to its end."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**more),
    )
    out, err = await process.communicate(None if stdin is None else stdin.encode())
    assert process.returncode is not None
    return Finished(code=process.returncode, out=out.decode(), err=err.decode())
