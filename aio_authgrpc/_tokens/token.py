"""`Token`: one bearer token or API key, and the metadata that it becomes."""

from __future__ import annotations

import math

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.values import FrozenValue, NotPickled
from aio_authgrpc._tokens.metadata import Metadata, checked_header, is_metadata_text
from aio_authgrpc.errors import ConfigurationError, TokenRefusedError


class Token(NotPickled, FrozenValue):
    """One bearer token or API key. Its `repr` hides the secret, and it refuses to be pickled.

    Args:
        value: The token itself, in printable ASCII without blanks. Empty sends no credential (anonymous).
        expires_at: When it expires, in seconds since the epoch; None for never.
        scheme: The word before the value in the header (RFC 6750, section 2.1); empty for a bare key.
        metadata: More metadata that belongs to the token, such as `x-goog-user-project`; lower-case keys.

    Raises:
        ConfigurationError: A field has the wrong type, or a character that metadata cannot carry.
    """

    value: str
    expires_at: float | None
    scheme: str
    metadata: Metadata

    def __init__(
        self,
        value: str,
        *,
        expires_at: float | None = None,
        scheme: str = "Bearer",
        metadata: Metadata = (),
    ) -> None:
        super().__init__(value=value, expires_at=expires_at, scheme=scheme, metadata=metadata)
        # Tokens come from users' code, which a type checker may never have seen.
        check_type("token", self.value, str)
        check_type("scheme", self.scheme, str)
        check_type(
            "expires_at", self.expires_at, int, float, type(None), hint="A datetime has a .timestamp()."
        )
        if not is_metadata_text(self.value) or " " in self.value:
            raise ConfigurationError(
                "it holds a blank, a line end or another character that a header cannot carry.",
                field="token",
                hint="Leave out the word Bearer, and strip a token that was read from a file.",
            )
        if not is_metadata_text(self.scheme):
            raise ConfigurationError("it is not printable ASCII text.", field="scheme")
        if self.expires_at is not None and not math.isfinite(self.expires_at):
            raise ConfigurationError("it is not finite.", field="expires_at", hint="None means never.")
        check_type("metadata", self.metadata, tuple)
        for pair in self.metadata:
            if not (isinstance(pair, tuple) and len(pair) == 2 and is_metadata_text(pair[1])):
                raise ConfigurationError(
                    "expected pairs of a key and printable ASCII text.", field="metadata"
                )
            if checked_header(pair[0], "metadata") != pair[0]:
                raise ConfigurationError(f"the key {pair[0]!r} is not in lower case.", field="metadata")

    def as_metadata(self, header: str) -> Metadata:
        """Return the metadata for an RPC: the token under the key `header`, then its own metadata.

        Raises:
            TokenRefusedError: Its own metadata holds `header`, too: the server would get two tokens.
        """
        if any(key == header for key, _ in self.metadata):
            raise TokenRefusedError(
                f"The token's own metadata holds {header!r}, the key that the token itself goes to.",
                hint="Leave it out of Token(metadata=...).",
            )
        if not self.value:
            return self.metadata
        value = f"{self.scheme} {self.value}" if self.scheme else self.value
        return ((header, value), *self.metadata)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(expires_at={self.expires_at!r}, scheme={self.scheme!r})"
