"""A token that a server refused is taken back once, unless the refusal is meant."""

from __future__ import annotations

from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache

from .gated_source import GatedSource, fill


async def test_a_rejected_token_is_replaced_by_one_refresh(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """The first of five rejections takes it back; a late one leaves the new token alone."""
    token = await fill(gated_cache, source)
    clock.advance(10)
    assert [gated_cache.reject(token) for _ in range(5)] == [True] * 5
    new = await fill(gated_cache, source, "two")
    assert gated_cache.reject(token)
    assert gated_cache.current() is new
    assert len(source.requests) == 2


async def test_a_token_younger_than_ten_seconds_is_not_rejected(
    gated_cache: TokenCache, source: GatedSource, clock: FakeClock
) -> None:
    """The server means it: a refresh for each refused call would be a storm."""
    token = await fill(gated_cache, source)
    clock.advance(9.9)
    assert not gated_cache.reject(token)
    assert gated_cache.current() is token
