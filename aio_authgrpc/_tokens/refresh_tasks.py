"""The tasks behind a token cache: one refresh at a time for all waiting callers, and a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

from aio_authgrpc._checks.arguments import check_seconds
from aio_authgrpc._loop.clock import Clock
from aio_authgrpc._loop.single_flight import FlightCancelledError, SingleFlight
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import AuthRpcError, TokenDeadlineExceededError, TokenUnavailableError

# Seconds. The timer looks at the clock this often at least: a machine that was suspended notices in a minute.
_LONGEST_SLEEP = 60.0


class RefreshTasks:
    """Runs refreshes in tasks of its own, so that none belongs to the caller that needed it first.

    Args:
        refresh: Makes one refresh, and returns its failure rather than raising it.
        clock: Sleeps for the timer.
        close_timeout: Seconds that `aclose` waits for cancelled tasks to end.

    Raises:
        ConfigurationError: `close_timeout` is not a positive number of seconds.
    """

    def __init__(
        self,
        refresh: Callable[[], Coroutine[None, None, Token | AuthRpcError]],
        *,
        clock: Clock,
        close_timeout: float,
    ) -> None:
        check_seconds("close_timeout", close_timeout)
        self._flight = SingleFlight(refresh)
        self._clock = clock
        self._close_timeout = close_timeout
        self._timer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start a refresh unless one is under way. Never waits."""
        self._flight.start()

    def start_timer(self, due_in: Callable[[], float]) -> None:
        """Refresh from now on whenever `due_in()` seconds are over. Calling it again does nothing."""
        # Check and set without an await between them.
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.create_task(self._refresh_when_due(due_in), name="aio_authgrpc keep_warm")

    async def _refresh_when_due(self, due_in: Callable[[], float]) -> None:
        while True:
            seconds = due_in()
            if seconds > 0:
                await self._clock.sleep(min(seconds, _LONGEST_SLEEP))
                continue
            with suppress(FlightCancelledError):
                await self._flight.join()

    async def join(self, timeout: float | None) -> Token:
        """Wait for the refresh under way, or a new one, and return its token.

        A caller that is cancelled, or runs out of time, leaves alone: the refresh goes on for the others.

        Args:
            timeout: Seconds to wait; None waits as long as the refresh may take.

        Raises:
            AuthRpcError: A copy of the refresh's failure.
            TokenDeadlineExceededError: `timeout` ran out first.
            TokenUnavailableError: The refresh was cancelled.
        """
        try:
            async with asyncio.timeout(timeout):
                outcome = await self._flight.join()
        except TimeoutError:  # of this scope: a refresh returns its failures
            raise TokenDeadlineExceededError(
                f"The call's time ran out: for {timeout:.3g} s it waited for an access token.",
                hint="The token endpoint is slow; the refresh goes on and later calls will use it.",
            ) from None
        except FlightCancelledError:
            raise TokenUnavailableError("The token refresh was cancelled from outside.") from None
        if isinstance(outcome, AuthRpcError):
            raise outcome.copy()
        return outcome

    async def aclose(self) -> None:
        """Cancel the timer and the refresh, wake all waiting callers, and wait for the tasks to end."""
        if self._timer is not None:
            self._timer.cancel()
        ending = {task for task in (self._timer, self._flight.cancel()) if task is not None}
        if ending:
            await asyncio.wait(ending, timeout=self._close_timeout)
