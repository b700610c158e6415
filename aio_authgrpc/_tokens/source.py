"""`TokenSource`: where tokens come from, and what a source is told when a token is needed."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from aio_authgrpc._checks.values import FrozenValue
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._loop.clock import SystemClock
from aio_authgrpc._tokens.metadata import checked_header
from aio_authgrpc._tokens.token import ANONYMOUS, Token, is_empty
from aio_authgrpc.errors import ConfigurationError, TokenUnavailableError


class TokenRequest(FrozenValue):
    """What a source is told when a token is needed. `replace(audience=...)` copies it, for a source below.

    Attributes:
        http: google-auth's `Request` over aiohttp, for a source that asks an endpoint. It stays the cache's.
        audience: The audience of the token: `https://<host>` of the target, unless the user named another.
        time: The wall time in seconds since the epoch, for a source that signs.
        unwanted: The token to be replaced: the last one fetched, which is stale, expired or refused. None
            before the first one; then a source may return a token that it already has.
    """

    http: AiohttpRequest
    audience: str
    time: float
    unwanted: Token | None = None


@runtime_checkable
class TokenSource(Protocol):
    """Where tokens come from: any object with a coroutine method `fetch`.

    A token cache calls `fetch` from a task of its own, once at a time, in an empty context. Two caches with
    different audiences may call it at the same time.

    Four more attributes are optional: `header: str`, the metadata key that the tokens go to instead of
    `authorization`; `load`, see `LoadableTokenSource`; `cache_key`, see `KeyedTokenSource`; `current_token`,
    see `HoldingTokenSource`.
    """

    async def fetch(self, request: TokenRequest) -> Token:
        """Return a token that can be used now.

        Cancelling it must end it soon. What it raises becomes the error of the waiting calls. A
        `TokenUnavailableError`, an `OSError` and the transport errors of aiohttp and google-auth are tried
        again; others are not.

        Raises:
            TokenUnavailableError: There is no token now, and there may be one later.
            TokenRefusedError: There will be no token, however often it is asked.
        """
        ...


@runtime_checkable
class LoadableTokenSource(TokenSource, Protocol):
    """A source that reads files or the environment before its first token."""

    async def load(self, request: TokenRequest) -> None:
        """Read them, off the loop, and only once; later calls return at once.

        Called when a channel is opened, so that a mistake shows there. Cancelling it must leave the source as
        it was.

        Raises:
            ConfigurationError: A file or the environment cannot be used.
        """
        ...


@runtime_checkable
class HoldingTokenSource(TokenSource, Protocol):
    """A source that may have a usable token before it fetches one."""

    def current_token(self, request: TokenRequest) -> Token | None:
        """Return the token that the source has and that can still be used, or None. Never waits.

        The cache asks where it has no usable token itself. A token that is near its end is served while
        `fetch` gets a new one, so a token endpoint that fails meanwhile fails no call. While the cache must
        not fetch, after a failure, any token is served.
        """
        ...


@runtime_checkable
class AgedTokenSource(TokenSource, Protocol):
    """A source whose tokens may be older than the fetch that returned them."""

    def age_of(self, token: Token, now: float) -> float:
        """Return the seconds since a token that it returned was issued; 0.0 for one that it does not know."""
        ...


class CacheKey(FrozenValue):
    """Identifies tokens: sources with equal keys share one cache. Equal means the same owner, and audience.

    Attributes:
        owner: The object that the tokens depend on, such as google-auth's credential.
        audience: The audience that `fetch` is asked for; "" where the tokens are the same for every audience.
    """

    owner: object
    audience: str

    def __init__(self, owner: object, audience: str) -> None:
        super().__init__(owner=owner, audience=audience)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CacheKey):
            return False
        return other.owner is self.owner and other.audience == self.audience

    def __hash__(self) -> int:
        return hash((id(self.owner), self.audience))


@runtime_checkable
class KeyedTokenSource(TokenSource, Protocol):
    """A source that says for which audiences, and with which other sources, it shares its tokens."""

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of the tokens for `audience`.

        A channel asks after `load`. `identity()` asks before: a source that does not know its key until then
        returns `CacheKey(self, audience)`.
        """
        ...


def check_source(source: object) -> None:
    """Refuse an argument `source` without a method `fetch`."""
    if not isinstance(source, TokenSource):
        raise ConfigurationError(
            f"expected a TokenSource, not {type(source).__name__}.",
            field="source",
            hint="connect() and the channel factories also take google-auth's credentials.",
        )


def cache_key(source: TokenSource, audience: str) -> CacheKey:
    """Return the source's own key, or one of the source itself and the audience."""
    return source.cache_key(audience) if isinstance(source, KeyedTokenSource) else CacheKey(source, audience)


def age_of(source: TokenSource, token: Token, now: float) -> float:
    """Return the age that the source knows of its token, or 0.0: the token was fetched now."""
    return source.age_of(token, now) if isinstance(source, AgedTokenSource) else 0.0


def header_of(source: TokenSource, header: str | None) -> str | None:
    """Return the metadata key for a source's tokens: its own, or `header`, or None without either."""
    own: str | None = getattr(source, "header", None)
    fixed = None if own is None else checked_header(own)
    named = None if header is None else checked_header(header)
    if fixed is not None and named is not None and fixed != named:
        raise ConfigurationError(
            f"these credentials send {fixed!r}, not {named!r}.",
            field="header",
            hint="Leave header= out, or name the header where the credentials are made.",
        )
    return named if fixed is None else fixed


_NO_HEADERS: frozenset[str] = frozenset()


def other_headers_of(source: TokenSource) -> frozenset[str]:
    """Return the metadata keys that tokens of a source go to besides its header."""
    return getattr(source, "other_headers", _NO_HEADERS)


async def fetch_from(source: TokenSource, request: TokenRequest) -> Token:
    """Return a source's next token. An empty one is an error: the call would go out without an identity."""
    token: object = await source.fetch(request)
    if not isinstance(token, Token):
        raise ConfigurationError(
            f"the source returned {type(token).__name__}, not an aio_authgrpc.Token.",
            field="credentials",
            hint="Let its fetch() return Token(value, expires_at=...).",
        )
    if is_empty(token) and token is not ANONYMOUS:
        raise TokenUnavailableError(
            "The source returned an empty access token, and no call is sent without an identity.",
            hint="If none is meant, pass credentials=anonymous().",
        )
    return token


async def load(source: TokenSource, audience: str, request: AiohttpRequest | None) -> None:
    """Let a source read its files, where it has any. A `request` of None makes one that is closed again."""
    if not isinstance(source, LoadableTokenSource):
        return
    http = AiohttpRequest() if request is None else request
    try:
        await source.load(TokenRequest(http=http, audience=audience, time=SystemClock.time()))
    finally:
        if request is None:
            await http.aclose()
