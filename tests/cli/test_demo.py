"""The demo's checks against sabotaged servers: each must detect the fault and name it."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import grpc.aio
import pytest
from rich.console import Console

from aio_authgrpc import connect, static_token
from aio_authgrpc.bookstore import Book, BookstoreStub, Empty, GetBookRequest
from aio_authgrpc.cli.demo import checks, exit_code, perform
from aio_authgrpc.cli.demo.checks import CHECKS, Check
from aio_authgrpc.cli.demo.report import JsonReport, TextReport
from aio_authgrpc.cli.demo.result import CheckResult
from aio_authgrpc.cli.demo.stage import CountingListener, LoopWatch, Stage, WitnessBookstore, open_stage
from aio_authgrpc.testing import Authority, BookstoreServer

GOOD = CheckResult(name="good", passed=True, figures={"answer": 42})


@pytest.fixture
async def stage() -> AsyncGenerator[Stage]:
    async with open_stage() as stage:
        yield stage


@asynccontextmanager
async def stage_of(server: BookstoreServer, witness: WitnessBookstore) -> AsyncGenerator[Stage]:
    async with Authority() as authority, server:
        account = await authority.service_account_info()
        yield Stage(authority=authority, server=server, witness=witness, account=account)


def unguarded_stage() -> AbstractAsyncContextManager[Stage]:
    """Open a stage whose server checks no token."""
    witness = WitnessBookstore()
    return stage_of(BookstoreServer(service=witness), witness)


class ForgetfulBookstore(WitnessBookstore):
    async def GetBook(
        self, request: GetBookRequest, context: grpc.aio.ServicerContext[GetBookRequest, Awaitable[Book]]
    ) -> Book:
        return Book(id=request.book, author="Another", title="Other")


async def good(_: Stage) -> CheckResult:
    return GOOD


async def raising(_: Stage) -> CheckResult:
    raise LookupError("no such\nthing: Bearer abcdef123456")


async def hanging(_: Stage) -> CheckResult:
    await asyncio.Event().wait()
    return GOOD


# Each check detects its fault


async def test_shelves_listed_without_a_token_fail_the_check() -> None:
    """A server without a guard lists its shelves, but knows no caller."""
    async with unguarded_stage() as stage:
        result = await checks.shelves(stage)
    assert (result.passed, result.problem) == (False, "the server saw an anonymous caller")


async def test_another_book_read_back_fails_the_check(stage: Stage) -> None:
    """The book that was read must be the one that was made."""
    forgetful = ForgetfulBookstore()
    async with BookstoreServer(stage.authority, service=forgetful) as server:
        result = await checks.book(
            Stage(authority=stage.authority, server=server, witness=forgetful, account=stage.account)
        )
    assert (result.passed, result.problem) == (False, 'what was read back was book 2, "Other" by Another')


async def test_failing_cold_calls_fail_the_check(stage: Stage) -> None:
    """A revoked account gets no token; all calls are counted under their code."""
    stage.authority.revoke(stage.account["client_email"])
    result = await checks.cold_start(stage)
    assert (result.passed, result.figures["failed_calls"]) == (False, 1000)
    assert result.problem == "1000 of 1000 calls failed, with UNAUTHENTICATED"


async def test_traffic_that_uses_no_second_token_fails_the_check() -> None:
    """Successful calls alone do not show a rotation."""
    async with unguarded_stage() as stage:
        result = await checks.rotation(stage)
    assert (result.passed, result.figures["failed_calls"]) == (False, 0)
    # Debug mode and coverage may also stall the loop, which adds another problem.
    assert result.problem.startswith("the server saw 0 tokens instead of 2 or more")


async def test_bad_tokens_that_are_let_in_fail_the_check() -> None:
    """A server without a guard is reported for each bad token, and for the calls that it served."""
    async with unguarded_stage() as stage:
        result = await checks.refusals(stage)
    assert not result.passed
    assert "foreign_key: OK instead of UNAUTHENTICATED" in result.problem
    assert "wrong_audience: OK instead of PERMISSION_DENIED" in result.problem
    assert result.problem.endswith("5 calls reached the service instead of 1")


async def test_good_token_that_is_refused_fails_the_check(stage: Stage) -> None:
    """A server that refuses every token is reported."""
    async with BookstoreServer(issuers={"another issuer": stage.authority.jwks_url}) as server:
        result = await checks.refusals(
            Stage(authority=stage.authority, server=server, witness=stage.witness, account=stage.account)
        )
    assert (result.passed, result.figures["good_token"]) == (False, "UNAUTHENTICATED")


async def test_rotation_that_is_cancelled_gives_the_authority_its_lifetime_back(stage: Stage) -> None:
    """A check restores the servers for the next one."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await checks.rotation(stage)
    assert stage.authority.token_lifetime == 3600


