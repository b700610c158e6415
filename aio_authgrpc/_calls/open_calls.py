"""The calls of one channel that are under way, and whether more may begin."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol
from weakref import ref

import grpc.aio

from aio_authgrpc._calls.call_status import is_over
from aio_authgrpc._calls.waiting_calls import WaitingCall, WaitingCalls
from aio_authgrpc._loop.ownership import LoopBound
from aio_authgrpc.errors import ChannelClosedError


class CallOwner(Protocol):
    """What is told the end of a real call."""

    @property
    def is_awaited(self) -> bool:
        """Whether a task awaits what comes of the call: the end is for that task to settle."""
        ...

    def on_done(self, call: Any, /) -> None:
        """Settle the end of a real call."""
        ...


class OpenCalls(LoopBound):
    """The calls of a channel, on the event loop that it belongs to. Once it is closed, no call may begin.

    Attributes:
        started: The real calls that are under way, or whose end is undecided, and what is told their end.
        intercepted: Every call above the token that user code holds, until it is let go.
        plaintext: Whether the channel is a plaintext one, for what errors say; None if it is not known.
        random: The randomness of pauses before a call is sent again.
        waiting: The calls that wait.
    """

    __slots__ = ("_connect", "_none_left", "intercepted", "plaintext", "random", "started", "waiting")

    def __init__(
        self,
        *,
        connect: Callable[[], object],
        plaintext: bool | None = None,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__("channel")
        self.check()
        self._connect = connect
        self.waiting = WaitingCalls()
        self._none_left: asyncio.Future[None] | None = None
        self.started: dict[grpc.aio.Call, CallOwner] = {}
        self.intercepted: dict[ref[grpc.aio.Call], None] = {}
        self.plaintext = plaintext
        # The module's generator: a generator of its own would take 2.5 kB of each channel.
        self.random = random.random if rng is None else rng.random

    def add_waiting(self, call: WaitingCall, deadline: float | None) -> None:
        """Keep a call that waits, until `deadline`. The first one has the channel connect meanwhile."""
        if not self.waiting:
            with suppress(Exception):  # of a channel that is closed, as the RPC will tell
                self._connect()
        self.waiting.add(call, deadline)

    def add_intercepted(self, call: grpc.aio.Call) -> None:
        """Know a call above the token until user code lets it go."""
        self.intercepted[ref(call, self._let_go)] = None

    def _let_go(self, known: ref[grpc.aio.Call]) -> None:
        self.intercepted.pop(known, None)

    def on_done(self, call: Any) -> None:
        """Have the owner of a real call settle its end, unless a task will."""
        owner = self.started.get(call)
        if owner is None or owner.is_awaited:
            return
        try:
            owner.on_done(call)
        finally:
            self.end(call)

    def end(self, call: Any) -> None:
        """Let go of a real call whose end is settled."""
        self.started.pop(call, None)
        if self._none_left is not None:
            self.note_end()

    def note_end(self) -> None:
        """Wake `finish` where no call is left."""
        if self._none_left is not None and not (self.started or self.waiting or self._none_left.done()):
            self._none_left.set_result(None)

    async def finish(self, grace: float) -> None:
        """Wait, `grace` seconds at most, until all calls are done. Cancelling it leaves them alone."""
        if grace <= 0:
            return  # no call is asked: what an interceptor made of it may raise
        ends_at = monotonic() + grace
        if self.started or self.waiting:
            if self._none_left is None or self._none_left.done():
                self._none_left = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._none_left}, timeout=grace)
        calls = [
            call for known in tuple(self.intercepted) if (call := known()) is not None and not is_over(call)
        ]
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
        for call in self.waiting:
            call.abandon(
                ChannelClosedError(
                    "The channel was closed while the call waited for its token, or its connection.",
                    hint="Await calls before leaving the `async with`, or close(grace=...) the channel.",
                )
            )
