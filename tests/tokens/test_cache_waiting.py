"""Callers without a token wait for one refresh, and each may leave alone."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from aio_authgrpc import AuthRpcError, TokenCache, TokenDeadlineExceededError

from .gated_source import GatedSource, settle


async def test_a_thousand_who_wait_make_one_request(gated_cache: TokenCache, source: GatedSource) -> None:
    """Single flight."""
    waiting = [asyncio.create_task(gated_cache.get()) for _ in range(1_000)]
    await source.asked()
    source.answer("one")
    assert len({id(token) for token in await asyncio.gather(*waiting)}) == 1
    assert len(source.requests) == 1


async def test_the_first_who_is_cancelled_costs_the_others_nothing(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """Also the first, who started the refresh."""
    first, *others = [asyncio.create_task(gated_cache.get()) for _ in range(10)]
    await source.asked()
    first.cancel()
    await asyncio.wait({first})
    source.answer("one")
    assert {token.value for token in await asyncio.gather(*others)} == {"one"}
    assert first.cancelled()


async def test_all_are_cancelled_and_the_next_one_uses_the_refresh(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """What was started is not thrown away."""
    waiting = [asyncio.create_task(gated_cache.get()) for _ in range(3)]
    await source.asked()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    late = asyncio.create_task(gated_cache.get())
    await settle()
    source.answer("one")
    assert (await late).value == "one"
    assert len(source.requests) == 1


async def test_a_wait_that_is_out_of_time_says_that_it_was_the_token(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """DEADLINE_EXCEEDED, and the refresh goes on."""
    with pytest.raises(TokenDeadlineExceededError, match="waited for an access token") as caught:
        await gated_cache.get(timeout=0.0)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await source.asked()
    source.answer("one")
    await settle()
    assert gated_cache.current() is not None


async def test_cancelled_by_asyncio_timeout_surfaces_as_timeout_error(gated_cache: TokenCache) -> None:
    """A scope around the wait keeps its own exception."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0):
            await gated_cache.get()
    assert not isinstance(caught.value, AuthRpcError)


async def test_cancelled_by_task_cancel_the_task_is_cancelled(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """Cancellation is never converted."""
    task = asyncio.create_task(gated_cache.get(timeout=60))
    await source.asked()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
