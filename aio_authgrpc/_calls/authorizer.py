"""A channel's view of its token cache: the token as ready metadata, and the calls that wait for it."""

from __future__ import annotations

import asyncio
import copy
import warnings
from asyncio import get_running_loop
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol
from weakref import WeakSet, ref

import grpc
import grpc.aio

from aio_authgrpc._calls.identity import Identity, current_identities
from aio_authgrpc._calls.once_ready import TokensOnceReady
from aio_authgrpc._loop.fork import lose_loop_at_fork
from aio_authgrpc._sources.several import SeveralTokensSource, all_of, combined
from aio_authgrpc._sources.static import AnonymousTokenSource
from aio_authgrpc._tokens.metadata import Metadata
from aio_authgrpc._tokens.source import TokenSource, cache_key
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import (
    AuthRpcError,
    ChannelClosedError,
    ConfigurationError,
    TokenRefusedError,
    WrongEventLoopError,
)

if TYPE_CHECKING:
    from aio_authgrpc._tokens.cache import TokenCache

CallMetadata = grpc.aio.Metadata | Sequence[tuple[str, str | bytes]]
"""What grpc.aio takes as `metadata=`."""
CallerMetadata = tuple[tuple[str, str | bytes], ...]
"""The same, checked."""


_API_KEY_HEADERS = ("x-api-key", "x-goog-api-key")
# What is left of a token whose own header is another's; an empty token goes to no header.
_NO_HEADER = ""
# A service that makes a source for each of its callers should not keep all of their tokens.
_MOST_IDENTITIES = 128


class WaitingCall(Protocol):
    """A call that has not got its token yet, as the channel sees it when it closes."""

    @property
    def waiting_task(self) -> asyncio.Task[None]:
        """Ends when the call waits no more."""
        ...

    def abandon(self, error: AuthRpcError) -> None:
        """End the call with this error."""
        ...


class Authorization:
    """A token and what it adds to an RPC on one channel."""

    __slots__ = ("metadata", "token")

    def __init__(self, token: Token, metadata: Metadata) -> None:
        self.token = token
        self.metadata = metadata


class Tokens(Protocol):
    """What an authorizer asks of a `TokenCache`, or of several."""

    def current(self) -> Token | None:
        """See `TokenCache.current`."""
        ...

    async def get(self, *, timeout: float | None = None) -> Token:
        """See `TokenCache.get`."""
        ...

    def reject(self, token: Token, *, challenge: str = "") -> bool:
        """See `TokenCache.reject`."""
        ...


class SeveralTokens:
    """The tokens of several caches, each under a header of its own, as one. Belongs to one call.

    Args:
        caches: By header; without `own` the first is the one that the token itself goes to.
        own: The channel's header and cache, whose tokens these stand beside, or over.
    """

    def __init__(
        self, caches: Mapping[str, TokenCache], *, own: tuple[str, TokenCache] | None = None
    ) -> None:
        self._caches = list(caches.items()) if own is None else [own, *caches.items()]
        self._parts: list[Token] = []

    def current(self) -> Token | None:
        """Return them if all can be used now."""
        parts = [cache.current() for _, cache in self._caches]
        there = [token for token in parts if token is not None]
        return self._as_one(there) if len(there) == len(parts) else None

    async def get(self, *, timeout: float | None = None) -> Token:
        """Return them, waiting for those that are not there, all at the same time."""
        return self._as_one(await all_of([cache.get(timeout=timeout) for _, cache in self._caches]))

    def reject(self, token: Token, *, challenge: str = "") -> bool:
        """Take back all of them: which one was refused is not known."""
        del token  # the one that they made
        rejected = [
            cache.reject(part, challenge=challenge)
            for (_, cache), part in zip(self._caches, self._parts, strict=True)
        ]
        return any(rejected)

    def _as_one(self, parts: list[Token]) -> Token:
        self._parts = parts
        named = zip((header for header, _ in self._caches), parts, strict=True)
        (header, first), *others = named
        over = dict(others)
        if header in over:  # of the channel's own only what goes along with it is left
            own = Token("", expires_at=first.expires_at, metadata=first.metadata)
            return combined({header: over.pop(header), **over, _NO_HEADER: own})
        return combined({header: first, **over})


