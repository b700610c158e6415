"""gRPC metadata: the allowed keys and values, and the metadata that every RPC of a channel carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aio_authgrpc._checks.arguments import check_type, checked_pairs
from aio_authgrpc.errors import ConfigurationError

Metadata = tuple[tuple[str, str], ...]
"""gRPC metadata: pairs of a lower-case key and a text."""


def is_metadata_text(value: object) -> bool:
    """Return whether gRPC can carry the value as text: printable ASCII, or empty."""
    return isinstance(value, str) and value.isascii() and (value.isprintable() or not value)


def checked_header(header: str, field: str = "header") -> str:
    """Return a metadata key for text in lower case, as gRPC requires.

    Args:
        header: The key.
        field: The argument that it was passed as.

    Raises:
        ConfigurationError: It has a character that no key may have, ends in `-bin`, or begins with `grpc-`.
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
    """Return the metadata that every RPC of a channel carries beside the token.

    Args:
        header: The key that the token goes to.
        api_key: Sent as `x-api-key`.
        quota_project_id: Sent as `x-goog-user-project`.
        metadata: The user's own.

    Raises:
        ConfigurationError: A key or a value cannot be sent, or a key is `header`.
    """
    given = checked_pairs("metadata", metadata, "{'x-team': 'blue'}")
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
            raise ConfigurationError(f"the token itself goes to {key!r}.", field=argument)
        fixed.append((key, value))
    return tuple(fixed)
