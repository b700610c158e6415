"""The lock of a credential: one at a time, across event loops and threads, and no turn is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from aio_authgrpc._sources.credential_lock import CredentialLock
from aio_authgrpc.errors import TokenUnavailableError


class Held:
    """A blocking function that runs until the test lets it go."""

    def __init__(self, leave: threading.Event) -> None:
        self.entered = False
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._in = asyncio.Event()

    def __call__(self) -> str:
        self.entered = True
        self._loop.call_soon_threadsafe(self._in.set)
        self._leave.wait(20)
        return "done"

    async def is_entered(self) -> None:
        await self._in.wait()


@pytest.fixture
def leave() -> Iterator[threading.Event]:
    """Give what the held functions wait for; it is set at the end."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def lock() -> CredentialLock:
    return CredentialLock(object())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def enter(lock: CredentialLock, entered: list[str], name: str, stay: asyncio.Event) -> None:
    async with lock.held():
        entered.append(name)
        await stay.wait()


async def test_one_coroutine_at_a_time_has_the_lock(lock: CredentialLock) -> None:
    """The others wait, and each gets it."""
    entered: list[str] = []
    stays = [asyncio.Event() for _ in range(3)]
    tasks = [asyncio.create_task(enter(lock, entered, str(n), stay)) for n, stay in enumerate(stays)]
    for done in range(3):
        await settle()
        assert len(entered) == done + 1
        stays[int(entered[-1])].set()
    await asyncio.gather(*tasks)


async def test_a_cancelled_waiter_takes_no_turn(lock: CredentialLock) -> None:
    """Neither before the release, nor after it woke all that wait."""
    entered: list[str] = []
    first, last = asyncio.Event(), asyncio.Event()
    holding = asyncio.create_task(enter(lock, entered, "first", first))
    await settle()
    early, late = (asyncio.create_task(enter(lock, entered, "never", last)) for _ in range(2))
    staying = asyncio.create_task(enter(lock, entered, "last", last))
    await settle()
    early.cancel()
    first.set()
    await holding
    late.cancel()
    await settle()
    assert entered == ["first", "last"]
    assert early.cancelled()
    assert late.cancelled()
    last.set()
    await staying


async def test_an_abandoned_thread_keeps_the_lock_until_it_ends(
    lock: CredentialLock, leave: threading.Event
) -> None:
    """It may be about to store the answer to what it has sent."""
    held, order = Held(leave), list[str]()
    caller = asyncio.create_task(lock.run_in_thread(held))
    await held.is_entered()
    caller.cancel()
    await asyncio.wait({caller})
    second = asyncio.create_task(lock.run_in_thread(lambda: order.append("second")))
    await settle()
    assert order == []
    leave.set()
    await second
    assert order == ["second"]
    assert caller.cancelled()


async def test_a_thread_that_raises_gives_the_lock_back(lock: CredentialLock) -> None:
    """The caller gets the exception."""
    with pytest.raises(ZeroDivisionError):
        await lock.run_in_thread(lambda: 1 / 0)
    assert await lock.run_in_thread(lambda: "next") == "next"


async def test_a_thread_that_hangs_is_passed(leave: threading.Event) -> None:
    """Else one request without a time-out would end a credential for good."""
    lock, held = CredentialLock(object(), patience=0.01), Held(leave)
    caller = asyncio.create_task(lock.run_in_thread(held))
    await held.is_entered()
    caller.cancel()
    assert await lock.run_in_thread(lambda: "next") == "next"


async def test_a_thread_whose_caller_waits_is_not_passed(leave: threading.Event) -> None:
    """However long it takes: the cache's time limit makes its caller leave."""
    lock, held = CredentialLock(object(), patience=0.01), Held(leave)
    caller = asyncio.create_task(lock.run_in_thread(held))
    await held.is_entered()
    second = asyncio.create_task(lock.run_in_thread(lambda: "second"))
    await asyncio.to_thread(leave.wait, 0.1)
    assert not second.done()
    leave.set()
    assert await asyncio.gather(caller, second) == ["done", "second"]


