"""What a token is, and where one comes from: the two types that every other module speaks of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Protocol, runtime_checkable

from aio_authgrpc.errors import ConfigurationError, check_type

if TYPE_CHECKING:
    from aio_authgrpc._http.request import AiohttpRequest

Metadata = tuple[tuple[str, str], ...]
"""gRPC metadata as this package passes it about: lower-case keys, no duplicates that it made itself."""


def is_metadata_text(value: object) -> bool:
    """Return whether gRPC can carry a value as text."""
    return isinstance(value, str) and value.isascii() and (value.isprintable() or not value)


def checked_header(header: str, field: str = "header") -> str:
    """Return a metadata key for text, in lower case as gRPC wants it.

    Raises:
        ConfigurationError: It has other characters, or ends in `-bin`, or is gRPC's own.
    """
    check_type(field, header, str)
    lowered = header.lower()
    known = lowered and not set(lowered) - _KEY_CHARACTERS
    if not known or lowered.endswith("-bin") or lowered.startswith("grpc-"):
        raise ConfigurationError(
            f"{header!r} is not a key for text metadata.", field=field, hint="For example 'authorization'."
        )
    return lowered


_KEY_CHARACTERS = set("abcdefghijklmnopqrstuvwxyz0123456789_.-")


@dataclass(frozen=True, slots=True)
class Token:
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

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Token is not pickled: it would put the secret into the pickle.")


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenRequest:
    """What a source is told when a token is needed.

    Attributes:
        http: google-auth's `Request` over aiohttp, for sources that ask an endpoint.
        audience: For whom the token is, `https://<host>` of the target unless the user said otherwise.
        time: The wall time, in seconds since the epoch, for sources that sign.
        unwanted: The last token of whoever asks, which is to be replaced: it is stale, or was refused.
            None where there was none yet; then a source may return one that it has.
    """

    http: AiohttpRequest
    audience: str
    time: float
    unwanted: Token | None = None


@runtime_checkable
class TokenSource(Protocol):
    """Where tokens come from. Any object with this one method will do.

    It may be asked again at any time; the cache above it sees to it that it is asked once at a time,
    in a task of its own, with an empty context. Cancelling that task must end the method soon.

    A source may also have an attribute `header: str`, the metadata key that its tokens go to instead
    of the channel's; a coroutine method `load` (see `LoadableTokenSource`); and a method
    `shared_audience` (see `SharedTokenSource`).
    """

    async def fetch(self, request: TokenRequest) -> Token:
        """Return a token that is good now. What it raises becomes the error of the waiting calls."""
        ...


@runtime_checkable
class LoadableTokenSource(TokenSource, Protocol):
    """A source that has files or the environment to read before its first token."""

    async def load(self, request: TokenRequest) -> None:
        """Read them, off the loop, once. Called when a channel is opened, so that mistakes show there.

        Raises:
            ConfigurationError: They cannot be used.
        """
        ...


@runtime_checkable
class SharedTokenSource(TokenSource, Protocol):
    """A source whose tokens are good for more than one audience, so that channels can share them."""

    def shared_audience(self, audience: str) -> str:
        """Return the audience that stands for all which get the same token as this one; "" for any.

        Asked after `load`. `fetch` is then asked for the audience that this returns.
        """
        ...


def shared_audience(source: TokenSource, audience: str) -> str:
    """Return the audience under which the tokens of a source are kept."""
    return source.shared_audience(audience) if isinstance(source, SharedTokenSource) else audience
