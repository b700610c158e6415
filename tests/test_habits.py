"""The files around the code agree with pyproject.toml and tox.ini."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
HOOKS = ROOT / ".pre-commit-config.yaml"

needs_checkout = pytest.mark.skipif(not WORKFLOW.exists(), reason="needs a checkout, with its hidden files")


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def tox_ini() -> configparser.ConfigParser:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    return tox


def tox_environments() -> set[str]:
    return set(tox_ini()["tox"]["env_list"].split())


def is_a_python(environment: str) -> bool:
    return re.fullmatch(r"py3\d+t?", environment) is not None


@needs_checkout
def test_the_hooks_install_the_versions_of_the_lint_group() -> None:
    """So that a commit and the build see the same complaints."""
    installed = re.findall(r"additional_dependencies: (?:&lint )?\[(.*)\]", HOOKS.read_text())
    assert [sorted(names.split(", ")) for names in installed] == [pyproject()["dependency-groups"]["lint"]]


@needs_checkout
def test_the_workflow_runs_each_environment_of_tox() -> None:
    """Those of a Python version come from the classifiers, all others are named."""
    named = re.findall(r"environment: \[(.*)\]", WORKFLOW.read_text())
    others = {environment for environment in tox_environments() if not is_a_python(environment)}
    assert [set(names.split(", ")) for names in named] == [others]


def test_the_classifiers_are_the_pythons_of_tox() -> None:
    """The workflow's matrix is made of them; free-threaded Pythons have no classifier of their own."""
    minors = re.findall(r"Python :: 3\.(\d+)", "\n".join(pyproject()["project"]["classifiers"]))
    pythons = {
        environment.removesuffix("t") for environment in tox_environments() if is_a_python(environment)
    }
    lowest = tox_ini()["testenv:lowest"]["base_python"]
    assert lowest == f"py3{min(minors, key=int)}"
    assert {f"py3{minor}" for minor in minors} == pythons | {lowest}


def test_the_lowest_classifier_is_the_lowest_python_that_is_required() -> None:
    """The workflow's matrix is made of the classifiers."""
    project = pyproject()["project"]
    versions = re.findall(r"Python :: 3\.(\d+)", "\n".join(project["classifiers"]))
    assert f">=3.{min(map(int, versions))}" == project["requires-python"]


def test_the_lock_file_of_npm_names_no_registry() -> None:
    """The one that is configured where it runs is asked; the hashes say whether the answer is right."""
    locked = json.loads((ROOT / "tests" / "oidc_provider" / "package-lock.json").read_text())
    packages = {name: package for name, package in locked["packages"].items() if name}
    assert packages
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package
