"""Callers without a token wait for one refresh, and each may leave alone."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from aio_authgrpc import AuthRpcError, static_token
from aio_authgrpc.errors import TokenDeadlineExceededError, WrongEventLoopError
from aio_authgrpc.tokens import TokenCache

from .gated_source import GatedSource, settle


async def test_a_thousand_waiting_callers_make_one_request(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """All get the token of one fetch."""
    waiting = [asyncio.create_task(gated_cache.get()) for _ in range(1_000)]
    await source.asked()
    source.answer("one")
    assert len({id(token) for token in await asyncio.gather(*waiting)}) == 1
    assert len(source.requests) == 1


async def test_a_cancelled_first_caller_costs_the_others_nothing(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """The refresh that the first caller started goes on."""
    first, *others = [asyncio.create_task(gated_cache.get()) for _ in range(10)]
    await source.asked()
    first.cancel()
    await asyncio.wait({first})
    source.answer("one")
    assert {token.value for token in await asyncio.gather(*others)} == {"one"}
    assert first.cancelled()


async def test_when_all_callers_are_cancelled_the_next_one_uses_the_refresh(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """A refresh without waiting callers goes on."""
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


async def test_a_wait_that_is_out_of_time_names_the_token(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """The code is DEADLINE_EXCEEDED, and the refresh goes on."""
    with pytest.raises(TokenDeadlineExceededError, match="waited for an access token") as caught:
        await gated_cache.get(timeout=0.0)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await source.asked()
    source.answer("one")
    await settle()
    assert gated_cache.current() is not None


@pytest.mark.parametrize("timeout", [0.0, -5.0])
async def test_a_wait_without_any_time_blames_no_source(timeout: float) -> None:
    """A fixed token takes none; the argument is named."""
    async with TokenCache(static_token("abc")) as cache:
        with pytest.raises(TokenDeadlineExceededError, match="time was over") as caught:
            await cache.get(timeout=timeout)
    assert "timeout=" in caught.value.hint
    assert "slow" not in caught.value.hint


async def test_cancelled_by_asyncio_timeout_surfaces_as_timeout_error(gated_cache: TokenCache) -> None:
    """`asyncio.timeout` around the wait raises its own exception, not one of the package."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0):
            await gated_cache.get()
    assert not isinstance(caught.value, AuthRpcError)


async def test_cancelled_by_task_cancel_the_task_is_cancelled(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """Cancellation is never turned into another error."""
    task = asyncio.create_task(gated_cache.get(timeout=60))
    await source.asked()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


class Told:
    """A waiter that keeps what it is told."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def landed(self, outcome: Any) -> None:
        """Keep it."""
        self.outcome.set_result(outcome)


async def test_a_waiter_on_another_loop_is_refused_while_a_first_refresh_runs(
    gated_cache: TokenCache, source: GatedSource
) -> None:
    """It would be told the token in a thread that is not its own."""

    async def wait_elsewhere() -> object:
        waiter = Told()
        gated_cache.wait(waiter)
        return await asyncio.wait_for(waiter.outcome, 5)

    first = asyncio.create_task(gated_cache.get())
    await source.asked()
    told = await asyncio.to_thread(asyncio.run, wait_elsewhere())
    assert isinstance(told, WrongEventLoopError)
    source.answer("one")
    assert (await first).value == "one"
