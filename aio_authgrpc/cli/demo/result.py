"""What a check found, and whether that is what it should have found."""

from __future__ import annotations

from dataclasses import dataclass

from aio_authgrpc._checks.secrets import redacted

Figures = dict[str, int | float | str]

# A line of a terminal or two: enough to see what went wrong.
_MAX_DESCRIPTION = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One fact of the demo.

    Attributes:
        name: Which.
        passed: Whether it happened.
        figures: What was counted and measured; empty where the check raised.
        problem: What happened instead; empty where it passed.
    """

    name: str
    passed: bool
    figures: Figures
    problem: str = ""


def judged(name: str, figures: Figures, *expectations: tuple[bool, str]) -> CheckResult:
    """Return a result that passed if every expectation holds.

    Args:
        name: The check's.
        figures: What was found.
        *expectations: Whether something holds, and what happened instead if it does not.
    """
    problems = [instead for holds, instead in expectations if not holds]
    return CheckResult(name=name, passed=not problems, figures=figures, problem="; ".join(problems))


def failed(name: str, error: Exception) -> CheckResult:
    """Return the result of a check that raised. An exception's text is cut, and shows no token."""
    text = " ".join(redacted(str(error)).split())
    problem = f"{type(error).__name__}: {text}".rstrip(": ")
    return CheckResult(name=name, passed=False, figures={}, problem=problem[:_MAX_DESCRIPTION])
