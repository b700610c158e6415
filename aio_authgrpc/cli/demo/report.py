"""The output of the demo: a line for each result, or one JSON object. Nothing is decided here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.text import Text

from aio_authgrpc.cli.demo.result import CheckResult

# ASCII only: the output may go to a file or a terminal of any encoding.
_SENTENCES = {
    "shelves": "{shelves} shelves listed over TLS with the exchanged token of {caller} "
    "({token_requests} token request)",
    "book": 'book {book} made on shelf {shelf} and read back: "{title}" by {author}',
    "cold_start": "{calls:,} concurrent calls on a cold client: {token_requests} token request, "
    "{failed_calls} failures, {seconds:.2f} s",
    "rotation": "{calls:,} calls while {tokens} tokens took turns: {failed_calls} failed; "
    "longest stall of the event loop {longest_stall_ms:.1f} ms (a token takes {token_request_ms:.0f} ms)",
    "listeners": "JWTs that the account signed itself: {h2c} over h2c, {tls} over TLS, {mutual_tls} over "
    "mutual TLS ({token_requests} token requests)",
    "replay": "{calls:,} calls while the key of their token was withdrawn: Envoy refused {replayed} of them, "
    "each was sent once more with a new token; {failed_calls} failed",
    "refusals": "no token: {no_token}; wrong audience: {wrong_audience}; expired: {expired}; "
    "foreign key: {foreign_key}",
    "plaintext": "refused at once, with {refusal}: {connections} connections, {bytes} bytes sent",
}


def sentence(result: CheckResult) -> str:
    """Return the sentence for a result: its figures, or its problem."""
    if not result.passed:
        return result.problem
    template = _SENTENCES.get(result.name)
    if template is None:
        return ", ".join(f"{name} {figure}" for name, figure in result.figures.items())
    return template.format_map(result.figures)


class Report(Protocol):
    """Output of the results, one by one and at the end."""

    def add(self, result: CheckResult) -> None:
        """Take a result as soon as it is known."""
        ...

    def finish(self, results: Sequence[CheckResult], *, seconds: float) -> None:
        """Take all results, and how many seconds they took."""
        ...


class TextReport:
    """Print a line for each result and one for all, in colour on a terminal, else as plain text.

    Args:
        console: Prints the lines; None means stdout.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = Console() if console is None else console

    def add(self, result: CheckResult) -> None:
        """Print its line."""
        mark = ("ok", "green") if result.passed else ("FAILED", "bold red")
        name = result.name.replace("_", " ")
        self._print(Text.assemble((f"{mark[0]:8}", mark[1]), (f"{name:12}", "bold"), sentence(result)))

    def finish(self, results: Sequence[CheckResult], *, seconds: float) -> None:
        """Print how many checks passed."""
        passed = sum(result.passed for result in results)
        style = "green" if passed == len(results) else "bold red"
        self._print(Text(f"{passed} of {len(results)} checks passed, in {seconds:.1f} s", style))

    def _print(self, line: Text) -> None:
        # The terminal wraps: in a file a line stays one line.
        self._console.print(line, soft_wrap=True)


class JsonReport:
    """Print one JSON object at the end.

    `{"passed": ..., "seconds": ..., "checks": {<name>: {"passed": ..., "figures": {...}}}}`; a check that
    failed has a `"problem"` too.
    """

    def add(self, result: CheckResult) -> None:
        """Print nothing yet."""

    def finish(self, results: Sequence[CheckResult], *, seconds: float) -> None:
        """Print the object."""
        checks = {result.name: _as_json(result) for result in results}
        passed = all(result.passed for result in results)
        print(json.dumps({"passed": passed, "seconds": round(seconds, 3), "checks": checks}, indent=2))


def _as_json(result: CheckResult) -> dict[str, object]:
    found: dict[str, object] = {"passed": result.passed, "figures": result.figures}
    return found if result.passed else {**found, "problem": result.problem}
