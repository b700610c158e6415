"""One RPC's metadata, promised to gRPC."""

from __future__ import annotations

import threading

import grpc

from aio_authgrpc.errors import AuthGrpcError


class LastFailure:
    """Why the last RPC of a plugin that got no token got none; None if none failed.

    It is apart from the plugin, which an RPC that waits must not keep alive.
    """

    error: AuthGrpcError | None = None


class Handover:
    """An RPC that gRPC handed over to a plugin: answered exactly once, from any thread.

    Args:
        callback: gRPC's, for the answer.
        last_failure: Where the error is noted, if that is the answer.
    """

    def __init__(self, callback: grpc.AuthMetadataPluginCallback, last_failure: LastFailure) -> None:
        self._callback = callback
        self._last_failure = last_failure
        self._lock = threading.Lock()
        self._answered = False
        self.taken = threading.Event()

    def take(self) -> bool:
        """Note that the loop has started; return whether gRPC still waits."""
        self.taken.set()
        return not self._answered

    @property
    def answered(self) -> bool:
        """Whether gRPC has its answer."""
        return self._answered

    def answer(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Give the metadata, unless an answer was given."""
        if self._first():
            self._callback(metadata, None)

    def fail(self, error: AuthGrpcError) -> None:
        """Give the failure, unless an answer was given. gRPC takes its text, and nothing else."""
        if self._first():
            self._last_failure.error = error
            advice = "a retry may help" if error.retryable else "a retry will not help"
            self._callback((), RuntimeError(f"{error} [{advice}]"))

    def _first(self) -> bool:
        with self._lock:
            first, self._answered = not self._answered, True
        return first
