"""The calls of one channel that are under way, and whether more may begin."""

from __future__ import annotations

import asyncio
import random
from time import monotonic
from typing import Protocol
from weakref import ref

import grpc.aio

from aio_authgrpc._calls.call_status import is_over
from aio_authgrpc._loop.ownership import LoopBound
from aio_authgrpc.errors import ChannelClosedError


class WaitingCall(Protocol):
    """A call without its token or connection, as the channel sees it when it closes."""

    waiting_task: asyncio.Task[None]

    def abandon(self, error: BaseException) -> None: ...


class OpenCalls(LoopBound):
    """The calls of a channel, on the event loop that it belongs to. Once it is closed, no call may begin.

    Attributes:
        waiting: The calls without their token or connection.
        held: Every call that user code holds. A call that is done stays in it until it is let go.
        let_go: Takes such a reference out.
        plaintext: Whether the channel is a plaintext one, for what errors say; None if it is not known.
        rng: The randomness of pauses before a call is sent again.
    """

    def __init__(self, *, plaintext: bool | None = None, rng: random.Random | None = None) -> None:
        super().__init__("channel")
        self.check()
        self.waiting: set[WaitingCall] = set()
        self.held: set[ref[grpc.aio.Call]] = set()
        self.let_go = self.held.discard  # one bound method for all calls
        self.plaintext = plaintext
        self.rng = random.Random() if rng is None else rng  # noqa: S311 - spreads load, guards nothing

    async def finish(self, grace: float) -> None:
        """Wait, `grace` seconds at most, until all calls are done. Cancelling it leaves them alone."""
        if grace <= 0:
            return  # no call is asked: what an interceptor made of it may raise
        ends_at = monotonic() + grace
        if self.waiting:
            await asyncio.wait({call.waiting_task for call in self.waiting}, timeout=grace)
        calls = [call for known in tuple(self.held) if (call := known()) is not None and not is_over(call)]
        seconds = ends_at - monotonic()
        if seconds <= 0 or not calls:
            return
        ends = [asyncio.ensure_future(call.code()) for call in calls]
        try:
            await asyncio.wait(ends, timeout=seconds)
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
