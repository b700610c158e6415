"""The calls of one channel that are under way, and whether more may begin."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from time import monotonic
from typing import NoReturn, Protocol
from weakref import ref

import grpc.aio

from aio_authgrpc._loop.fork import lose_loop_at_fork
from aio_authgrpc.errors import AuthRpcError, ChannelClosedError, WrongEventLoopError


class WaitingCall(Protocol):
    """A call without its token or connection, as the channel sees it when it closes."""

    @property
    def waiting_task(self) -> asyncio.Task[None]:
        """Ends when the call waits no more."""
        ...

    def abandon(self, error: AuthRpcError) -> None:
        """End the call with this error."""
        ...


class OpenCalls:
    """What a channel knows of its calls: where they may begin, which wait, which are held.

    Made on the event loop that the channel belongs to.
    """

    def __init__(self) -> None:
        # None once closed: one comparison on the hot path finds out both.
        self._loop: object = get_running_loop()
        self.waiting: set[WaitingCall] = set()
        # Every call that somebody holds. One that is done stays in the set until it is let go.
        self.held: set[ref[grpc.aio.Call]] = set()
        lose_loop_at_fork(self)

    @property
    def closed(self) -> bool:
        """Whether no further call may begin."""
        return self._loop is None

    def check(self) -> None:
        """Refuse a call that may not begin here.

        Raises:
            ChannelClosedError, WrongEventLoopError: The channel is closed, or this is not its loop.
        """
        try:
            usable = get_running_loop() is self._loop
        except RuntimeError:  # no loop runs here
            usable = False
        if not usable:
            self._raise_unusable()

    def _raise_unusable(self) -> NoReturn:
        if self.closed:
            raise ChannelClosedError(
                "The channel was closed.",
                hint="Use a stub inside of its `async with`; opening the connection again yields a new one.",
            )
        raise WrongEventLoopError(
            "The channel belongs to another event loop, or was called where none runs.",
            hint="Open it on the loop, and in the process, that uses it: after a fork, not before.",
        )

    def lose_loop(self) -> None:
        """See `fork.LoopBound`."""
        if not self.closed:
            self._loop = object()

    def refuse_new_calls(self) -> None:
        """Let no further call begin; those that wait go on."""
        self._loop = None

    async def finish(self, grace: float) -> None:
        """Wait, `grace` seconds at most, until all calls are done. Cancelling it leaves them alone."""
        ends_at = monotonic() + grace
        if grace > 0 and self.waiting:
            await asyncio.wait({call.waiting_task for call in self.waiting}, timeout=grace)
        await self._finish_started(ends_at - monotonic())

    async def _finish_started(self, timeout: float) -> None:
        calls = [call for known in tuple(self.held) if (call := known()) is not None and not call.done()]
        if timeout <= 0 or not calls:
            return
        ends = [asyncio.ensure_future(call.code()) for call in calls]
        try:
            await asyncio.wait(ends, timeout=timeout)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    def abandon_waiting(self) -> None:
        """End the calls that still wait, with `ChannelClosedError`."""
        for call in tuple(self.waiting):
            call.abandon(
                ChannelClosedError(
                    "The channel was closed while the call waited for its token, or its connection.",
                    hint="Await calls before leaving the `async with`, or close(grace=...) the channel.",
                )
            )
