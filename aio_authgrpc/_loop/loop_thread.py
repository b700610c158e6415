"""An event loop in a daemon thread, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aio_authgrpc._loop.threads import DaemonExecutor


class LoopThread:
    """An event loop in a daemon thread of its own. It ends when it is stopped, or with the process.

    Nothing runs at the end of the process: exit functions that other code has registered may still need the
    loop. The thread holds all that belongs to the loop, so nothing of it is collected, and complains, while
    the interpreter ends.

    Args:
        at_end: Awaited on the loop before it is closed.
    """

    def __init__(self, at_end: Callable[[], Awaitable[None]]) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(DaemonExecutor())
        self._at_end = at_end
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="aio_authgrpc loop", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs in this process: a forked child has no thread of its parent's."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: The process can have no more threads, or is about to end.
        """
        try:
            self._thread.start()
        except BaseException:
            self.loop.close()
            raise

    def stop(self) -> None:
        """Let the loop end, without waiting for that. Takes no lock: the garbage collector may call it."""
        with suppress(RuntimeError):  # it is closed already
            self.loop.call_soon_threadsafe(self._stopped.set)

    def join(self, timeout: float) -> None:
        """Wait `timeout` seconds at most for the end of a loop that was stopped; not on the loop itself."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        try:
            await self._stopped.wait()
        finally:
            await self._at_end()
