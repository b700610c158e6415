"""The figures of README and documentation are those of the files that benchmarks/report.py wrote."""

from __future__ import annotations

import importlib
import json
import pathlib
import re
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"

pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="the benchmarks are part of the checkout")


@pytest.fixture(scope="module")
def page() -> Iterator[ModuleType]:
    """Give the module that fills the pages in; it imports what lies beside it."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("page")
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in ("page", "tables", "results"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def results(page: ModuleType) -> ModuleType:
    """Give the module that knows the files."""
    assert page.ROOT == ROOT
    return importlib.import_module("results")


def test_each_page_is_what_the_files_make_of_it(page: ModuleType, results: ModuleType) -> None:
    """`python benchmarks/report.py --page` changes nothing."""
    figures = results.load_all()
    texts = {path.name: path.read_text() for path in page.pages()}
    assert [name for name, text in texts.items() if page.filled(text, figures) != text] == []


@pytest.mark.parametrize("name", ["README.md", "docs/explanation/performance.md"])
def test_a_page_takes_its_figures_from_the_files(page: ModuleType, name: str) -> None:
    """None that is written by hand, in the sections about cost, outlives the next measurement."""
    assert list(page.ways((ROOT / name).read_text()))


def test_the_readme_states_no_ratio_by_hand() -> None:
    """What is left of the section about cost has no decimal fraction without the mark of a file."""
    section = (ROOT / "README.md").read_text().partition("## What it costs")[2].partition("\n## ")[0]
    by_hand = re.sub(r"<!--= .*?<!--/-->", "", section)
    assert section != by_hand
    assert re.findall(r"\d+\.\d+", by_hand) == []


def test_a_changed_figure_changes_the_page(page: ModuleType) -> None:
    """The mark says where the figure is, and how it is written."""
    figures = {"part": {"result": {"ways": {"a": [0.25, 12345.6]}}}}
    text = "It is <!--= part/ways/a/1:,.0f -->1<!--/--> or <!--= part/ways/a/0:.1fx10 -->1<!--/-->."
    filled = page.filled(text, figures)
    assert re.sub("<!--.*?-->", "", filled) == "It is 12\N{NO-BREAK SPACE}346 or 2.5."


def test_a_figure_of_no_file_is_noticed(page: ModuleType) -> None:
    """It would stay what it was for ever."""
    with pytest.raises(KeyError):
        page.filled("<!--= part/way:.1f -->1<!--/-->", {})


def test_a_part_without_a_file_says_so_in_place_of_its_table(page: ModuleType) -> None:
    """And names the command that measures it."""
    filled = page.filled("<!--table burst-->\nold\n<!--/table-->", {})
    assert "old" not in filled
    assert "report.py --only burst" in filled


def test_each_file_tells_when_and_where_it_was_measured(results: ModuleType) -> None:
    """The date, the versions, the machine's size and its load."""
    for path in results.FIGURES.glob("*.json"):
        measured = json.loads(path.read_text())
        assert {"measured_at", "command", "load_before", "load_after", "machine", "result"} <= measured.keys()
        assert {"python", "cores", "memory_gb", "grpcio", "google-auth", "aiohttp"} <= measured[
            "machine"
        ].keys()


def test_each_plot_of_a_page_is_beside_its_figures(results: ModuleType) -> None:
    """A plot without a file of figures could show anything."""
    text = (ROOT / "docs" / "explanation" / "performance.md").read_text()
    plots = re.findall(r"\]\(\.\./figures/(\w+)\.svg\)", text)
    assert plots
    assert [name for name in plots if not (results.FIGURES / f"{name}.json").exists()] == []
