"""That benchmarks/simulation.py is deterministic, and what its fleets show of the real cache."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytestmark = [
    pytest.mark.timeout(60),  # a day of a fleet, however small, is some seconds of work
    pytest.mark.skipif(not BENCHMARKS.exists(), reason="the benchmarks are part of the checkout"),
]

WORKERS = 8


@pytest.fixture(scope="module")
def simulation() -> Iterator[ModuleType]:
    """Give the script as a module; it imports what lies beside it."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("simulation")
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in ("simulation", "figures"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def days(simulation: ModuleType) -> dict[str, dict[str, Any]]:
    """Give what a few hours did to a small fleet, by scenario."""
    chosen = simulation.scenarios(WORKERS, 1, 4.0, seed=1)
    return {scenario.name: simulation.simulate(scenario) for scenario in chosen}


def test_the_same_seed_gives_the_same_day(simulation: ModuleType, days: dict[str, dict[str, Any]]) -> None:
    """Virtual time and one source of randomness: nothing of the machine's."""
    [again, *_] = simulation.scenarios(WORKERS, 1, 4.0, seed=1)
    found = simulation.simulate(again)
    took = {"took"}
    first = days[again.name]
    assert {key: found[key] for key in found.keys() - took} == {
        key: first[key] for key in first.keys() - took
    }


def test_no_call_fails_while_its_workers_token_lives(days: dict[str, dict[str, Any]]) -> None:
    """An outage that is shorter than the rest of a token's life goes unnoticed."""
    assert {name: day["lost_while_token_lived"] for name, day in days.items()} == dict.fromkeys(days, 0)


def test_the_outage_takes_tokens_that_were_about_to_be_replaced(days: dict[str, dict[str, Any]]) -> None:
    """All of them where all workers are in step, or have one token."""
    assert 0 < days["jitter"]["lost"] <= WORKERS
    assert {days[name]["lost"] for name in ("no jitter", "shared", "shared, no jitter")} == {WORKERS}


@pytest.mark.parametrize("name", ["shared", "shared, no jitter"])
def test_a_fleet_with_a_store_makes_one_request_at_a_time(days: dict[str, dict[str, Any]], name: str) -> None:
    """At the deployment, and at every rotation."""
    assert days[name]["most_at_deployment"] == 1
    assert days[name]["most_before_outage"] == 1


def test_all_workers_are_back_within_two_minutes(days: dict[str, dict[str, Any]]) -> None:
    """The back-off ends at a minute."""
    assert all(day["all_back_after"] < 120 for day in days.values())