# The instruments measure


async def test_listener_counts_what_arrives() -> None:
    """A client with `plaintext=True` reaches the listener: without it the zero would prove nothing."""
    async with (
        CountingListener() as listener,
        connect(listener.target, BookstoreStub, credentials=static_token("t"), plaintext=True) as bookstore,
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await bookstore.ListShelves(Empty(), timeout=0.2)
        assert (listener.connections, listener.bytes > 0) == (1, True)


async def test_loop_watch_measures_a_blocking_call() -> None:
    """A callback that blocks the loop is a stall of about its length."""
    async with LoopWatch() as watch:
        await asyncio.sleep(0)
        time.sleep(0.05)  # noqa: ASYNC251 - the stall to measure
        await asyncio.sleep(0.01)
    assert watch.longest > 0.03


# A demo of checks


async def test_check_that_raises_fails_and_the_others_are_made() -> None:
    """Its problem is the exception in one line, without its secret."""
    results = await perform(lambda _: None, stage=unguarded_stage, checks={"bad": raising, "good": good})
    assert results[1] is GOOD
    assert (results[0].name, results[0].passed) == ("bad", False)
    assert results[0].problem == "LookupError: no such thing: Bearer [redacted]"


async def test_check_that_hangs_fails_when_its_time_is_over() -> None:
    """The demo ends all the same."""
    checks_: dict[str, Check] = {"slow": hanging, "good": good}
    results = await perform(lambda _: None, stage=unguarded_stage, checks=checks_, time_limit=0.01)
    assert [(result.name, result.passed) for result in results] == [("slow", False), ("good", True)]
    assert results[0].problem == "TimeoutError: it took more than 0.01 s"


async def test_servers_that_cannot_be_opened_are_a_failed_result() -> None:
    """No check is made, and the demo has failed."""
    closed = BookstoreServer()
    await closed.aclose()
    results = await perform(lambda _: None, stage=lambda: stage_of(closed, WitnessBookstore()), checks=CHECKS)
    assert [(result.name, result.passed) for result in results] == [("servers", False)]
    assert exit_code(results) == 1


async def test_sabotaged_demo_has_exit_code_1() -> None:
    """One check that failed is enough."""
    some = {"refusals": CHECKS["refusals"], "plaintext": CHECKS["plaintext"]}
    results = await perform(lambda _: None, stage=unguarded_stage, checks=some)
    assert [result.passed for result in results] == [False, True]
    assert exit_code(results) == 1


async def test_results_are_reported_as_they_come() -> None:
    """The first line is printed before the second check starts."""
    seen: list[CheckResult] = []

    async def second(_: Stage) -> CheckResult:
        assert seen == [GOOD]
        return GOOD

    assert (
        await perform(seen.append, stage=unguarded_stage, checks={"1": good, "2": second})
        == seen
        == [GOOD] * 2
    )


# Output


def test_failed_line_shows_the_problem() -> None:
    """Text in brackets, which rich would read as a style, is shown unchanged."""
    out = io.StringIO()
    report = TextReport(Console(file=out, width=20))
    report.add(
        CheckResult(name="cold_start", passed=False, figures={}, problem="[bold]3 token requests instead")
    )
    assert out.getvalue() == "FAILED  cold start  [bold]3 token requests instead\n"


def test_line_on_a_terminal_is_coloured() -> None:
    """A terminal gets colours and nothing else."""
    out = io.StringIO()
    TextReport(Console(file=out, force_terminal=True, color_system="standard")).add(GOOD)
    assert "\x1b[32mok" in out.getvalue()


def test_last_line_counts_the_passed_checks() -> None:
    """The total is the last line."""
    out = io.StringIO()
    bad = CheckResult(name="bad", passed=False, figures={}, problem="nothing")
    TextReport(Console(file=out)).finish([GOOD, bad], seconds=1.25)
    assert out.getvalue() == "1 of 2 checks passed, in 1.2 s\n"


def test_json_has_the_problem_of_a_failed_check(capsys: pytest.CaptureFixture[str]) -> None:
    """A passed check has none."""
    bad = CheckResult(name="bad", passed=False, figures={"calls": 3}, problem="nothing")
    JsonReport().finish([GOOD, bad], seconds=1.25)
    assert json.loads(capsys.readouterr().out) == {
        "passed": False,
        "seconds": 1.25,
        "checks": {
            "good": {"passed": True, "figures": {"answer": 42}},
            "bad": {"passed": False, "figures": {"calls": 3}, "problem": "nothing"},
        },
    }
