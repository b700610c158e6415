"""The exception with which the guard refuses a call."""

from __future__ import annotations

import grpc


class RefusedError(Exception):
    """A refusal by the guard.

    Args:
        code: The status code.
        details: ESPv2's words.
        challenge: The `error` of the `www-authenticate` challenge; None leaves it out, as for a missing
            token.
    """

    def __init__(
        self, code: grpc.StatusCode, details: str, *, challenge: str | None = "invalid_token"
    ) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.challenge = challenge


def unauthenticated(details: str, *, challenge: str | None = "invalid_token") -> RefusedError:
    """Return a refusal with UNAUTHENTICATED. The arguments are those of `RefusedError`."""
    return RefusedError(grpc.StatusCode.UNAUTHENTICATED, details, challenge=challenge)
