"""FakeClock: time that the test moves."""

from __future__ import annotations

import asyncio

import pytest

from aio_authgrpc._loop.clock import Clock
from aio_authgrpc.testing import FakeClock


def test_advance_moves_both_clocks() -> None:
    """Advancing is the passing of time, for both clocks."""
    clock = FakeClock(time=100, monotonic=5)
    clock.advance(2.5)
    assert (clock.time(), clock.monotonic()) == (102.5, 7.5)


def test_jump_moves_wall_time_alone() -> None:
    """A jump is a correction of the wall clock, and may go back."""
    clock = FakeClock(time=100, monotonic=5)
    clock.jump(-60)
    assert (clock.time(), clock.monotonic()) == (40, 5)


def test_negative_advance_is_refused() -> None:
    """Time does not run backwards."""
    with pytest.raises(ValueError, match=r"jump\(\)"):
        FakeClock().advance(-1)


async def test_sleeper_wakes_when_it_is_due() -> None:
    """A sleeper sleeps until just before its time, and wakes at it."""
    clock: FakeClock = FakeClock()
    protocol: Clock = clock
    task = asyncio.create_task(protocol.sleep(10))
    await clock.wait_for_sleepers()
    clock.advance(9.999)
    assert clock.sleepers == 1
    clock.advance(0.001)
    await task
    assert clock.sleepers == 0


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    """One long step wakes the sleepers by their due time, not by the order of their arrival."""
    clock, woken = FakeClock(), list[float]()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleep(seconds)) for seconds in (3, 1, 2)]
    await clock.wait_for_sleepers(3)
    clock.advance(5)
    await asyncio.gather(*tasks)
    assert woken == [1, 2, 3]


async def test_steps_that_do_not_add_up_in_floats_wake_the_sleeper() -> None:
    """Ten steps of a tenth are a second, despite the rounding of floats."""
    clock = FakeClock(monotonic=0)
    task = asyncio.create_task(clock.sleep(1))
    await clock.wait_for_sleepers()
    for _ in range(10):
        clock.advance(0.1)
    await task
    assert clock.sleepers == 0


async def test_jump_wakes_no_sleeper() -> None:
    """Sleep is monotonic time; a jump of the wall clock does not end it."""
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.wait_for_sleepers()
    clock.jump(3600)
    assert clock.sleepers == 1
    clock.advance(1)
    await task


async def test_cancelled_sleeper_is_forgotten() -> None:
    """Cancelling ends the sleep at once and leaves nothing behind."""
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.wait_for_sleepers()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.sleepers == 0


async def test_sleep_of_zero_returns_without_an_advance() -> None:
    """Sleeping for no time only lets other tasks run."""
    clock = FakeClock()
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() == before


async def test_next_wake_up_is_the_nearest() -> None:
    """The clock tells how far to advance to wake the first sleeper."""
    clock = FakeClock()
    assert clock.next_wake_up is None
    tasks = [asyncio.create_task(clock.sleep(seconds)) for seconds in (8, 4)]
    await clock.wait_for_sleepers(2)
    assert clock.next_wake_up == 4
    clock.advance(8)
    await asyncio.gather(*tasks)
