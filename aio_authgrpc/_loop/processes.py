"""Programs that are run in a worker thread, and killed by the loop."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

# What these programs print has some thousand bytes.
MAX_OUTPUT_BYTES = 1024 * 1024
# A process that has ended left its output in the pipe: reading it takes milliseconds.
_DRAIN_TIMEOUT = 1.0


class CutOffError(Exception):
    """The program was not started, because its result is no longer wanted."""


class KillableProcess:
    """Runs one program after another, blocking a worker thread until another thread cuts it off."""

    def __init__(self, start: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cut_off = False

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Return the status and the output, of which `MAX_OUTPUT_BYTES` at most are read before it is killed.

        Raises:
            subprocess.TimeoutExpired: After `timeout` seconds; it is killed.
            CutOffError: `cut_off` was called before.
        """
        if self._cut_off:
            raise CutOffError
        # Without the lock: starting a program may take as long as its file system does, and cut_off() is
        # called on the loop. A session of its own, so that its children can be killed with it.
        process = self._start(
            command,
            bufsize=0,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=env,
            start_new_session=True,
        )
        output = bytearray()
        # A daemon that the process leaves behind may hold the pipe open for ever.
        reader = threading.Thread(
            target=_read_output, args=(process, output), name="aio_authgrpc output", daemon=True
        )
        reader.start()
        with self._lock:
            self._process = process
            if self._cut_off:
                _kill(process)
        try:
            process.wait(timeout)  # without a time-out, it is bounded by cut_off()
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()
            raise
        reader.join(_DRAIN_TIMEOUT)
        return subprocess.CompletedProcess(command, process.returncode, stdout=bytes(output))

    def cut_off(self) -> None:
        """Kill the program if it runs, and never start one after this. Does not block."""
        with self._lock:
            self._cut_off = True
            if self._process is not None:
                _kill(self._process)


def _read_output(process: subprocess.Popen[bytes], output: bytearray) -> None:
    assert process.stdout is not None
    with process.stdout as pipe:  # closed by its only reader: the descriptor's number is reused at once
        while len(output) <= MAX_OUTPUT_BYTES and (chunk := pipe.read(65536)):
            output += chunk
    if len(output) > MAX_OUTPUT_BYTES:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:
        return  # its number may be another process's by now
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
