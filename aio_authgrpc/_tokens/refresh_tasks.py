"""The tasks that refresh a token: one for all waiting callers, and a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from aio_authgrpc._checks.arguments import check_seconds
from aio_authgrpc._loop.clock import Clock
from aio_authgrpc._loop.single_flight import SingleFlight
from aio_authgrpc._loop.tasks import is_cancelled, start_task
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import AuthRpcError, TokenDeadlineExceededError

# Seconds. The timer looks at the clock this often at least: a machine that was suspended notices in a minute.
_LONGEST_SLEEP = 60.0


class RefreshTasks:
    """One refresh at a time for all waiting callers, and the timer of `keep_warm`.

    `refresh` returns its failure rather than raising it; `without_refresh` makes that of a refresh that was
    left or cancelled.
    """

    def __init__(
        self,
        refresh: Callable[[], Coroutine[None, None, Token | AuthRpcError]],
        without_refresh: Callable[[], AuthRpcError],
        *,
        clock: Clock,
        close_timeout: float,
    ) -> None:
        check_seconds("close_timeout", close_timeout)
        self.flight: SingleFlight[Token | AuthRpcError] = SingleFlight(refresh, without_refresh)
        self._clock = clock
        self._close_timeout = close_timeout
        self._timer: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[Any]] = set()

    def start_timer(self, due_in: Callable[[], float]) -> None:
        """Refresh from now on whenever `due_in()` seconds are over. Calling it again does nothing."""
        # Check and set without an await between them.
        if self._timer is None:
            timer = self._refresh_when_due(due_in)
            # In an empty context: it would keep that of the first caller for as long as the channel is open.
            self._timer = start_task(timer, name="aio_authgrpc keep_warm", context=Context())

    async def _refresh_when_due(self, due_in: Callable[[], float]) -> None:
        while True:
            seconds = due_in()
            if seconds > 0:
                await self._clock.sleep(min(seconds, _LONGEST_SLEEP))
                continue
            await self.flight.join()

    async def join(self, timeout: float | None) -> Token:
        """Wait for the refresh under way, or a new one; see `TokenCache.get`."""
        try:
            async with asyncio.timeout(timeout):
                outcome = await self.flight.join()
        except TimeoutError:  # of this scope: a refresh returns its failures
            raise too_late(timeout or 0.0) from None
        if isinstance(outcome, AuthRpcError):
            raise outcome.copy()
        return outcome

    def end(self, *, at_once: bool) -> None:
        """Cancel the timer, wake all waiting callers, and with `at_once` cancel the refresh too.

        So it is where the closing itself is cancelled: then nothing waits for the refresh to come home.
        """
        refresh = self.flight.leave()
        self._ending.update(task for task in (self._timer, refresh) if task is not None)
        for task in self._ending:
            if at_once or task is self._timer or is_cancelled():
                _cancel_once(task)

    async def aclose(self) -> None:
        """Wait for what `end` has left, and cancel what is there after `close_timeout`. May be repeated."""
        try:
            await self._wait_for_the_end()
        finally:
            for task in self._ending:
                _cancel_once(task)
        await self._wait_for_the_end()

    async def _wait_for_the_end(self) -> None:
        if self._ending:
            _, self._ending = await asyncio.wait(self._ending, timeout=self._close_timeout)


def _cancel_once(task: asyncio.Task[Any]) -> None:
    """Cancel a task, unless it is ending already: a second time would cut its clean-up short."""
    if not task.cancelling():
        task.cancel()


def too_late(timeout: float) -> TokenDeadlineExceededError:
    """Return the error of a caller that waited `timeout` seconds for a token."""
    if timeout <= 0:
        return TokenDeadlineExceededError(
            "The call's time was over when it waited for an access token.",
            hint="timeout= is in seconds from now; None does not limit the call.",
        )
    return TokenDeadlineExceededError(
        f"The call's time ran out: for {timeout:.3g} s it waited for an access token.",
        hint="The token endpoint, or the source, is slow; the refresh goes on and later calls will use it.",
    )
