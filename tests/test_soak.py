"""That benchmarks/soak.py runs, judges, and finds nothing wrong in a few seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"


@pytest.mark.timeout(60)  # it starts a process
@pytest.mark.skipif(not SOAK.exists(), reason="the benchmarks are part of the checkout")
def test_a_short_soak_breaks_no_promise() -> None:
    """Two restarts and a few disturbances; latency and memory are for longer ones to judge."""
    command = [sys.executable, str(SOAK), "--seconds", "3", "--callers", "20", "--rate", "200", "--json"]
    # The benchmark imports what lies beside it, which PYTHONSAFEPATH forbids to those who test a wheel.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads(ran.stdout)
    assert (report["broken"], int(report["figures"]["calls"]) > 50) == ([], True)
    assert report["figures"]["tasks / threads left"] == "0 / 0"
