"""200 staged failures before a reporter that reads everything: it finds none of 40 planted secrets."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.support.secrets_in_sight import Records

from .calls import CALLS
from .certificates import CERTIFICATES
from .collector import texts_of
from .lab import Lab
from .mistakes import MISTAKES
from .planted import PLANTED, needles
from .repeater import FAULTS
from .sources import EXECUTABLES, SOURCES, executable

Stage = Callable[[Lab], Awaitable[object]]
# A signed assertion is made on the way.
_ASSERTION = re.compile(r"eyJ[\w-]{10,}\.eyJ")


def refresh(source: str, fault: str) -> Stage:
    make, good = SOURCES[source]

    async def stage(lab: Lab) -> object:
        lab.repeater.good, lab.repeater.fault = good, fault
        return await lab.token(make(lab))

    return stage


def run(command: str) -> Stage:
    async def stage(lab: Lab) -> object:
        return await lab.token(executable(lab, command))

    return stage


FAILURES: dict[str, dict[str, Stage]] = {
    **{source: {fault: refresh(source, fault) for fault in FAULTS} for source in SOURCES},
    "executables": {name: run(command) for name, command in EXECUTABLES.items()},
    **MISTAKES,
    **CALLS,
    **CERTIFICATES,
}


@pytest.fixture
def records() -> Iterator[Records]:
    """Give what is logged, at all levels."""
    records, root = Records(), logging.getLogger()
    root.addHandler(records)
    yield records
    root.removeHandler(records)


def found_in(texts: list[str], secrets: list[str]) -> set[str]:
    """Return the pieces of secrets that stand in the texts."""
    text = "\n".join(texts)
    return {piece for piece in secrets if piece in text} | set(_ASSERTION.findall(text))


@pytest.mark.parametrize("topic", FAILURES)
async def test_a_failure_shows_no_secret(topic: str, lab: Lab, records: Records) -> None:
    """In its error with all causes and the locals of all frames, in the log at DEBUG, and in events."""
    pem_lines = [line for key in (lab.private_key, lab.ec_key) for line in key.splitlines()[1:-1]]
    secrets = needles([*PLANTED.values(), *pem_lines])
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    shown: dict[str, set[str]] = {}
    for name, stage in FAILURES[topic].items():
        with pytest.raises(Exception) as caught:  # noqa: PT011 - each has a type of its own
            await stage(lab)
        errors = [caught.value, *filter(None, lab.errors)]
        texts = [text for error in errors for text in texts_of(error)]
        texts += [*records.texts, *map(repr, lab.events), *map(repr, told)]
        shown[name] = found_in(texts, secrets)
    assert {name: pieces for name, pieces in shown.items() if pieces} == {}


def test_200_failures_are_staged_and_40_secrets_planted() -> None:
    """A key of each kind is planted, too."""
    assert sum(map(len, FAILURES.values())) >= 200
    assert len(PLANTED) + 2 >= 40
