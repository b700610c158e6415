"""Every Python block of the README and the documentation is run as it stands; see `world` in conftest.py."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(60)  # each starts processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RUN_PAGE = pathlib.Path(__file__).with_name("run_page.py")

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
HOW_TOS = sorted((DOCS / "how-to").glob("*.md"))

LANGUAGES = {"python", "text", "sh", "yaml", "toml"}
HEADINGS = ["Set up", "Use", "Test", "Close", "Reference"]


def name(page: pathlib.Path) -> str:
    return str(page.relative_to(ROOT))


def fences(page: pathlib.Path) -> list[str]:
    """Return what stands after the three backticks of each opening fence."""
    return re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)[::2]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any("python" in fence for fence in fences(page))], ids=name
)
async def test_a_page_runs_as_it_stands(page: pathlib.Path, world: Any) -> None:
    """Its blocks print what it says, and its tests pass; nothing warns, is left open, or shows a secret."""
    ran = await world.run(RUN_PAGE, page)
    assert ran.code == 0, ran.output + ran.errors
    assert ran.complaints == [], ran.errors
    left_out = [line for line in ran.output.splitlines() if line.startswith("Left out, for want of")]
    if left_out:
        pytest.skip("; ".join(left_out))


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        pytest.param(["```python", "raise LookupError", "```"], r'page\.md", line 2\b', id="raises"),
        pytest.param(
            ["```python", "print(1)", "```", '```text title="Output"', "2", "```"],
            "it printed\n1\n",
            id="prints",
        ),
        pytest.param(
            ['```python title="test_it.py"', "def test_it(): assert 1 == 2", "```"], "1 failed", id="fails"
        ),
        pytest.param(
            ["```python", "import warnings; warnings.warn('old')", "```"], "UserWarning", id="warns"
        ),
        pytest.param(["```python", "open('page.md')", "```"], "ResourceWarning", id="leaves-open"),
        pytest.param(["```python", "await nothing()", "```"], "NameError", id="awaits"),
        pytest.param(["   ```python", "   1 +", "   ```"], "SyntaxError", id="is-indented"),
    ],
)
async def test_a_page_that_is_wrong_does_not_run(world: Any, block: list[str], complaint: str) -> None:
    """The runner sees what it looks for."""
    page = world.directory / "page.md"
    page.write_text("\n".join(block))
    ran = await world.run(RUN_PAGE, page)
    assert ran.code != 0 or ran.complaints
    assert re.search(complaint, ran.output + ran.errors)


async def test_a_process_that_shows_a_token_is_caught(world: Any) -> None:
    """Whatever a page or an example writes is searched."""
    with pytest.raises(AssertionError):
        await world.run("-c", "print('Bearer', 'a-token')")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_fence_names_a_known_language(page: pathlib.Path) -> None:
    """So that no Python escapes by being called something else."""
    assert {fence.partition(" ")[0] for fence in fences(page)} <= LANGUAGES


@pytest.mark.parametrize("page", HOW_TOS, ids=name)
def test_how_to_guides_have_the_same_headings(page: pathlib.Path) -> None:
    """A reader of one page finds the way in the others."""
    assert re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("page", HOW_TOS, ids=name)
def test_how_to_guides_have_headings_in_place_of_bold_words(page: pathlib.Path) -> None:
    """The table of contents lists headings only."""
    assert re.findall(r"^\*\*", page.read_text(), re.MULTILINE) == []


def test_integrations_are_in_the_table_of_contents() -> None:
    """A reader looks for the framework's name: in the titles of the pages, and in the headings of one."""
    titles = {page.read_text().partition("\n")[0] for page in HOW_TOS}
    assert {"# Call gRPC from FastAPI", "# Call gRPC from an aiohttp application"} <= titles
    headings = re.findall(r"^### (.*)$", (DOCS / "how-to" / "services.md").read_text(), re.MULTILINE)
    assert {"FastAPI and aiohttp", "gunicorn and uvicorn workers", "Health check"} <= set(headings)
