"""What the README tells people to type."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()

HOW_TOS = sorted((ROOT / "docs" / "how-to").glob("*.md"))
# All but the pages about tests and about the command.
PRODUCTION = [
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    *(page for page in HOW_TOS if page.stem not in ("testing", "command-line")),
]

DEMO = "python3 -m venv .venv && .venv/bin/pip install --quiet '.[cli]' && .venv/bin/aio-authgrpc demo"
TESTS = (
    "python3 -m venv .venv-tox && .venv-tox/bin/pip install --quiet tox uv && .venv-tox/bin/tox run-parallel"
)


def test_the_checkout_is_tried_with_two_commands() -> None:
    """One line each, in a block of its own, so that it can be copied."""
    section = README.partition("## Try it from a checkout\n")[2].partition("\n## ")[0]
    assert re.findall(r"```sh\n(.*?)\n```", section, re.DOTALL) == [DEMO, TESTS]


def test_the_test_command_is_what_the_build_runs() -> None:
    """Word for word, so that a contributor gets the result of the build."""
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("there is no .ci/run here, as in a source distribution")
    assert TESTS in script.read_text()


def test_the_first_forty_lines_say_what_it_is() -> None:
    """How to install and use it, what it does not do, and where to read on."""
    top = "\n".join(README.splitlines()[:40])
    assert "\npip install aio-authgrpc\n" in top
    assert "\n    async with aio_authgrpc.connect(" in top
    assert "\nWhat it does not do:\n" in top
    assert "[Tutorial](https://" in top


def install_lines(text: str) -> list[str]:
    """Return what the shell blocks of a text install."""
    blocks = re.findall(r"^```sh\n(.*?)\n```", text, re.DOTALL | re.MULTILINE)
    return re.findall(r"pip install (\S*aio-authgrpc\S*)", "\n".join(blocks))


@pytest.mark.parametrize("page", PRODUCTION, ids=lambda page: str(page.stem))
def test_a_page_for_production_installs_the_bare_package(page: pathlib.Path) -> None:
    """The extra with the servers of the tests belongs to the tests."""
    (installed,) = install_lines(page.read_text().partition("\n## Test\n")[0])
    assert installed in ("aio-authgrpc", "'aio-authgrpc[redis]'")


@pytest.mark.parametrize("page", HOW_TOS, ids=lambda page: str(page.stem))
def test_a_page_names_the_extra_that_its_examples_import(page: pathlib.Path) -> None:
    """Before the first of them; the servers of the tests are not in the bare package."""
    setup, _, tests = page.read_text().partition("\n## Test\n")
    if first := re.search(r"^(?:from |pytest_plugins = ).*aio_authgrpc\.testing", setup, re.MULTILINE):
        assert "pip install 'aio-authgrpc[testing]'" in setup[: first.start()]
    elif "aio_authgrpc.testing" in tests:
        assert "pip install 'aio-authgrpc[testing]' pytest pytest-asyncio" in tests.partition("```python")[0]
        assert re.search(r"asyncio_mode|testing\.md#set-up", tests.partition("```python")[0])


def test_the_web_service_is_tried_with_what_the_readme_installs() -> None:
    """The commands name files that exist; tests/docs/test_examples.py runs them."""
    section = README.partition("## Try it in a web service\n")[2].partition("\n## ")[0]
    commands = "\n".join(re.findall(r"```sh\n(.*?)\n```", section, re.DOTALL))
    named = re.findall(r"examples/\w+\.py", section)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert ".venv/bin/python examples/fastapi_service.py --serve" in commands
    assert ".venv/bin/python -m pytest examples" in commands
