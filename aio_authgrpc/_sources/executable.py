"""Subject tokens from an executable, which is killed when nobody waits any more. For worker threads."""

from __future__ import annotations

import subprocess
from types import FunctionType, SimpleNamespace
from typing import Any

from google.auth import pluggable

from aio_authgrpc._http.bridge import ThreadRequest
from aio_authgrpc._loop.processes import KillableProcess


class ExecutableCredentials(pluggable.Credentials):
    """google-auth's credential of an executable, which runs it by the request's `process`.

    google-auth waits for the executable for up to 2 minutes, and nothing can end that wait. Its method is
    called with another `subprocess` than its module's: it reads the output file and checks the answer, which
    differs between versions.
    """

    def retrieve_subject_token(self, request: Any) -> Any:
        untyped: Any = pluggable.Credentials
        theirs = untyped.retrieve_subject_token
        sender: object = getattr(request, "func", request)  # a partial with the client certificate
        if self.interactive or not isinstance(sender, ThreadRequest):
            return theirs(self, request)
        names = {**vars(pluggable), "subprocess": _subprocess(sender.process)}
        return FunctionType(theirs.__code__, names)(self, request)


def _subprocess(process: KillableProcess) -> SimpleNamespace:
    """Return what google-auth uses of the module `subprocess`."""

    def run(command: list[str], *, stdout: int, **options: Any) -> subprocess.CompletedProcess[bytes]:
        assert stdout == subprocess.PIPE
        return process.run(command, **options)

    return SimpleNamespace(run=run, PIPE=subprocess.PIPE, STDOUT=subprocess.STDOUT)
