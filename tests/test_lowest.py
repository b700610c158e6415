"""A lower bound is a version that `tox -e lowest` really installs and runs."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOWEST = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "tests" / "lowest.txt").read_text(), re.MULTILINE))


def test_each_lower_bound_is_the_version_that_is_run() -> None:
    """Those of the package and those of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(name for extra in extras for name in extra)]
    bounds = dict(re.fullmatch(r"([\w-]+)>=([\w.]+)", name).groups() for name in wanted if "[" not in name)  # type: ignore[union-attr]  # a bound of another form fails here
    assert bounds == LOWEST


@pytest.mark.skipif("AIO_AUTHGRPC_LOWEST" not in os.environ, reason="only `tox -e lowest` installs them")
def test_the_lowest_versions_are_installed() -> None:
    """Or the environment would prove nothing."""
    assert {name: importlib.metadata.version(name) for name in LOWEST} == LOWEST
