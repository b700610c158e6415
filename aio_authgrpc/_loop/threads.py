"""Blocking work in daemon threads."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import importlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar, cast

from aio_authgrpc._checks.frames import without_frames

P = ParamSpec("P")
T = TypeVar("T")

Outcome = tuple[object, BaseException | None]
"""What a function returned, or what it raised."""


async def run_in_thread(function: Callable[[], T]) -> T:
    """Run a blocking function in a thread of its own. Cancelling it returns at once and abandons the thread.

    A daemon thread, not one of a pool: google-auth may sleep in it, or wait for a subprocess, and that must
    hold up neither the application's pool nor the end of the process.
    """
    return cast("T", await outcome_of(start_in_thread(function)))


def start_in_thread(function: Callable[[], object]) -> asyncio.Future[Outcome]:
    """Start a thread, which runs to the function's end whatever becomes of the future.

    Raises:
        OSError: The limit of threads is reached.
    """
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[Outcome] = loop.create_future()
    run = contextvars.copy_context().run
    arguments = (_run_and_tell, function, loop, finished)
    try:
        threading.Thread(target=run, args=arguments, name="aio_authgrpc", daemon=True).start()
    except RuntimeError as refusal:  # worth a retry, as an OSError is
        raise OSError(errno.EAGAIN, str(refusal)) from None
    del run, arguments, function
    return finished


async def outcome_of(finished: asyncio.Future[Outcome]) -> object:
    """Wait for the end of a function in a thread, and return or raise what it did."""
    value, error = await finished
    try:
        if error is not None:
            raise without_frames(error)  # the frames of the thread hold the key or the request
        return value
    finally:
        del finished, value, error  # the error's traceback holds this frame: a cycle otherwise


def _run_and_tell(
    function: Callable[[], object], loop: asyncio.AbstractEventLoop, finished: asyncio.Future[Outcome]
) -> None:
    outcome: Outcome
    try:
        outcome = (function(), None)
    except KeyboardInterrupt as error:  # not the terminal's: raised in a task it would end the loop
        outcome = (None, RuntimeError(f"{error!r} was raised in a worker thread."))
    except BaseException as error:  # noqa: BLE001 - raised again on the loop
        outcome = (None, error)
    with suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(_finish, finished, outcome)
    del outcome  # the error's traceback holds this frame


def _finish(finished: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not finished.done():  # else the caller was cancelled
        finished.set_result(outcome)


# Not sys.modules: that holds a module before it is complete, and importing it again waits for its lock.
_imported: set[str] = set()


async def import_off_loop(*modules: str) -> None:
    """Import modules in a thread: anyio's backend and cryptography take 25 to 50 ms each."""
    missing = [name for name in modules if name not in _imported]

    def run() -> None:
        for name in missing:
            importlib.import_module(name)
            _imported.add(name)

    if missing:
        await run_in_thread(run)


class DaemonExecutor(ThreadPoolExecutor):
    """A loop's default executor that runs each function in a daemon thread of its own.

    The threads of its base are joined at the end of the process, and take no work from then on: a name that
    resolves slowly would hold up that end, and exit functions could not resolve any. asyncio takes no
    executor with another base.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `concurrent.futures.Executor.submit`."""
        future: Future[T] = Future()
        target = partial(_fulfil, future, partial(fn, *args, **kwargs))
        threading.Thread(target=target, name="aio_authgrpc", daemon=True).start()
        return future


def _fulfil(future: Future[T], function: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001 - raised again where the result is awaited
        future.set_exception(error)
        del future  # the error's traceback holds this frame: a cycle otherwise
