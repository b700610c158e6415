"""Blocking code and imports in threads of their own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from aio_authgrpc._loop.threads import DaemonExecutor, _fulfil, import_off_loop, run_in_thread


async def test_cancelling_abandons_the_blocking_thread() -> None:
    """The caller does not wait for google-auth's time.sleep, or for a subprocess."""
    inside, leave = threading.Event(), threading.Event()

    def block() -> None:
        inside.set()
        leave.wait(10)

    task = asyncio.create_task(run_in_thread(block))
    await asyncio.to_thread(inside.wait)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    leave.set()


async def test_a_blocking_thread_does_not_hold_the_end_of_the_process() -> None:
    """It is a daemon: google-auth's executables take up to two minutes."""
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    leave = threading.Event()

    def block() -> bool:
        loop.call_soon_threadsafe(started.set)
        leave.wait(10)
        return threading.current_thread().daemon

    running = asyncio.create_task(run_in_thread(block))
    await started.wait()
    leave.set()
    assert await running


async def test_a_failing_import_raises_in_its_caller() -> None:
    """The thread does not swallow the exception."""
    with pytest.raises(ModuleNotFoundError):
        await import_off_loop("aio_authgrpc.no_such_module")


async def test_an_import_leaves_no_thread(threads_before: int) -> None:
    """A pool would keep its thread."""
    await import_off_loop("json.tool")
    ours = [thread for thread in threading.enumerate() if thread.name == "aio_authgrpc"]
    for thread in ours:
        await asyncio.to_thread(thread.join, 5)
    assert not [thread for thread in ours if thread.is_alive()]


async def test_a_daemon_executor_returns_and_raises_what_the_function_does() -> None:
    """As the loop's default executor, in a thread that holds no end of the process."""
    asyncio.get_running_loop().set_default_executor(DaemonExecutor())
    assert await asyncio.to_thread(lambda: threading.current_thread().daemon)
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: 1 / 0)


def test_a_daemon_executor_runs_no_function_that_was_cancelled() -> None:
    """Before its thread had begun: there is no other moment to cancel it."""
    ran: list[object] = []
    future: Future[None] = Future()
    future.cancel()
    _fulfil(future, lambda: ran.append(1))
    assert ran == []
