"""A token that a server refused stays away, although the source below still holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aio_authgrpc import Token, TokenRequest
from aio_authgrpc.testing import ScriptedTokens

from .conftest import MakeStore

Asked = Callable[..., TokenRequest]


class HoldingTokens(ScriptedTokens):
    """Keeps its token until that one is unwanted, as google-auth's credentials do."""

    held: Token | None = None

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the token that is held, or the next one."""
        if self.held is None or self.held == request.unwanted:
            self.held = await super().fetch(request)
        return self.held

    def current_token(self, request: TokenRequest) -> Token | None:
        """Return the token that is held."""
        return self.held


def shared(make: MakeStore, source: Any) -> Any:
    """Return the shared source of a new process."""
    return make().share(source, identity="orders")


async def test_a_refused_token_of_the_source_does_not_come_back(make_store: MakeStore, asked: Asked) -> None:
    """The store's token, which took its place, is refused too: neither is stored or returned again."""
    source, other = HoldingTokens("first", "third"), HoldingTokens("second")
    process, another = shared(make_store, source), shared(make_store, other)
    first = await process.fetch(asked())
    await another.fetch(asked(unwanted=first))
    second = await process.fetch(asked(unwanted=first))
    assert second.value == "second"
    assert process.current_token(asked()) is None
    assert (await process.fetch(asked(unwanted=second))).value == "third"
    assert (await shared(make_store, HoldingTokens("another")).fetch(asked())).value == "third"


async def test_a_token_that_cannot_be_replaced_is_not_given_to_others(
    make_store: MakeStore, asked: Asked
) -> None:
    """A source with one token returns it again, for its own process alone."""
    process = shared(make_store, ScriptedTokens("only"))
    only = await process.fetch(asked())
    assert (await process.fetch(asked(unwanted=only))).value == "only"
    other = shared(make_store, ScriptedTokens("another"))
    assert (await other.fetch(asked(unwanted=only))).value == "another"


async def test_a_token_of_the_source_is_served_until_it_is_unwanted(
    make_store: MakeStore, asked: Asked
) -> None:
    """A cache without a token serves it while it asks for another one."""
    process = shared(make_store, HoldingTokens("first", "second"))
    first = await process.fetch(asked())
    assert process.current_token(asked()) == first
    second = await process.fetch(asked(unwanted=first))
    assert process.current_token(asked()) == second
