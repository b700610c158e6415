"""The event loop that an object belongs to: the first to use it, none after a fork or its end."""

from __future__ import annotations

import asyncio
import gc
import weakref

import grpc
import pytest

from aio_authgrpc._loop.ownership import LoopBound
from aio_authgrpc.errors import ChannelClosedError, WrongEventLoopError


async def check(bound: LoopBound) -> None:
    bound.check()


async def test_the_first_loop_to_check_owns_the_object() -> None:
    """`open_on` is that loop from then on."""
    bound = LoopBound("channel")
    assert bound.open_on is not asyncio.get_running_loop()
    bound.check()
    assert bound.open_on is asyncio.get_running_loop()
    bound.check()


def test_another_loop_is_refused() -> None:
    """The first loop keeps the object."""
    bound = LoopBound("channel")
    asyncio.run(check(bound))
    with pytest.raises(WrongEventLoopError, match="channel belongs to another event loop") as caught:
        asyncio.run(check(bound))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_check_where_no_loop_runs_is_refused() -> None:
    """The object still belongs to no loop."""
    bound = LoopBound("channel")
    with pytest.raises(WrongEventLoopError, match="where no event loop runs"):
        bound.check()
    asyncio.run(check(bound))


async def test_a_closed_object_is_refused() -> None:
    """On its own loop, too, and it stays closed."""
    bound = LoopBound("plugin")
    bound.check()
    assert not bound.closed
    bound.close()
    assert bound.closed
    assert bound.open_on is None
    with pytest.raises(ChannelClosedError, match="The plugin was closed"):
        bound.check()


def test_a_closed_object_is_closed_where_no_loop_runs() -> None:
    """That it is closed says more than that no loop runs."""
    bound = LoopBound("channel")
    bound.close()
    with pytest.raises(ChannelClosedError):
        bound.check()


async def test_an_object_that_lost_its_loop_is_refused() -> None:
    """As in a forked child, which runs a copy of the loop."""
    bound = LoopBound("channel")
    bound.check()
    bound.lose_loop()
    assert not bound.closed
    with pytest.raises(WrongEventLoopError, match="was opened before this process was forked") as caught:
        bound.check()
    assert "after a fork" in caught.value.hint


async def test_an_unused_object_may_be_used_after_a_fork() -> None:
    """It had no loop to lose."""
    bound = LoopBound("channel")
    bound.lose_loop()
    bound.check()
    assert bound.open_on is asyncio.get_running_loop()


async def test_a_closed_object_stays_closed_after_a_fork() -> None:
    """The error says that it was closed."""
    bound = LoopBound("channel")
    bound.close()
    bound.lose_loop()
    assert bound.closed


def test_the_fork_handler_keeps_no_object_alive() -> None:
    """It holds weak references."""
    bound = LoopBound("channel")
    known = weakref.ref(bound)
    del bound
    gc.collect()
    assert known() is None
