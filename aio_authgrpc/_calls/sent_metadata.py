"""The metadata of one RPC, as gRPC wants it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc.aio

Pairs = tuple[tuple[str, str | bytes], ...]


class SentMetadata(grpc.aio.Metadata):
    """Metadata that gRPC reads once, pair by pair: without the dictionary of lists that it makes of a tuple.

    Each RPC has one of its own: interceptors below the token may read it by key and change it, and have
    the dictionary made. The hot path makes it without `__init__`, and sets `pairs`.
    """

    pairs: Pairs | None = None
    """What is sent; None once the dictionary is there."""

    def __getattr__(self, name: str) -> Any:
        """Make what the base class keeps."""
        if name != "_metadata" or self.pairs is None:
            raise AttributeError(name)  # before there is a token in this frame
        pairs, self.pairs = self.pairs, None
        super().__init__(*pairs)
        return self._metadata

    def __add__(self, other: Any) -> grpc.aio.Metadata:
        """See `grpc.aio.Metadata`, which asks for its very class on both sides."""
        both: grpc.aio.Metadata = grpc.aio.Metadata(*self) + other
        return both

    def __repr__(self) -> str:
        """Show the keys alone: one of the values is the token."""
        return f"<SentMetadata with {', '.join(key for key, _ in self)}>"

    def __len__(self) -> int:
        return super().__len__() if self.pairs is None else len(self.pairs)

    def __iter__(self) -> Iterator[tuple[str, str | bytes]]:
        return super().__iter__() if self.pairs is None else iter(self.pairs)


new_metadata = SentMetadata.__new__
"""Makes a `SentMetadata`, whose `pairs` are then to be set."""
