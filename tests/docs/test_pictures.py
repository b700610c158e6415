"""The pictures of the explanations are those that their script draws from the package."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "pictures.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the script as a module of this test's own."""
    spec = importlib.util.spec_from_file_location("pictures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module


def test_the_pictures_are_what_the_script_draws(script: Any) -> None:
    """`python scripts/pictures.py` draws them anew."""
    assert script.main(["--check"]) == 0


def test_another_margin_is_noticed(script: Any) -> None:
    """The instants come from the package."""
    own = script.limits
    script.limits = lambda **arguments: tuple(at - 1 for at in own(**arguments))
    assert script.main(["--check"]) == 1


def test_a_way_that_is_not_drawn_is_noticed(script: Any) -> None:
    """The ways of a call are those of its methods."""
    script.WAYS = script.WAYS[:-1]
    assert {(way.caller, way.callee) for way in script.WAYS} != script.ways_of_the_code()
    assert script.main(["--check"]) == 1


def test_every_picture_is_on_a_page_with_words_in_its_place(script: Any) -> None:
    """For those who do not see it, and where it is not loaded."""
    pages = "".join(page.read_text() for page in script.FOLDER.glob("*.md"))
    # Those of benchmarks are in a folder of their own.
    shown = dict(re.findall(r"!\[([^\]]+)\]\(([^\s/]+\.svg)\)", pages))
    assert set(shown.values()) == set(script.PICTURES)
