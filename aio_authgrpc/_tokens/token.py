"""`Token`: one bearer token or key, and what goes on the wire with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.pickling import NotPickled
from aio_authgrpc._tokens.metadata import Metadata, checked_header, is_metadata_text
from aio_authgrpc.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Token(NotPickled):
    """One bearer token, or one key, and what goes on the wire with it.

    It shows its secret in no `repr` and refuses to be pickled.

    Args:
        value: The token itself, printable ASCII. Empty means that no credential is sent (anonymous).
        expires_at: Seconds since the epoch; None means that it does not expire by itself.
        scheme: What stands before the value in the header (RFC 6750); empty for a bare key.
        metadata: More metadata that belongs to the token, such as `x-goog-user-project`.

    Raises:
        ConfigurationError: A field has the wrong type, or characters that no metadata can carry.
    """

    value: str = field(repr=False)
    expires_at: float | None = field(default=None, kw_only=True)
    scheme: str = field(default="Bearer", kw_only=True)
    metadata: Metadata = field(default=(), kw_only=True, repr=False)

    def __post_init__(self) -> None:
        # Tokens come from users' code: what the annotations promise is checked all the same.
        check_type("token", self.value, str)
        check_type("scheme", self.scheme, str)
        check_type(
            "expires_at", self.expires_at, int, float, type(None), hint="A datetime has a .timestamp()."
        )
        if not is_metadata_text(self.value) or " " in self.value:
            raise ConfigurationError(
                "it holds a blank, a line end or another character that a header cannot carry.",
                field="token",
                hint="Leave out the word Bearer, and strip what was read from a file.",
            )
        if not is_metadata_text(self.scheme):
            raise ConfigurationError("it is not printable ASCII text.", field="scheme")
        if self.expires_at is not None and not math.isfinite(self.expires_at):
            raise ConfigurationError("it is no instant.", field="expires_at", hint="None means never.")
        check_type("metadata", self.metadata, tuple)
        for pair in self.metadata:
            if not (isinstance(pair, tuple) and len(pair) == 2 and is_metadata_text(pair[1])):
                raise ConfigurationError(
                    "expected pairs of a key and printable ASCII text.", field="metadata"
                )
            if checked_header(pair[0], "metadata") != pair[0]:
                raise ConfigurationError("keys are in lower case.", field="metadata")

    def as_metadata(self, header: str) -> Metadata:
        """Return what is added to an RPC: the token under `header`, then its own metadata."""
        if not self.value:
            return self.metadata
        value = f"{self.scheme} {self.value}" if self.scheme else self.value
        return ((header, value), *self.metadata)
