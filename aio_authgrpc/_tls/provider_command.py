"""The command of a device that prints its client certificate, run in a thread and killed from another."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from google.auth.exceptions import ClientCertError

# Certificates and a key have some thousand bytes.
_MAX_OUTPUT_BYTES = 1024 * 1024
# A process that has ended left its output in the pipe: reading it takes milliseconds.
_DRAIN_TIMEOUT = 1.0


class ProviderCommand:
    """Runs a command once.

    Args:
        start: Starts a program, as `subprocess.Popen`.
    """

    def __init__(self, start: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cut_off = False

    def run(self, command: Sequence[str]) -> bytes:
        """Return what the command prints. Blocks until it ends, or until `cut_off()`.

        Raises:
            OSError: The program cannot be started.
            ClientCertError: It failed, or printed too much, or was cut off before it started.
        """
        if self._cut_off:
            raise ClientCertError("the look-up was cancelled.")
        # Without the lock: starting a program may take as long as its file system does, and cut_off() is
        # called on the loop. A session of its own, so that its children can be killed with it.
        process = self._start(
            command,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        output = _Output(process)
        with self._lock:
            self._process = process
            if self._cut_off:
                _kill(process)
        process.wait()  # bounded by cut_off()
        text = output.text()
        if output.too_large:
            raise ClientCertError(f"the provider command printed more than {_MAX_OUTPUT_BYTES} bytes.")
        if process.returncode != 0:
            raise ClientCertError(f"the provider command ended with status {process.returncode}.")
        return text

    def cut_off(self) -> None:
        """Kill the command if it runs, and never start it after this. Does not block."""
        with self._lock:
            self._cut_off = True
            if self._process is not None:
                _kill(self._process)


class _Output:
    """What a process prints, read in a thread: a daemon it leaves behind may hold the pipe open for ever."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._read = b""
        self._thread = threading.Thread(target=self._run, name="aio_authgrpc output", daemon=True)
        self._thread.start()

    @property
    def too_large(self) -> bool:
        """Whether the process was killed because it printed too much."""
        return len(self._read) > _MAX_OUTPUT_BYTES

    def text(self) -> bytes:
        """Return the output of a process that has ended."""
        self._thread.join(_DRAIN_TIMEOUT)
        return self._read

    def _run(self) -> None:
        pipe = self._process.stdout
        if pipe is None:
            return
        with pipe:  # closed by its only reader: the descriptor's number is reused at once
            while not self.too_large and (chunk := pipe.read(65536)):
                self._read += chunk
        if self.too_large:
            _kill(self._process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:
        return  # its number may be another process's by now
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
