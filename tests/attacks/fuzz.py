"""Fuzz targets and the answers of token endpoints for a while, by hand: `python -m tests.attacks.fuzz`.

Each round draws other examples than the one before. A find is printed, shrunk to its smallest form, and the
exit code is 1. Servers are on the loopback interface.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from aio_authgrpc import AuthRpcError
from tests.sources.test_fuzzed_responses import World, check_error, responses

from .targets import check_target, texts

_ROUND = settings(
    max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)


def fuzz_targets() -> int:
    """Run one round, and return the number of examples."""
    count = 0

    @seed(random.getrandbits(64))
    @_ROUND
    @given(texts)
    def run(target: str) -> None:
        nonlocal count
        count += 1
        check_target(target)

    run()
    return count


def fuzz_responses(runner: asyncio.Runner, world: World) -> int:
    """Run one round, and return the number of examples."""
    count = 0

    @seed(random.getrandbits(64))
    @_ROUND
    @given(st.sampled_from(["service account", "user", "metadata", "sts"]), responses(), st.booleans())
    def run(kind: str, response: bytes, only_token: bool) -> None:
        nonlocal count
        count += 1
        result = runner.run(world.outcome(kind, response, only_token=only_token))
        if isinstance(result, AuthRpcError):
            check_error(result)
        else:
            assert result.value

    run()
    return count


def main() -> int:
    """Fuzz both in turn until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: 600)")
    end = time.monotonic() + parser.parse_args().seconds
    counts, finds = {"targets": 0, "responses": 0}, 0
    world = World()
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as directory:
        runner.run(world.open(Path(directory)))
        os.environ.update(HTTP_PROXY=world.endpoint.url, NO_PROXY="127.0.0.1")  # for metadata.google.internal
        rounds: dict[str, Callable[[], int]] = {
            "targets": fuzz_targets,
            "responses": lambda: fuzz_responses(runner, world),
        }
        while time.monotonic() < end:
            for name, run in rounds.items():
                try:
                    counts[name] += run()
                except Exception:  # noqa: BLE001 - each is a find
                    finds += 1
                    traceback.print_exc()
        runner.run(world.close())
    print(f"{counts['targets']} targets, {counts['responses']} responses, {finds} finds")  # noqa: T201 - a script
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
