"""`TokenSource`: where tokens come from, and what it is told when one is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._loop.clock import SystemClock
from aio_authgrpc._tokens.token import Token


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
    `cache_key` (see `KeyedTokenSource`).
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


@dataclass(frozen=True, slots=True, eq=False)
class CacheKey:
    """What two sources have in common whose tokens are the same: then their channels share one cache.

    Attributes:
        owner: The object that makes the tokens what they are, such as google-auth's credential; compared
            by identity.
        audience: The audience that stands for all with the same tokens; "" for any. `fetch` is asked for it.
    """

    owner: object
    audience: str


@runtime_checkable
class KeyedTokenSource(TokenSource, Protocol):
    """A source that says for which audiences, and with which other sources, it shares its tokens."""

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of the tokens for `audience`. Asked after `load`."""
        ...


def cache_key(source: TokenSource, audience: str) -> CacheKey:
    """Return the key of a source's tokens: its own word, or the source itself and the audience."""
    return source.cache_key(audience) if isinstance(source, KeyedTokenSource) else CacheKey(source, audience)


async def load(source: TokenSource, audience: str, request: AiohttpRequest | None) -> None:
    """Let a source read its files, so that a mistake in them shows before the first RPC.

    Args:
        source: Any; one without `load` has nothing to read.
        audience: For whom its tokens will be.
        request: The HTTP transport; None makes one that is closed again.

    Raises:
        ConfigurationError, TokenUnavailableError: The source cannot be used.
    """
    if not isinstance(source, LoadableTokenSource):
        return
    http = AiohttpRequest() if request is None else request
    try:
        await source.load(TokenRequest(http=http, audience=audience, time=SystemClock.time()))
    finally:
        if request is None:
            await http.aclose()
