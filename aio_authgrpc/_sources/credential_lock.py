"""A lock for coroutines of several event loops, and for the threads in which a credential is refreshed."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import TypeVar, cast

from aio_authgrpc._loop.threads import outcome_of, start_in_thread
from aio_authgrpc.errors import TokenUnavailableError

T = TypeVar("T")

# Seconds. Without requests, which are cut off, google-auth's threads end within a back-off's sleep.
_PATIENCE = 10.0
# Seconds. Nothing tells a waiter that the holder's caller has left, or its loop has stopped.
_LONGEST_WAIT = 1.0
# Inside one credential's refresh(). One thread may hang for a reason that is over; four in a row do not.
_MOST_THREADS = 4


class CredentialLock:
    """A lock for coroutines of several event loops; a thread that it was taken for keeps it until it ends.

    A waiter owns nothing: a release wakes all of them, and the first that runs takes the lock. So a waiter
    that is cancelled, or whose loop has stopped, takes no turn from the others.

    Args:
        owner: What it is the lock of, and keeps alive.
        patience: Seconds to wait for a holder whose caller has left, or whose loop has stopped. Then it
            hangs, and is passed.
    """

    def __init__(self, owner: object, *, patience: float = _PATIENCE) -> None:
        self._owner = owner
        self._patience = patience
        self.reset()

    def reset(self) -> None:
        """Be free: a forked child has none of its parent's threads, and a copy of what they held."""
        # The garbage collector may end a waiting coroutine while this very thread has it.
        self._guard = threading.RLock()
        self._holder: _Holder | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._hanging = 0

    async def run_in_thread(self, function: Callable[[], T]) -> T:
        """Run a blocking function as `run_in_thread` does, with the lock. Cancelling it abandons the thread.

        Raises:
            TokenUnavailableError: As many threads hang in such functions as may.
        """
        holder = await self._acquire()

        def run() -> T:
            try:
                return function()
            finally:
                self._release(holder)

        try:
            ended = outcome_of(start_in_thread(run))
        except BaseException:
            self._release(holder)
            raise
        try:
            return cast("T", await ended)
        finally:
            self._abandon(holder)

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Hold it for a block of a coroutine."""
        holder = await self._acquire()
        try:
            yield
        finally:
            self._release(holder)

    async def _acquire(self) -> _Holder:
        while True:
            with self._guard:
                seconds = self._seconds_to_wait()
                if seconds <= 0:
                    return self._take()
                woken = asyncio.get_running_loop().create_future()
                self._waiting.add(woken)
            try:
                await asyncio.wait({woken}, timeout=min(seconds, _LONGEST_WAIT))
            finally:
                with self._guard:
                    self._waiting.discard(woken)

    def _seconds_to_wait(self) -> float:
        if self._holder is None:
            return 0.0
        if not self._holder.loop.is_running():
            self._holder.leave(self._patience)
        return self._holder.awaited_until - monotonic()

    def _take(self) -> _Holder:
        if self._holder is not None:  # its thread hangs
            if self._hanging + 1 == _MOST_THREADS:
                raise TokenUnavailableError(
                    f"{_MOST_THREADS} refreshes of this credential hang, in threads that cannot be stopped.",
                    hint="Its refresh() waits for something without a time-out.",
                )
            self._holder.passed = True
            self._hanging += 1
        self._holder = _Holder(asyncio.get_running_loop())
        return self._holder

    def _release(self, holder: _Holder) -> None:
        """Give it back; called in any thread. A thread that was passed meanwhile has nothing to give back."""
        with self._guard:
            if holder.passed:
                self._hanging -= 1
            elif self._holder is holder:
                self._holder = None
                waiting, self._waiting = self._waiting, set()
                for woken in waiting:
                    with suppress(RuntimeError):  # its loop was closed
                        woken.get_loop().call_soon_threadsafe(woken.set_result, None)

    def _abandon(self, holder: _Holder) -> None:
        """Note that the holder's caller has left, if it still holds the lock."""
        with self._guard:
            if self._holder is holder:
                holder.leave(self._patience)


class _Holder:
    """Who has the lock: a coroutine, or a thread whose requests are sent on its caller's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.awaited_until = math.inf  # monotonic
        self.passed = False

    def leave(self, patience: float) -> None:
        self.awaited_until = min(self.awaited_until, monotonic() + patience)
