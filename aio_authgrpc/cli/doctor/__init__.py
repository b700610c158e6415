"""The command `doctor`: looks at everything between a call and its server, and names one cause."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from rich.text import Text

from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._client.target import parse_target
from aio_authgrpc.cli.console import out, print_json, progress
from aio_authgrpc.cli.doctor.credential import Clocks, DatedRequest, credential_step, token_step
from aio_authgrpc.cli.doctor.findings import FaultError, Report, State, Step, Subject
from aio_authgrpc.cli.doctor.route import look_up, proxy_of, proxy_step
from aio_authgrpc.cli.doctor.rpc import rpc_step
from aio_authgrpc.cli.doctor.transport import tcp_step, tls_step
from aio_authgrpc.cli.identity import chosen_for_host
from aio_authgrpc.cli.options import CallIdentityOptions, ConnectionOptions, CredentialOptions
from aio_authgrpc.tokens import TokenCache

STEPS = ("name", "proxy", "tcp", "tls", "credential", "token", "rpc")

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "bold red", State.SKIPPED: "dim"}


async def run(
    target: str,
    *,
    method: str,
    timeout: float,
    as_json: bool,
    credential: CredentialOptions,
    identity: CallIdentityOptions,
    connection: ConnectionOptions,
) -> int:
    """Examine the target, print what was found, and return the exit code: 1 for a fault."""
    subject = Subject(
        target=target,
        dialled=parse_target(target),
        named=connection.named(target),
        method=method.lstrip("/"),
        timeout=timeout,
        credential=credential,
        identity=identity,
        connection=connection,
    )
    report = Report(target=subject.dialled.address)
    async with progress(f"Examining {report.target}"):
        await examine(subject, report)
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)
    return 0 if report.fault is None else 1


async def examine(subject: Subject, report: Report) -> None:
    """Take the steps, up to the first that fails."""
    try:
        async with aclosing(_steps(subject, report)) as steps:
            async for step in steps:
                report.steps.append(step)
    except FaultError as error:
        report.fault = error.fault
        failed = STEPS[len(report.steps)]
        report.steps.append(
            Step(name=failed, state=State.FAILED, text=redacted(error.text), facts=error.facts)
        )
        report.steps += [
            Step(name=name, state=State.SKIPPED, text="not reached") for name in STEPS[len(report.steps) :]
        ]


async def _steps(subject: Subject, report: Report) -> AsyncGenerator[Step]:
    clocks = Clocks()
    proxy = proxy_of(subject)
    yield await look_up(subject, proxy)
    yield proxy_step(proxy)
    yield await tcp_step(subject, proxy)
    yield await tls_step(subject, proxy)
    chosen = chosen_for_host(subject.named, subject.credential, subject.identity)
    async with (
        DatedRequest(clocks) as http,
        # Not entered: entering reads the files, which is a step of its own.
        aclosing(
            TokenCache(chosen.source, audience=chosen.audience or "", request=http, attempts=1)
        ) as cache,
    ):
        step, account = await credential_step(subject, chosen, cache, http)
        yield step
        step, token = await token_step(subject, cache, clocks, account)
        yield step
    step, report.remark = await rpc_step(subject, token, account, proxy, clocks)
    yield step


def _print(report: Report) -> None:
    console = out()
    for step in report.steps:
        mark = (f"{step.state.value:9}", _STYLES[step.state])
        # A line is not said twice.
        text = "see the cause" if report.fault is not None and step.text == report.fault.cause else step.text
        console.print(Text.assemble(mark, (f"{step.name:12}", "bold"), text))
    if report.fault is None:
        console.print(Text.assemble(("No fault was found. ", "bold green"), report.remark))
        return
    console.print(Text.assemble(("Cause: ", "bold red"), report.fault.cause))
    console.print(Text.assemble(("Next:  ", "bold cyan"), report.fault.next_step))
