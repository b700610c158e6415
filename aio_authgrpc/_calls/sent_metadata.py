"""The metadata of an RPC, as gRPC wants it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc.aio

Pairs = tuple[tuple[str, str | bytes], ...]
"""Metadata as pairs of a key and a value."""

_OF_GRPC = grpc.aio.Channel.__module__.replace("_base_channel", "_channel")


class SharedMetadata(tuple[tuple[str, str | bytes], ...]):
    """What all RPCs with one token send. gRPC alone sees it.

    Of a plain tuple grpc.aio makes a dictionary of lists, for each RPC, and reads that pair by pair. It takes
    this one as it is: it counts as a `grpc.aio.Metadata`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return _keys_of(self)


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


def interceptors_below(inner: Any) -> Sequence[Any]:
    """Return the interceptors of a multi-callable: of grpc.aio's own the list, which may still be filled.

    Another maker's may hand the metadata to anybody; that counts as an interceptor.
    """
    interceptors: Sequence[Any] | None = getattr(inner, "_interceptors", None)
    return (inner,) if interceptors is None or type(inner).__module__ != _OF_GRPC else interceptors


def metadata_of_one(own: Pairs, shared: SharedMetadata, interceptors: Sequence[Any]) -> Any:
    """Return what one RPC sends: its caller's own metadata, then what all send."""
    return OwnMetadata(*own, *shared) if interceptors else SharedMetadata(own + shared)
