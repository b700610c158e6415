"""gRPC metadata: what a key and a value may be, and what every RPC of a channel carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aio_authgrpc._checks.arguments import check_type, pairs
from aio_authgrpc.errors import ConfigurationError

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


def fixed_metadata(
    header: str,
    api_key: str | None,
    quota_project_id: str | None,
    metadata: Sequence[tuple[str, str]] | Mapping[str, str],
) -> Metadata:
    """Return what every RPC of a channel carries beside the token.

    Raises:
        ConfigurationError: It cannot be sent, or `header` is among it, which the token goes to.
    """
    given = pairs("metadata", metadata, "{'x-team': 'blue'}")
    entries = [("metadata", checked_header(key, "metadata"), value) for key, value in given]
    if api_key is not None:
        entries.append(("api_key", "x-api-key", api_key))
    if quota_project_id is not None:
        entries.append(("quota_project_id", "x-goog-user-project", quota_project_id))
    fixed: list[tuple[str, str]] = []
    for argument, key, value in entries:
        if not isinstance(value, str) or not value or not is_metadata_text(value):
            raise ConfigurationError(f"the value of {key!r} is not printable ASCII text.", field=argument)
        if key == header:
            raise ConfigurationError(f"{key!r} is what the token goes to.", field=argument)
        fixed.append((key, value))
    return tuple(fixed)
