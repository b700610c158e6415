"""Streams that a server refused before it processed them: how they are known, and when they are sent again.

A server whose connection has as many streams as it allows may refuse another one with REFUSED_STREAM. It has
not processed that one (RFC 9113, 8.7), so that sending it again is safe for every method. gRPC itself does so
once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import grpc.aio

from aio_authgrpc._calls.call_status import details_of, has_headers
from aio_authgrpc._loop.single_flight import Waiter

# The whole text of grpcio 1.84 to 1.85. A text that differs is another error, which is passed on.
_REFUSED = "Stream removed (RST_STREAM (Received RST_STREAM with error code 7))"

# 30 000 calls at once, at a server that allows 100 on each connection, took 6 at most. A slow server takes
# more: ten, which are over after 3 s on average, failed one of 300 calls at ten streams.
MAX_RESENDS = 30
_FIRST_PAUSE = 0.05  # seconds; 0.025 to 0.1 make no difference, 0.2 costs a quarter of the throughput
_LONGEST_PAUSE = 1.0


def was_refused(call: grpc.aio.Call) -> bool:
    """Return whether the server refused the stream of a call that is done with UNAVAILABLE."""
    return details_of(call) == _REFUSED and not has_headers(call)


class Pause:
    """A pause before a call is sent again, for which the call waits without a task."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, waiter: Waiter[None]) -> None:
        """Tell the one `waiter` when it is over."""
        self._timer = asyncio.get_running_loop().call_later(self._seconds, waiter.landed, None)

    def leave(self, waiter: Waiter[None]) -> None:
        """Let the waiter go."""
        del waiter
        if self._timer is not None:
            self._timer.cancel()


def pause_before_resending(
    resends: int, seconds_left: float | None, random: Callable[[], float]
) -> float | None:
    """Return the seconds to wait before a refused call is sent again; None where it is not.

    The longest pause doubles with each time, and the pause is any part of it, so that calls that were refused
    together do not come back together.

    Args:
        resends: How often it has been sent again so far.
        seconds_left: The time until its deadline; None without one.
        random: Chooses the part: below 1.0.
    """
    if resends >= MAX_RESENDS:
        return None
    pause = random() * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**resends)
    return None if seconds_left is not None and pause >= seconds_left else pause