class Connection(Protocol):
    """A connection that calls can be kept from until it is there."""

    def get_state(self) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel.get_state`."""
        ...

    async def wait_until_ready(self) -> None:
        """Wait for the state READY."""
        ...


class Authorizer:
    """Turns tokens into metadata, once for each token, and keeps count of the calls that wait.

    Args:
        cache: Where the tokens are.
        header: The metadata key that they go to.
        metadata: What else every call of the channel carries.
        audience: For whom the tokens of other identities are; the cache's if None.
        in_the_clear: The target, where RPCs cross the network in the clear and nobody was warned of it,
            because the channel's own have no secret; None elsewhere.
        connection: What calls with `wait_for_ready` wait for here; None leaves that to gRPC.
    """

    def __init__(
        self,
        cache: TokenCache,
        *,
        header: str,
        metadata: Metadata,
        audience: str | None = None,
        in_the_clear: str | None = None,
        connection: Connection | None = None,
    ) -> None:
        cache.check_usable()
        self._cache = cache
        self._tokens: Tokens = cache
        self._header = header
        self._metadata = metadata
        self._audience = audience
        self._in_the_clear = in_the_clear
        self._connection = connection
        self._authorization: Authorization | None = None
        # The loop, or None once closed: one comparison on the hot path finds out both.
        self._open_on: object = get_running_loop()
        lose_loop_at_fork(self)
        # What a caller may not send beside it: the tokens' headers, and that of an API key.
        self._other_headers: frozenset[str] = getattr(cache.source, "other_headers", frozenset())
        keys = (key for key, _ in metadata if key in _API_KEY_HEADERS)
        self._reserved = {header, *self._other_headers, *keys}
        self.waiting: set[WaitingCall] = set()
        # All that somebody holds; those that are done are in it until they are let go.
        self.running: set[ref[grpc.aio.Call]] = set()
        # By the id of the source, which its cache keeps alive: a user's source need not be hashable.
        self._identity_caches: OrderedDict[int, TokenCache] = OrderedDict()
        self._leaving: WeakSet[TokenCache] = WeakSet()  # not kept any more, but by calls that wait
        self._channels: Authorizer | None = None  # of one made for another identity: the channel's own

    @property
    def closed(self) -> bool:
        """Whether no further call may begin."""
        return (self if self._channels is None else self._channels)._open_on is None

    def _as(self, identities: tuple[Identity, ...]) -> Authorizer:
        sources = self._sources_of(identities)
        self._warn_in_the_clear(sources.values())
        caches = {header: self._identity_cache(source) for header, source in sources.items()}
        other = copy.copy(self)  # it shares the waiting calls, and belongs to one call
        other._channels, other._authorization = self, None
        other._reserved = self._reserved | caches.keys()
        # Who names a header means it: what is fixed for the channel gives way.
        other._metadata = tuple(pair for pair in self._metadata if pair[0] not in caches)
        if caches.keys() >= {self._header, *self._other_headers}:
            # The channel's own is not needed; the token still goes to the channel's header first.
            caches = {self._header: caches.pop(self._header), **caches}
            other._cache = caches[self._header]
            other._tokens = other._cache if len(caches) == 1 else SeveralTokens(caches)
        else:
            other._tokens = SeveralTokens(caches, own=(self._header, self._cache))
        return other

    def _sources_of(self, identities: tuple[Identity, ...]) -> dict[str, TokenSource]:
        """Return whose tokens go to which header; the innermost identity counts."""
        usual = "authorization" if "authorization" in self._other_headers else self._header
        sources: dict[str, TokenSource] = {}
        for identity in identities:
            if isinstance(identity.source, SeveralTokensSource):
                sources |= identity.source.sources
            else:
                sources[identity.header or usual] = identity.source
        return sources

    def _warn_in_the_clear(self, sources: Iterable[TokenSource]) -> None:
        """Warn once that tokens can be read by whoever can read the network; see `plaintext` of `connect`."""
        if self._in_the_clear is None or all(isinstance(source, AnonymousTokenSource) for source in sources):
            return
        warnings.warn(
            f"Tokens for {self._in_the_clear} cross the network in the clear.", UserWarning, stacklevel=5
        )
        self._in_the_clear = None  # not where the warning is an error: then each such call is one

    def _identity_cache(self, source: TokenSource) -> TokenCache:
        key = id(cache_key(source, "").owner)
        cache = self._identity_caches.pop(key, None)
        if cache is None:
            cache = self._cache.of_another(source, audience=self._audience)
        self._identity_caches[key] = cache  # as the one that was used last
        if len(self._identity_caches) > _MOST_IDENTITIES:
            self._leaving.add(self._identity_caches.popitem(last=False)[1])
        return cache

    async def aclose_identities(self) -> None:
        """Close the caches of other identities; the channel's own is not this object's."""
        caches = (*self._identity_caches.values(), *self._leaving)
        self._identity_caches.clear()
        self._leaving.clear()
        await asyncio.gather(*(cache.aclose() for cache in caches))

    def for_caller(self) -> Authorizer:
        """Return what authorizes the calls of this context: itself, or another identity's; see `identity`.

        Raises:
            ChannelClosedError, WrongEventLoopError: The channel is closed, or this is not its loop.
        """
        try:
            usable = get_running_loop() is self._open_on
        except RuntimeError:  # none runs here
            usable = False
        if not usable:
            self._raise_unusable()
        identities = current_identities.get()
        return self if not identities else self._as(identities)

    def once_ready(self) -> Authorizer:
        """Return what authorizes a call with `wait_for_ready`: once the connection is there."""
        connection = self._connection
        if connection is None or connection.get_state() is grpc.ChannelConnectivity.READY:
            return self
        other = copy.copy(self)
        other._channels = self if self._channels is None else self._channels
        other._tokens = TokensOnceReady(self._tokens, connection.wait_until_ready)
        other._authorization = None  # its token may be another by then
        return other

    def _raise_unusable(self) -> NoReturn:
        if self.closed:
            raise ChannelClosedError(
                "The channel was closed.",
                hint="Use a stub inside of its `async with`; opening the connection again yields a new one.",
            )
        raise WrongEventLoopError(
            "The channel belongs to another event loop, or was called where none runs.",
            hint="Open it on the loop, and in the process, that uses it: after a fork, not before.",
        )

    def current(self) -> Authorization | None:
        """Return what to send now, or None where a call has to wait. Never waits."""
        token, known = self._tokens.current(), self._authorization
        if known is not None and known.token is token:
            return known
        return None if token is None else self._of(token)

    async def get(self, timeout: float | None) -> Authorization:
        """Return what to send, waiting `timeout` seconds at most; see `TokenCache.get`."""
        return self._of(await self._tokens.get(timeout=timeout))

    def _of(self, token: Token) -> Authorization:
        known = self._authorization
        if known is not None and known.token is token:
            return known
        # What the user fixed for the channel stands above what the credential brings along.
        fixed = {key for key, _ in self._metadata}
        if any(key == self._header for key, _ in token.metadata):
            raise TokenRefusedError(
                f"The token's own metadata holds {self._header!r}, which the token itself goes to."
            )
        brought = (entry for entry in token.as_metadata(self._header) if entry[0] not in fixed)
        self._authorization = Authorization(token, (*self._metadata, *brought))
        return self._authorization

    def reject(self, token: Token, *, challenge: str = "") -> bool:
        """Take a refused token back; see `TokenCache.reject`."""
        return self._tokens.reject(token, challenge=challenge)

    def say_replayed(self) -> None:
        """Tell whoever listens to the cache that a refused call is sent once more."""
        self._cache.say_replayed()

    def checked(self, metadata: CallMetadata) -> CallerMetadata:
        """Return a caller's own metadata.

        Raises:
            ConfigurationError: It is no metadata, or holds a header that the channel fills.
        """
        entries = tuple(metadata)
        for entry in entries:
            if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)):
                raise ConfigurationError(
                    "expected pairs of a key and a value.",
                    field="metadata",
                    hint="Write (('key', 'value'),).",
                )
        for key, _ in entries:
            if key.lower() in self._reserved:
                raise ConfigurationError(
                    f"the channel fills {key.lower()!r} itself, and the server would get two.",
                    field="metadata",
                    hint="Leave it out, or use a plain grpc.aio channel for this call.",
                )
        return entries

    def lose_loop(self) -> None:
        """See `fork.LoopBound`."""
        if not self.closed:
            self._open_on = object()

    def refuse_new_calls(self) -> None:
        """Let no further call begin; those that wait go on."""
        self._open_on = None

    async def wait_for_waiting_calls(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until no call waits for its token any more."""
        if timeout > 0 and self.waiting:
            await asyncio.wait({call.waiting_task for call in self.waiting}, timeout=timeout)

    async def wait_for_running_calls(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until all calls are done. Cancelling it leaves them alone."""
        calls = [call for known in tuple(self.running) if (call := known()) is not None and not call.done()]
        if timeout <= 0 or not calls:
            return
        ends = [asyncio.ensure_future(call.code()) for call in calls]
        try:
            await asyncio.wait(ends, timeout=timeout)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    def abandon_waiting_calls(self) -> None:
        """End the calls that still wait, with `ChannelClosedError`."""
        for call in tuple(self.waiting):
            call.abandon(
                ChannelClosedError(
                    "The channel was closed while the call waited for its token, or its connection.",
                    hint="Await calls before leaving the `async with`, or close(grace=...) the channel.",
                )
            )