async def test_four_threads_hang_at_most(leave: threading.Event) -> None:
    """The fifth call says what is wrong. When they have ended, all is well again."""
    lock = CredentialLock(object(), patience=0.01)
    for _ in range(4):
        held = Held(leave)
        caller = asyncio.create_task(lock.run_in_thread(held))
        await held.is_entered()
        caller.cancel()
    refused = Held(leave)
    with pytest.raises(TokenUnavailableError, match="4 refreshes of this credential hang") as caught:
        await lock.run_in_thread(refused)
    assert "time-out" in caught.value.hint
    assert not refused.entered
    ours = [thread for thread in threading.enumerate() if thread.name == "aio_authgrpc"]
    leave.set()
    for thread in ours:
        await asyncio.to_thread(thread.join, 20)
    assert [await lock.run_in_thread(lambda n=n: n) for n in range(6)] == list(range(6))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    assert lock._hanging == 0


async def test_a_thread_that_cannot_be_started_gives_the_lock_back(lock: CredentialLock) -> None:
    """The machine may have no room for another one."""
    size = threading.stack_size(1 << 46)  # more than there is
    try:
        with pytest.raises(OSError, match="can't start new thread"):
            await lock.run_in_thread(lambda: "never")
    finally:
        threading.stack_size(size)
    assert await lock.run_in_thread(lambda: "next") == "next"


async def test_a_loop_that_has_stopped_takes_no_turn(lock: CredentialLock) -> None:
    """A waiter there is woken with all others, and does not run."""
    entered: list[str] = []
    stay, never = asyncio.Event(), asyncio.Event()
    holding = asyncio.create_task(enter(lock, entered, "first", stay))
    await settle()
    stopped = asyncio.new_event_loop()

    def wait_and_stop() -> asyncio.Task[None]:
        waiting = stopped.create_task(enter(lock, entered, "stopped", never))
        stopped.run_until_complete(asyncio.sleep(0))
        return waiting

    waiting = await asyncio.to_thread(wait_and_stop)
    stay.set()
    await holding
    await enter(lock, entered, "second", stay)
    assert entered == ["first", "second"]

    def end() -> None:
        waiting.cancel()
        stopped.run_until_complete(asyncio.wait({waiting}))
        stopped.close()

    await asyncio.to_thread(end)


async def test_a_holder_whose_loop_has_stopped_is_passed() -> None:
    """Nothing says whether that loop will ever go on. If it does, the holder gives nothing back."""
    lock = CredentialLock(object(), patience=0.01)
    stopped = asyncio.new_event_loop()
    entered: list[str] = []
    stay = asyncio.Event()

    def hold_and_stop() -> asyncio.Task[None]:
        holding = stopped.create_task(enter(lock, entered, "stopped", asyncio.Event()))
        stopped.run_until_complete(asyncio.sleep(0))
        return holding

    def go_on(holding: asyncio.Task[None]) -> None:
        holding.cancel()
        stopped.run_until_complete(asyncio.wait({holding}))
        stopped.close()

    holding = await asyncio.to_thread(hold_and_stop)
    second = asyncio.create_task(enter(lock, entered, "second", stay))
    third = asyncio.create_task(enter(lock, entered, "third", stay))
    while len(entered) < 2:
        await asyncio.wait({second, third}, timeout=0.01)
    await asyncio.to_thread(go_on, holding)
    await settle()
    assert len(entered) == 2
    stay.set()
    await asyncio.gather(second, third)
    assert len(entered) == 3


async def test_a_holder_on_another_loop_that_runs_is_waited_for(leave: threading.Event) -> None:
    """It is in a thread of its own."""
    lock, entered = CredentialLock(object(), patience=0.01), threading.Event()

    async def hold() -> None:
        async with lock.held():
            entered.set()
            await asyncio.to_thread(leave.wait, 20)

    holding = asyncio.create_task(asyncio.to_thread(asyncio.run, hold()))
    await asyncio.to_thread(entered.wait, 20)
    second = asyncio.create_task(lock.run_in_thread(lambda: "second"))
    await asyncio.to_thread(leave.wait, 0.1)
    assert not second.done()
    leave.set()
    assert await second == "second"
    await holding


async def test_a_waiter_whose_loop_was_closed_is_left_out(lock: CredentialLock) -> None:
    """The release does not fail."""
    entered: list[str] = []
    stay = asyncio.Event()
    holding = asyncio.create_task(enter(lock, entered, "first", stay))
    await settle()
    closed = asyncio.new_event_loop()
    closed.close()
    lock._waiting.add(closed.create_future())
    stay.set()
    await holding
    await enter(lock, entered, "second", stay)
    assert entered == ["first", "second"]
