"""The metadata of an RPC, as gRPC wants it."""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType
from typing import Any

import grpc.aio

Pairs = tuple[tuple[str, str | bytes], ...]
"""Metadata as pairs of a key and a value."""

_MODULE = "grpc.aio._channel"


class SharedMetadata(tuple[tuple[str, str | bytes], ...]):
    """What all RPCs with one token send. gRPC alone sees it.

    Of a plain tuple grpc.aio makes a dictionary of lists, for each RPC, and reads that pair by pair. It takes
    this one as it is: it counts as a `grpc.aio.Metadata`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return _keys_of(self)

    __sentry_repr__ = __repr__  # Sentry walks through a sequence


_grpcs_metadata: Any = grpc.aio.Metadata  # an abstract base class, which its type does not say
_grpcs_metadata.register(SharedMetadata)


class OwnMetadata(grpc.aio.Metadata):
    """What one RPC sends. Interceptors below the token may read it by key, and change it."""

    def __add__(self, other: Any) -> grpc.aio.Metadata:
        """See `grpc.aio.Metadata`, which asks for its very class on both sides."""
        both: grpc.aio.Metadata = grpc.aio.Metadata(*self) + other
        return both

    def __repr__(self) -> str:
        return _keys_of(self)


def _keys_of(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Show the keys alone: one of the values is the token."""
    return f"<{type(metadata).__name__} with {', '.join(key for key, _ in metadata)}>"


def watched_by(inner: Any) -> Any:
    """Return what has, as `_interceptors`, those who see the metadata that a multi-callable is given.

    It is the multi-callable itself where that is grpc.aio's own: interceptors may still be appended or
    assigned. Another maker's, or a patched one, may hand the metadata to anybody.
    """
    return inner if _is_grpcs_own(inner) and hasattr(inner, "_interceptors") else _Watched()


class _Watched:
    _interceptors = ("unknown",)


def _is_grpcs_own(inner: object) -> bool:
    called = (getattr(type(inner), name, None) for name in ("__call__", "_init_metadata"))
    return type(inner).__module__ == _MODULE and all(
        type(function) is FunctionType and function.__globals__.get("__name__") == _MODULE
        for function in called
    )


def metadata_of_one(own: Pairs, shared: SharedMetadata, *, is_watched: bool) -> Any:
    """Return what one RPC sends: its caller's own metadata, then what all send."""
    return OwnMetadata(*own, *shared) if is_watched else SharedMetadata(own + shared)
