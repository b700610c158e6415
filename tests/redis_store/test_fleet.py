"""Eight processes of an operating system with one store: benchmarks/shared_store.py keeps its counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "shared_store.py"


@pytest.mark.timeout(60)  # it starts processes
@pytest.mark.skipif(not SCRIPT.exists(), reason="the benchmarks are part of the checkout")
def test_a_fleet_makes_one_token_request_and_survives_its_store() -> None:
    """Every call succeeds, also those that wait for a token when the store is killed."""
    # With limits that no busy machine reaches: what is counted here does not depend on time.
    limits = ["--timeout", "30", "--lease", "120"]
    command = [sys.executable, str(SCRIPT), "--callers", "100", "--rounds", "1", *limits, "--json"]
    # The benchmark imports what lies beside it, which PYTHONSAFEPATH forbids to those who test a wheel.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    figures = json.loads(ran.stdout)
    assert figures["cold"]["calls"] == figures["killed"]["calls"] == 800
    assert figures["cold"]["token_requests"] == 1
    assert figures["cold"]["failed"] == 0
    assert figures["killed"]["failed"] == 0
