"""A real Redis or Valkey on the loopback interface, started, frozen and killed on demand."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import tempfile
from pathlib import Path

from aio_authgrpc.testing.envoy.process import bound_to_this_process
from aio_authgrpc.testing.servers.lifecycle import Lifecycle

# Seconds. Redis listens within 50 ms of its start, and is asked again after these.
_LOOK_AGAIN = 0.01
# Another process may take the port between its choice and the start.
_ATTEMPTS = 3


class RedisNotFoundError(RuntimeError):
    """Neither Redis nor Valkey is installed."""


def find_redis() -> Path:
    """Return the path of `valkey-server` or `redis-server`, the first on `PATH`.

    Raises:
        RedisNotFoundError: There is neither. The text says what to install.
    """
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise RedisNotFoundError("Redis is not installed: apt-get install redis-server, or valkey-server")
    return Path(found)


class RedisServer(Lifecycle):
    """Run a real Redis or Valkey on 127.0.0.1, with its files in a temporary folder.

    It ends with this object; on Linux also if this process is killed, or if the thread that started it ends.

    Args:
        *options: More of the server's own options, such as `"--requirepass", "secret"`.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port that it listens on.

        Raises:
            RuntimeError: It is not open.
        """
        if self._process is None:
            raise self._not_open()
        return self._port

    @property
    def dump(self) -> Path:
        """Where the command `SAVE` writes all that it holds.

        Raises:
            RuntimeError: It is not open.
        """
        if self._folder is None:
            raise self._not_open()
        return Path(self._folder.name) / "dump.rdb"

    def freeze(self) -> None:
        """Stop its process, so that it accepts connections and answers nothing; `thaw()` lets it go on."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze()`."""
        self._running().send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End its process at once. Connections are refused from now on."""
        process = self._running()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _open(self) -> None:
        executable = find_redis()
        self._folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="aio_authgrpc-redis-")
        for _ in range(_ATTEMPTS):
            if await self._start(executable):
                return
        raise RuntimeError(f"{executable} did not start: {self._log()}")

    async def _start(self, executable: Path) -> bool:
        """Start it on a free port; return whether it listens."""
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self._port = chosen.getsockname()[1]
        folder = str(self.dump.parent)
        command = [
            *(str(executable), "--bind", "127.0.0.1", "--port", str(self._port)),
            *("--dir", folder, "--save", "", "--logfile", "log", *self._options),
        ]
        self._process = await asyncio.create_subprocess_exec(
            *bound_to_this_process(command), cwd=folder, stdin=asyncio.subprocess.DEVNULL
        )
        while self._process.returncode is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.close()
                await writer.wait_closed()
                return True
            await asyncio.sleep(_LOOK_AGAIN)
        return False

    async def _close(self) -> None:
        if self._process is not None:
            await self.kill()
        if self._folder is not None:
            await asyncio.to_thread(self._folder.cleanup)

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise self._not_open()
        return self._process

    def _log(self) -> str:
        log = self.dump.parent / "log"
        return log.read_text() if log.exists() else "it wrote no log"
