"""`Token`: one bearer token or API key, and the metadata that it becomes."""

from __future__ import annotations

import math
from typing import TypeGuard

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._checks.secrets import shown
from aio_authgrpc._checks.values import FrozenValue, NotPickled
from aio_authgrpc._tokens.metadata import Metadata, checked_header, is_metadata_text
from aio_authgrpc.errors import ConfigurationError, TokenRefusedError

# Headers that a credential may bring, and that identify nobody.
_BESIDE_AN_IDENTITY = frozenset(("x-allowed-locations", "x-goog-api-client", "x-goog-user-project"))


def is_token_text(value: object) -> TypeGuard[str]:
    """Return whether a header can carry the value as one word: printable ASCII without blanks, or empty."""
    return is_metadata_text(value) and " " not in value


class Token(NotPickled, FrozenValue):
    """One bearer token or API key. Its `repr` hides the secret, and it refuses to be pickled.

    Args:
        value: The token itself, in printable ASCII without blanks. Empty sends `metadata` alone, for a
            credential that is in there; `anonymous()` is the source that sends none.
        expires_at: When it expires, in seconds since the epoch; None for never.
        scheme: The word before the value in the header (RFC 9110, 11.1); empty for a bare key.
        metadata: More metadata that belongs to the token, such as `x-goog-user-project`; lower-case keys.

    Raises:
        ConfigurationError: A field has the wrong type, or a character that metadata cannot carry.
    """

    __slots__ = ("expires_at", "metadata", "scheme", "value")

    value: str
    expires_at: float | None
    scheme: str
    metadata: Metadata

    @hiding_arguments
    def __init__(
        self,
        value: str,
        *,
        expires_at: float | None = None,
        scheme: str = "Bearer",
        metadata: Metadata = (),
    ) -> None:
        # Tokens come from users' code, which a type checker may never have seen. The checks come first: the
        # `repr` of a refused token must not show a part of it.
        check_type("token", value, str)
        check_type("scheme", scheme, str)
        check_type("expires_at", expires_at, int, float, type(None), hint="A datetime has a .timestamp().")
        if not is_token_text(value):
            raise ConfigurationError(
                "it holds a blank, a line end or another character that a header cannot carry.",
                field="token",
                hint="Leave out the word Bearer, and strip a token that was read from a file.",
            )
        if not is_token_text(scheme):  # a second word would be a part of the token, and shown
            raise ConfigurationError("it is not one word of printable ASCII text.", field="scheme")
        if expires_at is not None and not _is_finite(expires_at):
            raise ConfigurationError("it is not finite.", field="expires_at", hint="None means never.")
        check_type("metadata", metadata, tuple)
        for pair in metadata:
            if not (isinstance(pair, tuple) and len(pair) == 2 and is_metadata_text(pair[1])):
                raise ConfigurationError(
                    "expected pairs of a key and printable ASCII text.", field="metadata"
                )
            if checked_header(pair[0], "metadata") != pair[0]:
                raise ConfigurationError(
                    f"the key {shown(pair[0])!r} is not in lower case.", field="metadata"
                )
        super().__init__(value=value, expires_at=expires_at, scheme=scheme, metadata=metadata)

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
        if not hasattr(self, "scheme"):  # its constructor raised, and a debugger looks at it
            return "<Token that was not made>"
        return f"{type(self).__name__}(expires_at={self.expires_at!r}, scheme={self.scheme!r})"


ANONYMOUS = Token("")
"""The only token that may identify nobody."""


def is_empty(token: Token) -> bool:
    """Return whether a call with this token would have no identity."""
    return not token.value and all(key in _BESIDE_AN_IDENTITY for key, _ in token.metadata)


def _is_finite(seconds: float) -> bool:
    try:
        return math.isfinite(seconds)
    except OverflowError:  # an int that no float can hold
        return False
