"""Links of the files that are read outside of the checkout lead to pages and files that exist."""

from __future__ import annotations

import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
URLS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]

# Package indexes show the README, and GitHub's forms the others: relative links do not work there.
FILES = ["README.md", "SECURITY.md", "CODE_OF_CONDUCT.md"]


def links(text: str) -> list[str]:
    """Return the targets of the Markdown links in a text."""
    return sorted(set(re.findall(r"\]\(([^)]+)\)", text)))


def anchors(page: pathlib.Path) -> set[str]:
    """Return the ids that the site gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def leads_somewhere(link: str, file: pathlib.Path) -> bool:
    """Return whether the page of the site, the file of the repository or the heading is there.

    Links to other projects are not looked up: the tests need no network.
    """
    address, _, anchor = link.partition("#")
    if not address:
        target = file
    elif address.startswith(URLS["Documentation"]):
        path = address.removeprefix(URLS["Documentation"]).removesuffix("/")
        target = ROOT / "docs" / f"{path or 'index'}.md"
    elif found := re.fullmatch(re.escape(URLS["Source"]) + r"/(?:blob|tree)/main/(.*)", address):
        target = ROOT / found[1]
    else:
        return address.startswith("https://")
    return target.exists() and (not anchor or anchor in anchors(target))


@pytest.mark.parametrize(
    ("file", "link"),
    [(name, link) for name in FILES if (ROOT / name).exists() for link in links((ROOT / name).read_text())],
)
def test_a_link_leads_somewhere(file: str, link: str) -> None:
    """Relative links fail too."""
    assert leads_somewhere(link, ROOT / file)


@pytest.mark.parametrize(
    "link",
    [
        pytest.param("docs/tutorial.md", id="relative"),
        pytest.param("#no-such-heading", id="heading"),
        pytest.param(f"{URLS['Documentation']}no-such-page/", id="page"),
        pytest.param(f"{URLS['Documentation']}tutorial/#no-such-heading", id="heading-of-a-page"),
        pytest.param(f"{URLS['Source']}/blob/main/no-such-file", id="file"),
    ],
)
def test_a_dead_link_is_noticed(link: str) -> None:
    """A page, a file or a heading that does not exist, and a path that only a checkout has."""
    assert not leads_somewhere(link, ROOT / "README.md")


def test_the_changelog_is_where_the_package_index_looks() -> None:
    """`[project.urls]` names it."""
    assert leads_somewhere(URLS["Changelog"], ROOT / "README.md")
