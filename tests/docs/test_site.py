"""The pages as a site: everything public is on it, and nothing is fetched from elsewhere."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pathlib
import re
import tomllib
from typing import Any

import pytest

import aio_authgrpc
import aio_authgrpc.bookstore

ROOT = pathlib.Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
SETTINGS = ROOT / "mkdocs.yml"

pytestmark = [
    pytest.mark.timeout(60),  # it starts a process
    pytest.mark.skipif(not SETTINGS.exists(), reason="needs a checkout, with mkdocs.yml"),
]


def test_everything_public_has_a_place_in_the_reference() -> None:
    """By name; the fakes are there as a package."""
    pages = "".join(page.read_text() for page in REFERENCE.glob("*.md"))
    generated = set(re.findall(r"^(?:::: aio_authgrpc[.\w]*\.| +- )(\w+)$", pages, re.MULTILINE))
    modules = [aio_authgrpc.credentials, aio_authgrpc.events, aio_authgrpc.tokens]
    names = {name for module in (aio_authgrpc, *modules) for name in module.__all__}
    assert names | {"testing"} <= generated
    by_hand = set(re.findall(r"`(\w+)`", (REFERENCE / "bookstore.md").read_text()))
    assert set(aio_authgrpc.bookstore.__all__) <= generated | by_hand


@pytest.mark.parametrize("name", ["aiohttp", "errors", "fastapi", "gapic", "httpx", "otel", "web"])
def test_everything_that_a_public_module_defines_is_in_the_reference(name: str) -> None:
    """A module on a page lists its members there, or names them one by one."""
    module = importlib.import_module(f"aio_authgrpc.{name}")
    pages = "".join(page.read_text() for page in REFERENCE.glob("*.md"))
    listed = re.findall(rf"^::: {module.__name__}\.(\w+)$", pages, re.MULTILINE)
    _, _, options = pages.partition(f"::: {module.__name__}\n")
    listed += re.findall(r"\w+", options.partition(":::")[0])
    defined = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith(module.__name__)
    ]
    assert defined
    assert set(defined) - set(listed) == set()


def test_every_page_is_in_the_navigation() -> None:
    """So mkdocs demands too, where it is installed."""
    listed = set(re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", SETTINGS.read_text(), re.MULTILINE))
    assert listed == {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}


def test_the_site_is_where_the_package_index_looks() -> None:
    """`[project.urls]` and mkdocs.yml name one address."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert f"site_url: {urls['Documentation']}\n" in SETTINGS.read_text()


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the dependency group `docs`")
async def test_the_site_is_built_without_a_warning_and_loads_nothing(
    world: Any, tmp_path: pathlib.Path
) -> None:
    """No font, no script and no style comes from another host; the proxy of this world knows none of them."""
    site = tmp_path / "site"
    ran = await world.run("-W", "ignore", "-m", "mkdocs", "build", "--strict", "-f", SETTINGS, "-d", site)
    assert ran.code == 0, ran.errors
    pages = "".join(page.read_text() for page in site.rglob("*.html"))
    assert re.findall(r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//[^>]+>", pages) == []
    # A canonical address is never fetched.
    assert re.findall(r"<link(?! rel=\"?canonical)[^>]+href=\"?(?:https?:)?//[^>]+>", pages) == []
    # The theme's script asks GitHub for stars where it finds this component.
    assert "data-md-component=source" not in pages.replace('"', "")
