"""`aio-authgrpc demo --envoy`, and its checks against sabotaged servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from aio_authgrpc.cli.demo.envoy import ENVOY_CHECKS, EnvoyStage, listeners, open_envoy_stage, replay
from aio_authgrpc.cli.demo.report import sentence
from aio_authgrpc.cli.demo.result import CheckResult
from aio_authgrpc.cli.demo.stage import WitnessBookstore
from aio_authgrpc.testing import Authority, BookstoreServer, EnvoyProxy, forwarded_user_info

# A whole process with servers in it, as in tests/cli.
pytestmark = pytest.mark.timeout(90)

COMMAND = (sys.executable, "-P", "-W", "default::ResourceWarning", "-m", "aio_authgrpc")


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    """Run the demo with configured proxies that are down: it must bypass them."""
    dead_proxy = "http://127.0.0.1:9"
    environment = {**os.environ, "http_proxy": dead_proxy, "https_proxy": dead_proxy, "no_proxy": ""}
    command = [*COMMAND, "demo", "--envoy", "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def figures(demo: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {name: check["figures"] for name, check in json.loads(demo.stdout)["checks"].items()}


# The command


def test_demo_behind_envoy_makes_every_check(demo: subprocess.CompletedProcess[str]) -> None:
    """Each passed, without a warning or an open resource, and the exit code is 0."""
    checks = json.loads(demo.stdout)["checks"]
    assert {name: check["passed"] for name, check in checks.items()} == dict.fromkeys(ENVOY_CHECKS, True)
    assert (demo.returncode, demo.stderr) == (0, "")


def test_demo_shows_a_jwt_to_each_listener(figures: dict[str, dict[str, Any]]) -> None:
    """No token was requested, and the service knows its caller."""
    assert figures["listeners"] == {
        "h2c": "OK",
        "tls": "OK",
        "mutual_tls": "OK",
        "token_requests": 0,
        "caller": "tester@project.iam.gserviceaccount.com",
    }


def test_demo_shows_how_envoy_refuses(figures: dict[str, dict[str, Any]]) -> None:
    """Only the good token reached the service."""
    assert figures["refusals"] == {
        "good_token": "OK",
        "no_token": "UNAUTHENTICATED",
        "wrong_audience": "PERMISSION_DENIED",
        "expired": "UNAUTHENTICATED",
        "foreign_key": "UNAUTHENTICATED",
        "served": 1,
    }


def test_demo_counts_the_calls_that_were_sent_once_more(figures: dict[str, dict[str, Any]]) -> None:
    """Envoy refused some calls, no caller saw a failure, and one new token was enough."""
    replayed = figures["replay"]
    assert 1 <= replayed["replayed"] < replayed["calls"]
    assert (replayed["failed_calls"], replayed["token_requests"]) == (0, 2)


@pytest.mark.parametrize("name", ["listeners", "replay"])
def test_each_line_shows_its_figures(figures: dict[str, dict[str, Any]], name: str) -> None:
    """The sentence of a passed check contains every figure."""
    line = sentence(CheckResult(name=name, passed=True, figures=figures[name]))
    shown = {key: figure for key, figure in figures[name].items() if key != "caller"}
    if name == "replay":
        del shown["token_requests"]
    assert [key for key, figure in shown.items() if str(figure)[:1] not in line] == []


# Each check detects its fault


@pytest.fixture
async def stage() -> AsyncIterator[EnvoyStage]:
    async with open_envoy_stage() as stage:
        yield stage


async def test_calls_with_a_young_token_fail_the_check(stage: EnvoyStage) -> None:
    """Refused calls are not sent again: their callers see the refusal."""
    result = await replay(stage, token_age=0)
    assert not result.passed
    assert result.figures["failed_calls"] == result.figures["replayed"] != 0
    assert "calls failed, with UNAUTHENTICATED" in result.problem
    assert "1 token requests were made instead of 2" in result.problem


async def test_jwt_of_an_account_that_envoy_does_not_know_fails_the_check(
    authority: Authority, account: Mapping[str, str]
) -> None:
    """On each listener, and no call reaches the service."""
    witness = WitnessBookstore(user_info=forwarded_user_info)
    async with (
        BookstoreServer(tls=False, service=witness) as server,
        EnvoyProxy(authority, server) as proxy,
    ):
        stage = EnvoyStage(authority=authority, server=server, witness=witness, account=account, proxy=proxy)
        result = await listeners(stage)
    assert not result.passed
    assert "mutual_tls: UNAUTHENTICATED instead of OK" in result.problem
    assert result.problem.endswith("the server saw an anonymous caller")
