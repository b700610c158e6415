"""Whose token a call carries: the authorizers of other identities on one channel, made once and kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from weakref import WeakValueDictionary

from aio_authgrpc._calls.authorizer import Authorizer, Tokens
from aio_authgrpc._calls.identity import WITHOUT_REPLAY, Identity
from aio_authgrpc._calls.several_tokens import SeveralTokens
from aio_authgrpc._checks.arguments import check_count
from aio_authgrpc._sources.static import AnonymousTokenSource
from aio_authgrpc._tokens.cache import TokenCache, close_all
from aio_authgrpc._tokens.source import CacheKey, TokenSource

# A service that makes a source for each of its callers should not keep all of their tokens, at 6 kB each.
MAX_IDENTITIES = 128
# Of that many places one is for newcomers.
_PLACES_FOR_ONE_NEWCOMER = 8
# In multiples of all places. That many newcomers may pass before an unused identity makes room for one.
_IDLE_AFTER = 4


class IdentityAuthorizers:
    """Makes the authorizer for the identities around a call, and keeps those that were used last.

    `own` and `cache` are the channel's, and its tokens go to `other_headers` besides its header. For
    `audience`, `in_the_clear` and `max_identities` see `AuthorizedChannel`.
    """

    __slots__ = (
        "__weakref__",
        "_audience",
        "_cache",
        "_caches",
        "_ending",
        "_in_the_clear",
        "_leaving",
        "_made",
        "_most",
        "_newcomers",
        "_newest",
        "_on_trial",
        "_other_headers",
        "_own",
        "_usual_header",
    )

    def __init__(
        self,
        own: Authorizer,
        cache: TokenCache,
        *,
        other_headers: frozenset[str],
        audience: str | None,
        in_the_clear: str | None,
        max_identities: int,
    ) -> None:
        check_count("max_identities", max_identities)
        self._own = own
        self._cache = cache
        self._audience = audience
        self._in_the_clear = in_the_clear
        # An identity without a header takes the service's own, where the channel has IAP's outside.
        self._usual_header = "authorization" if "authorization" in other_headers else own.header
        self._other_headers = other_headers
        self._most = max_identities
        # What is empty here is small: most channels have no other identity.
        self._made: dict[tuple[Identity, ...], _Made] = {}  # the least recently used one first
        self._newest: _Made | None = None  # the last of them: it need not be moved
        self._on_trial: list[tuple[Identity, ...]] = []
        self._newcomers = 0  # so far
        self._caches: dict[CacheKey, _Used] = {}
        # Kept by the calls that wait on them and by the `Identity` objects in use, not by the channel.
        self._leaving: WeakValueDictionary[CacheKey, TokenCache] | None = None
        self._ending: list[TokenCache] = []  # until they are closed, which may take a second attempt

    def of(self, identities: tuple[Identity, ...]) -> Authorizer:
        """Return the authorizer for the identities around a call, the innermost last.

        Warns where a token of theirs would be the first secret to cross the network in the clear.
        """
        known = self._made.get(identities)
        if known is not None:
            if known is not self._newest:
                self._made[identities] = self._made.pop(identities)
                known.used_at, known.used_again = self._newcomers, True
                self._newest = known
            return known.authorizer
        # By header: whose tokens go to it, the innermost identity counts.
        sources: dict[str, TokenSource] = {}
        keys: dict[str, CacheKey] = {}
        for identity in identities:
            for header, source in identity.sources.items():
                sources[header or self._usual_header] = source
                keys[header or self._usual_header] = identity.cache_keys[header]
        self._warn_in_the_clear(sources.values())
        made = self._make(sources, keys, replay=self._own.replay and WITHOUT_REPLAY not in identities)
        for identity in identities:
            own = [self._caches[key].cache for key in identity.cache_keys.values() if key in self._caches]
            if own:
                identity.hold(self, own)
        self._keep(identities, made)
        return made.authorizer

    def _warn_in_the_clear(self, sources: Iterable[TokenSource]) -> None:
        if self._in_the_clear is None or all(isinstance(source, AnonymousTokenSource) for source in sources):
            return
        text = f"Tokens for {self._in_the_clear} cross the network in the clear."
        warnings.warn(text, UserWarning, stacklevel=4)  # at the call of the stub
        self._in_the_clear = None  # not reached where the warning is an error: then each such call is one

    def _make(
        self, sources: Mapping[str, TokenSource], keys: Mapping[str, CacheKey], *, replay: bool
    ) -> _Made:
        caches = {header: self._cache_of(source, keys[header]) for header, source in sources.items()}
        own = self._own
        tokens: Tokens = self._cache
        if caches.keys() >= {own.header, *self._other_headers}:
            # The channel's own token is not needed; the token still goes to the channel's header first.
            caches = {own.header: caches.pop(own.header), **caches}
            tokens = caches[own.header] if len(caches) == 1 else SeveralTokens(caches)
        elif caches:
            tokens = SeveralTokens(caches, own=(own.header, self._cache))
        authorizer = Authorizer(
            tokens,
            header=own.header,
            # A header named by `identity()` overrides the channel's fixed metadata.
            metadata=tuple(pair for pair in own.metadata if pair[0] not in sources),
            reserved=own.reserved | sources.keys(),
            replay=replay,
        )
        return _Made(authorizer, tokens, tuple(keys.values()))

    def _cache_of(self, source: TokenSource, key: CacheKey) -> TokenCache:
        """Return a source's cache, which is made if there is none, and count the user."""
        if key not in self._caches:
            leaving = None if self._leaving is None else self._leaving.pop(key, None)
            self._caches[key] = _Used(leaving or self._cache.of_another(source, audience=self._audience))
        self._caches[key].users += 1
        return self._caches[key].cache

    def _keep(self, identities: tuple[Identity, ...], made: _Made) -> None:
        """Keep an authorizer, and forget others where there are too many.

        A newcomer is on trial: the newcomers after it push it out, unless it is used again meanwhile. What
        is kept already then survives a scan: identities that are used once each, or more of them in turn
        than there are places. If the least recently used one went each time, a scan would empty the cache.
        """
        self._newcomers += 1
        made.used_at = self._newcomers
        self._made[identities] = self._newest = made
        self._on_trial.append(identities)
        is_over = len(self._on_trial) > max(1, self._most // _PLACES_FOR_ONE_NEWCOMER)
        tried = self._on_trial.pop(0) if is_over else None
        while max(len(self._made), len(self._caches)) > self._most and len(self._made) > 1:
            self._forget(self._made.pop(self._next_to_go(tried)))
            tried = None

    def _next_to_go(self, tried: tuple[Identity, ...] | None) -> tuple[Identity, ...]:
        """Return the identity whose trial is over, or else the least recently used one."""
        oldest, used = next(iter(self._made.items()))
        is_idle = self._newcomers - used.used_at > _IDLE_AFTER * self._most
        if is_idle or tried is None or tried not in self._made or self._made[tried].used_again:
            return oldest
        return tried

    def _forget(self, made: _Made) -> None:
        for key in made.keys:
            used = self._caches[key]
            used.users -= 1
            if not used.users:
                if self._leaving is None:
                    self._leaving = WeakValueDictionary()
                self._leaving[key] = self._caches.pop(key).cache

    async def aclose(self) -> None:
        """Close the caches of other identities; the channel's own belongs to the channel's opener."""
        leaving = () if self._leaving is None else self._leaving.values()
        for cache in (*(used.cache for used in self._caches.values()), *leaving):
            cache.end()
            self._ending.append(cache)
        self._own.forget()
        for made in self._made.values():
            made.forget()
        self._made.clear()
        self._on_trial.clear()
        self._newest = None
        self._caches.clear()
        self._leaving = None
        await close_all(self._ending)
        self._ending.clear()


class _Made:
    """An authorizer, the keys of the caches that it uses, and when it was used: after how many newcomers."""

    __slots__ = ("_tokens", "authorizer", "keys", "used_again", "used_at")

    def __init__(self, authorizer: Authorizer, tokens: Tokens, keys: tuple[CacheKey, ...]) -> None:
        self.authorizer = authorizer
        self._tokens = tokens
        self.keys = keys
        self.used_at = 0
        self.used_again = False

    def forget(self) -> None:
        """Keep no token any more: a call that a user holds holds the authorizer."""
        self.authorizer.forget()
        if isinstance(self._tokens, SeveralTokens):
            self._tokens.forget()


class _Used:
    """The cache of another identity, and how many authorizers use it."""

    def __init__(self, cache: TokenCache) -> None:
        self.cache = cache
        self.users = 0
