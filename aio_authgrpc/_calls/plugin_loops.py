"""Which event loop answers a plugin's RPCs: one that the application runs, or one of the plugin's own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from aio_authgrpc._calls.plugin_tokens import PluginTokens
from aio_authgrpc._loop.loop_thread import LoopThread
from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc.errors import ChannelClosedError, TokenUnavailableError, WrongEventLoopError

# Seconds. A cache waits 2 s for a cancelled refresh; a source that blocks its thread would never end.
_CLOSE_TIMEOUT = 5.0

OnLoop = tuple[asyncio.AbstractEventLoop, PluginTokens]


class GivenLoop:
    """The application's loop: the one that runs when the plugin is made, or is entered."""

    def __init__(self, make: Callable[[], PluginTokens]) -> None:
        self._tokens = make()
        with suppress(WrongEventLoopError):  # none runs yet: the plugin is entered later
            self._tokens.bound.check()

    def get(self) -> OnLoop:
        """Return the loop, and what belongs to it; in any thread.

        Raises:
            ChannelClosedError, WrongEventLoopError: There is none.
        """
        loop = self._tokens.bound.open_on
        if isinstance(loop, asyncio.AbstractEventLoop):
            return loop, self._tokens
        if self._tokens.bound.closed:
            raise _closed()
        raise WrongEventLoopError(
            "The plugin has no event loop.",
            hint="Make it where one runs, enter it with 'async with', or pass own_loop=True; after a fork, "
            "make a new one.",
        )

    def enter(self) -> None:
        """Take the running loop, if there is none yet.

        Raises:
            ChannelClosedError, WrongEventLoopError: See `LoopBound.check`.
        """
        self._tokens.bound.check()

    def close(self) -> None:
        """Refuse: a loop that is not the plugin's cannot be waited for.

        Raises:
            WrongEventLoopError: Always, unless it is closed.
        """
        if not self._tokens.bound.closed:
            raise WrongEventLoopError(
                "The plugin belongs to an event loop that is not its own.",
                hint="Await its aclose() on that loop; close() is for own_loop=True.",
            )

    async def aclose(self) -> None:
        """Close what belongs to the loop; see `PluginTokens.aclose`."""
        await self._tokens.aclose()


class OwnLoop:
    """A loop in a thread of the plugin's: started by the first RPC, once in each process."""

    def __init__(self, make: Callable[[], PluginTokens]) -> None:
        self._make = make
        self._running: tuple[LoopThread, PluginTokens] | None = None
        self._closed = False

    def get(self) -> OnLoop:
        """Return the loop of this process, started now if there is none; in any thread.

        Raises:
            ChannelClosedError: The plugin was closed.
            TokenUnavailableError: No thread can be started.
        """
        with _starting:
            self.enter()
            if self._running is None or not self._running[0].alive:  # in a forked child it is not
                self._running = self._start()
            thread, tokens = self._running
        return thread.loop, tokens

    def _start(self) -> tuple[LoopThread, PluginTokens]:
        tokens = self._make()
        try:
            thread = LoopThread(tokens.aclose)
            thread.start()
        except (OSError, RuntimeError) as error:
            raise TokenUnavailableError(f"No event loop can be started for the plugin: {error}") from error
        return thread, tokens

    def enter(self) -> None:
        """Raise if it is closed.

        Raises:
            ChannelClosedError: It is closed.
        """
        if self._closed:
            raise _closed()

    def stop(self) -> None:
        """Let the loop end, and do not wait for that. Takes no lock: the garbage collector may call it."""
        self._closed = True
        if self._running is not None:
            self._running[0].stop()

    def close(self) -> None:
        """Let the loop end, and wait for that; called on the loop itself, it does not wait."""
        with _starting:  # an RPC that is about to start the loop comes first
            self.stop()
        if self._running is not None:
            self._running[0].join(_CLOSE_TIMEOUT)

    async def aclose(self) -> None:
        """Let the loop end, and wait for that. Cancelling it abandons the wait alone."""
        await run_in_thread(self.close)


def _closed() -> ChannelClosedError:
    return ChannelClosedError("The plugin was closed.")


# Held while a process forks, so that no child inherits it from a thread that it does not have. An RLock: a
# signal handler may fork in the thread that holds it.
_starting = threading.RLock()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(
        before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release
    )
