"""Scripts of this folder, run in a process of their own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.patience import patience

ROOT = Path(__file__).parents[2]
# The checkout comes last: it has `tests`, and the installed package is what is tested.
RUN = f"""
import runpy, sys
sys.path.append({str(ROOT)!r})
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""


async def output_of(script: str, argument: str, environment: Mapping[str, str]) -> str:
    """Return what a script of this folder prints; it has to end well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-c", RUN, f"tests.contact.{script}", argument),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(patience(50)):
        output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()
