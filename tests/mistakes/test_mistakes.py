"""Mistakes that users make: what is said names the cause, and what to do next."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .arguments import ARGUMENTS
from .environment import ENVIRONMENT
from .life_cycle import LIFE_CYCLE
from .mistake import Mistake, Stage, said
from .network import NETWORK

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "troubleshooting.md"
# The texts in the first column of its tables.
SYMPTOMS = [
    text
    for cell in re.findall(r"^\| (`.*?) \| ", PAGE.read_text(), re.MULTILINE)
    for text in re.findall(r"`([^`]+)`", cell)
]

MISTAKES = [*ARGUMENTS, *ENVIRONMENT, *NETWORK, *LIFE_CYCLE]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Give a machine without any credentials."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_QUOTA_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return Stage(directory=tmp_path, environment=monkeypatch)


@pytest.mark.timeout(60)  # one of them starts a process
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
async def test_a_mistake_is_told_with_its_cause_and_the_next_step(mistake: Mistake, stage: Stage) -> None:
    """With `-s` it prints a row of a table: the mistake, and what is said about it."""
    words = await said(mistake, stage)
    print(f"| {mistake.name} | {' '.join(words.text.split())} |")  # noqa: T201 - read when it is run by hand
    assert re.search(mistake.cause, words.text)
    assert re.search(mistake.next_step, words.advice)


@pytest.mark.timeout(60)  # one of them starts a process
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
async def test_a_mistake_is_on_the_page_of_symptoms(mistake: Mistake, stage: Stage) -> None:
    """A reader who searches the page for what is said finds a row."""
    words = await said(mistake, stage)
    assert [text for text in SYMPTOMS if text in " ".join(words.text.split())] != []
