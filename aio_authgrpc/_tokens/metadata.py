"""gRPC metadata: the allowed keys and values, and the metadata that every RPC of a channel carries."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import TypeGuard

from aio_authgrpc._checks.arguments import check_type, checked_pairs
from aio_authgrpc._checks.secrets import shown
from aio_authgrpc.errors import ConfigurationError

Metadata = tuple[tuple[str, str], ...]
"""gRPC metadata: pairs of a lower-case key and a text."""

# With one of these a reader of the network can call in the sender's name.
_SECRET = frozenset(
    (
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-api-key",
        "x-goog-api-key",
        "x-goog-iap-jwt-assertion",
        "x-serverless-authorization",
    )
)

_SENDABLE_KEY = re.compile(r"[a-z0-9_.-]+").fullmatch
_SENDABLE_TEXT = re.compile(r"[ -~]*").fullmatch


def holds_secret(metadata: Metadata) -> bool:
    return any(key in _SECRET for key, _ in metadata)


def is_metadata_text(value: object) -> TypeGuard[str]:
    """Return whether gRPC can carry the value as text: printable ASCII, or empty."""
    return isinstance(value, str) and value.isascii() and (value.isprintable() or not value)


def check_sendable(key: str, value: object) -> None:
    """Refuse one of a call's own pairs that gRPC cannot send: it would never give the call an end.

    Raises:
        ConfigurationError: The key, or the value, holds what HTTP/2 does not carry.
    """
    if not _SENDABLE_KEY(key):
        raise ConfigurationError(
            f"gRPC cannot send the key {shown(key)!r}.",
            field="metadata",
            hint="Use lower-case letters, digits, '_', '-' and '.'.",
        )
    if not isinstance(value, (str, bytes)):
        raise ConfigurationError(
            f"the value of {key!r} is of type {type(value).__name__}.",
            field="metadata",
            hint="Pass str, or bytes.",
        )
    text = value if isinstance(value, str) else value.decode("latin-1")
    if not key.endswith("-bin") and not _SENDABLE_TEXT(text):
        raise ConfigurationError(
            f"the value of {key!r} is not printable ASCII text.",
            field="metadata",
            hint="Encode it, for example with base64, or let the key end with '-bin' and pass bytes.",
        )


def checked_header(header: str, field: str = "header") -> str:
    """Return a metadata key for text in lower case, as gRPC requires; `field` names it in the error."""
    check_type(field, header, str)
    lowered = header.lower()
    if not re.fullmatch(r"(?!grpc-)[a-z0-9_.-]+(?<!-bin)", lowered):
        raise ConfigurationError(
            f"{shown(header)!r} is not a key for text metadata.",
            field=field,
            hint="For example 'authorization'.",
        )
    return lowered


def fixed_metadata(
    headers: Container[str],
    api_key: str | None,
    quota_project_id: str | None,
    metadata: Sequence[tuple[str, str]] | Mapping[str, str],
) -> Metadata:
    """Return the metadata that every RPC of a channel carries beside its tokens, which go to `headers`."""
    given = checked_pairs("metadata", metadata, "{'x-team': 'blue'}")
    entries = [("metadata", checked_header(key, "metadata"), value) for key, value in given]
    if api_key is not None:
        entries.append(("api_key", "x-api-key", api_key))
    if quota_project_id is not None:
        entries.append(("quota_project_id", "x-goog-user-project", quota_project_id))
    fixed: list[tuple[str, str]] = []
    for argument, key, value in entries:
        if not value or not is_metadata_text(value):
            raise ConfigurationError(
                f"the value of {key!r} is not printable ASCII text.",
                field=argument,
                hint="Encode it, for example with base64.",
            )
        if key in headers:
            raise ConfigurationError(
                f"the token itself goes to {key!r}.", field=argument, hint="Leave one of the two out."
            )
        fixed.append((key, value))
    return tuple(fixed)
