"""Another identity for the calls of one context: a service that passes its caller's token on."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aio_authgrpc._checks.pickling import NotPickled
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc._tokens.metadata import checked_header
from aio_authgrpc._tokens.source import TokenSource

if TYPE_CHECKING:
    from aio_authgrpc._sources.credentials import CredentialsType

current_identities: ContextVar[tuple[Identity, ...]] = ContextVar("aio_authgrpc identities", default=())
"""The identities of this context, the innermost last."""


class Identity(NotPickled):
    """What `identity()` returns: a context manager, which may be entered again, and in any task.

    Attributes:
        source: Where its tokens come from.
        header: The metadata key for them; None means the channel's.
    """

    __slots__ = ("header", "source")

    def __init__(self, source: TokenSource, header: str | None) -> None:
        self.source = source
        self.header = header

    def __enter__(self) -> Self:
        current_identities.set((*current_identities.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Not ContextVar.reset(): one object may be entered by many tasks, and left in another context.
        entered = current_identities.get()
        for place in range(len(entered) - 1, -1, -1):
            if entered[place] is self:
                current_identities.set(entered[:place] + entered[place + 1 :])
                return

    def __repr__(self) -> str:
        return f"identity({self.source!r})"


def identity(credentials: CredentialsType, *, header: str | None = None) -> Identity:
    """Make the calls of this block, and of the tasks that it starts, as somebody else.

    `with aio_authgrpc.identity(static_token(callers_token)): await bookstore.ListShelves(Empty())`

    It holds for every channel of this package that is used inside. It follows the context: tasks begun
    in the block have it, others do not, and it ends with the block for whoever left it. A call keeps
    the identity that it was made with.

    A channel keeps the tokens of the last 128 sources that were used on it this way, so make a source
    once where its tokens are fetched, and enter it as often as you like.

    Args:
        credentials: As `connect(credentials=)` takes them. `anonymous()` sends nothing.
        header: The metadata key for it. None means the channel's, whose own identity is replaced;
            another one stands beside that.

    Raises:
        ConfigurationError: That is no identity, or no metadata key.
    """
    source = as_token_source(credentials)
    own: str | None = getattr(source, "header", header)
    return Identity(source, None if own is None else checked_header(own))
