"""Several tokens at once, each in a header of its own: IAP's beside the service's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import TypeVar

from aio_authgrpc._checks.pickling import NotPickled
from aio_authgrpc._tokens.metadata import Metadata
from aio_authgrpc._tokens.source import CacheKey, LoadableTokenSource, TokenRequest, TokenSource, cache_key
from aio_authgrpc._tokens.token import Token

T = TypeVar("T")


class SeveralTokensSource(NotPickled):
    """Fetches a token for each header, all at the same time, and combines them; the first is the main one."""

    def __init__(self, sources: Mapping[str, TokenSource]) -> None:
        self.sources = dict(sources)
        self.header, *others = self.sources
        self.other_headers = frozenset(others)

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of the tokens; the sources' own audience where they agree on one."""
        shared = {cache_key(source, audience).audience for source in self.sources.values()}
        return CacheKey(self, shared.pop() if len(shared) == 1 else audience)

    async def load(self, request: TokenRequest) -> None:
        for source in self.sources.values():
            if isinstance(source, LoadableTokenSource):
                await source.load(request)

    async def fetch(self, request: TokenRequest) -> Token:
        """Return one token that carries the others as its metadata, and expires with the first of them."""
        tokens = await all_of([source.fetch(request) for source in self.sources.values()])
        return combined(dict(zip(self.sources, tokens, strict=True)))

    def __repr__(self) -> str:
        return f"<several tokens: {self.sources!r}>"


async def all_of(coroutines: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """Await all of them at the same time; the first failure cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine, name="aio_authgrpc token") for coroutine in coroutines]
    except BaseExceptionGroup as failures:
        error = failures.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise error  # outside of the handler, so that the group is not its context


def combined(tokens: Mapping[str, Token]) -> Token:
    """Return the first header's token, with the others as its metadata.

    A header of `tokens` gets its own token, even if another token's metadata has that key too.
    """
    header, *_ = tokens
    metadata: dict[str, str] = {}
    for name, token in tokens.items():
        for key, value in token.as_metadata(name):
            if key == name or key not in tokens:
                metadata.setdefault(key, value)  # two tokens may bring one quota project
    first = tokens[header]
    metadata.pop(header, None)
    ends: list[float] = [token.expires_at for token in tokens.values() if token.expires_at is not None]
    rest: Metadata = tuple(metadata.items())
    return Token(first.value, scheme=first.scheme, expires_at=min(ends, default=None), metadata=rest)
