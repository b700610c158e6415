"""`aio-authgrpc demo`: open the stage, make every check, report each one."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from aio_authgrpc.cli.demo.checks import CHECKS, Check, StageT
from aio_authgrpc.cli.demo.envoy import ENVOY_CHECKS, open_envoy_stage
from aio_authgrpc.cli.demo.report import JsonReport, Report, TextReport
from aio_authgrpc.cli.demo.result import CheckResult, failed
from aio_authgrpc.cli.demo.stage import open_stage
from aio_authgrpc.testing import find_envoy

# Each check takes five seconds at most; a hanging check becomes a failed line, not a hanging demo.
_TIME_LIMIT = 15.0

_NOT_PROXIED = "localhost,127.0.0.1"


def run(*, as_json: bool, envoy: bool = False) -> int:
    """Perform the demo, print it, and return the exit code. Ctrl-C closes the servers first.

    Args:
        as_json: Print one JSON object instead of lines.
        envoy: Let a real Envoy guard the server.

    Raises:
        EnvoyNotFoundError: Envoy is not installed. Nothing was printed or started.
    """
    _bypass_proxies()
    report: Report = JsonReport() if as_json else TextReport()
    started_at = time.perf_counter()
    if envoy:
        find_envoy()
        performance = perform(report.add, stage=open_envoy_stage, checks=ENVOY_CHECKS)
    else:
        performance = perform(report.add, stage=open_stage, checks=CHECKS)
    results = asyncio.run(performance)
    report.finish(results, seconds=time.perf_counter() - started_at)
    return exit_code(results)


def exit_code(results: Sequence[CheckResult]) -> int:
    """Return 0 if every check passed, else 1."""
    return 0 if all(result.passed for result in results) else 1


async def perform(
    report: Callable[[CheckResult], None],
    *,
    stage: Callable[[], AbstractAsyncContextManager[StageT]],
    checks: Mapping[str, Check[StageT]],
    time_limit: float = _TIME_LIMIT,
) -> list[CheckResult]:
    """Make the checks in order, one at a time, so that they do not disturb each other's figures.

    A check that raises or hangs has failed, and the others are still made. Servers that cannot be opened or
    closed become a failed result named `servers`.

    Args:
        report: Called with each result as soon as it is known.
        stage: Opens the servers.
        checks: The checks by name.
        time_limit: The seconds that each check may take.
    """
    results: list[CheckResult] = []

    def add(result: CheckResult) -> None:
        results.append(result)
        report(result)

    try:
        async with stage() as opened:
            for name, check in checks.items():
                add(await _outcome(name, check, opened, time_limit))
    except Exception as error:  # noqa: BLE001 - every error becomes a line
        add(failed("servers", error))
    return results


async def _outcome(name: str, check: Check[StageT], stage: StageT, time_limit: float) -> CheckResult:
    deadline = asyncio.timeout(time_limit)
    try:
        async with deadline:
            return await check(stage)
    except Exception as error:  # noqa: BLE001 - as above
        hung = TimeoutError(f"it took more than {time_limit:g} s")
        return failed(name, hung if deadline.expired() else error)


def _bypass_proxies() -> None:
    """Reach the loopback interface directly: gRPC would send even `localhost` to `https_proxy`."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = f"{given},{_NOT_PROXIED}" if given else _NOT_PROXIED
