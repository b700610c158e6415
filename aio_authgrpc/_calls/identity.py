"""Another identity for the calls of one context: a service that passes its caller's token on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self
from weakref import WeakKeyDictionary

from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._sources.credentials import SeveralTokensSource, as_token_source
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc._tokens.source import TokenSource, cache_key, header_of

if TYPE_CHECKING:
    from aio_authgrpc._sources.credentials import CredentialsType

current_identities: ContextVar[tuple[Identity, ...]] = ContextVar("aio_authgrpc identities", default=())
"""The identities of this context, the innermost last."""


class Identity(NotPickled):
    """What `identity()` returns: a context manager, which may be entered again, and in any task.

    Two are equal that put the same tokens (see `CacheKey`) under the same header.

    Attributes:
        sources: Where its tokens come from, by metadata key; the key None stands for the channel's.
    """

    __slots__ = ("_hash", "_held", "cache_keys", "sources")

    def __init__(self, sources: Iterable[tuple[str | None, TokenSource]]) -> None:
        self.sources: dict[str | None, TokenSource] = dict(sources)
        self.cache_keys = {header: cache_key(source, "") for header, source in self.sources.items()}
        # Once: each call inside of the block looks its tokens up by it.
        self._hash = hash(tuple(self.cache_keys.items()))
        self._held: WeakKeyDictionary[object, Sequence[TokenCache]] | None = None

    def hold(self, channel: object, caches: Sequence[TokenCache]) -> None:
        """Keep the caches that a channel has made for this object.

        The channel may have to forget them for newcomers before the next call in the block.
        """
        if self._held is None:
            self._held = WeakKeyDictionary()
        self._held[channel] = caches

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.cache_keys == other.cache_keys

    def __hash__(self) -> int:
        return self._hash

    def __enter__(self) -> Self:
        current_identities.set((*current_identities.get(), self))
        return self

    def __exit__(self, *_: object) -> None:
        # Not ContextVar.reset(): one object may be entered by many tasks, and left in another context.
        entered = current_identities.get()
        if entered and entered[-1] is self:
            current_identities.set(entered[:-1])
        elif self in entered:  # left in another order than entered
            place = len(entered) - 1 - entered[::-1].index(self)
            current_identities.set(entered[:place] + entered[place + 1 :])

    def __repr__(self) -> str:
        if self is WITHOUT_REPLAY:
            return "without_replay()"
        return f"identity({', '.join(map(repr, self.sources.values()))})"


WITHOUT_REPLAY = Identity(())
"""Changes no identity: the calls inside of it are not sent again."""


def without_replay() -> Identity:
    """Send no call of this block, and of the tasks it starts, a second time.

    `with credentials.without_replay(): await bookstore.CreateShelf(request, timeout=10)`

    A call that is refused as unauthenticated is otherwise sent once more with a new token, and a method that
    works before it refuses works twice. The refused token is replaced all the same, for calls that follow.

    The block follows the context, as that of `identity` does. `connect(replay=False)` is for all calls of a
    channel.
    """
    return WITHOUT_REPLAY


@hiding_arguments
def identity(credentials: CredentialsType, *, header: str | None = None) -> Identity:
    """Make the calls of this block, and of the tasks it starts, with another identity.

    `with aio_authgrpc.identity(static_token(callers_token)): await bookstore.ListShelves(Empty())`

    It holds for every channel of this package that is used inside. It follows the context: tasks begun
    in the block have it, other tasks do not, nor do functions that an executor runs. A call keeps the
    identity that it was made with.

    A block around a `yield` holds for the code that reads the generator, too, until the generator is closed.
    Make the call in the block, and read it outside.

    A channel keeps the tokens of 128 sources that were used on it this way, or of as many as
    `connect(max_identities=)` says; a block keeps its own besides. Make a source that fetches its tokens
    once, and enter it as often as you like.

    Args:
        credentials: As `connect(credentials=)` takes them. `anonymous()` sends nothing.
        header: The metadata key for it. None means the source's own, or else the channel's, whose own
            identity is replaced; another key is sent beside that.

    Raises:
        ConfigurationError: The credentials or the header cannot be used, or the source has another header.
    """
    source = as_token_source(credentials)
    key = header_of(source, header)
    if isinstance(source, SeveralTokensSource):
        return Identity(source.sources.items())
    return Identity([(key, source)])
