"""The result of a check: its figures, and whether they are as expected."""

from __future__ import annotations

from dataclasses import dataclass

from aio_authgrpc._checks.secrets import redacted

Figures = dict[str, int | float | str]

# One or two lines of a terminal: enough to see what went wrong.
_MAX_DESCRIPTION = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check of the demo.

    Attributes:
        name: The check's name.
        passed: Whether every expectation holds.
        figures: The counts and measurements; empty if the check raised.
        problem: The expectations that failed, or the error; empty if the check passed.
    """

    name: str
    passed: bool
    figures: Figures
    problem: str = ""


def judged(name: str, figures: Figures, *expectations: tuple[bool, str]) -> CheckResult:
    """Return a result that passed if every expectation holds.

    Args:
        name: The check's name.
        figures: The counts and measurements.
        *expectations: Whether each holds, and the problem if it does not.
    """
    problems = [instead for holds, instead in expectations if not holds]
    return CheckResult(name=name, passed=not problems, figures=figures, problem="; ".join(problems))


def failed(name: str, error: Exception) -> CheckResult:
    """Return the result of a check that raised. The exception's text is shortened, its tokens redacted."""
    text = " ".join(redacted(str(error)).split())
    problem = f"{type(error).__name__}: {text}".rstrip(": ")
    return CheckResult(name=name, passed=False, figures={}, problem=problem[:_MAX_DESCRIPTION])
