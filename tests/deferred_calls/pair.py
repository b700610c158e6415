"""A deferred call and a real one, led through the same script on the same server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio

from aio_authgrpc import AuthorizedChannel
from aio_authgrpc.testing import EchoServer, EchoStub, ScriptedTokens
from aio_authgrpc.tokens import TokenCache

from .held_connection import HeldConnection
from .script import QUESTIONS, READING, REPEATED, WRITING, Actors, Script

# Where a deferred call may differ from a real one, and why. Nothing else may. Each is a test of what the
# deferred call showed, and what the real one.
KNOWN_DIFFERENCES: dict[str, Callable[[str, Any, Any], bool]] = {
    # A real call that ends before it was connected never says so to whoever waits to write, or for the
    # connection: its `_metadata_sent` is never set. Ours ends them.
    "what grpc.aio leaves hanging ends": lambda step, ours, real: (
        real == "hangs" and step in ("wait_for_connection", *WRITING) and ours != "hangs"
    ),
    # send_receive_close() on its way when the call is cancelled may let an error of gRPC's inside escape.
    "done_writing() of a call that is cancelled meanwhile": lambda step, ours, real: (
        step == "done_writing" and {_name(ours), _name(real)} == {"None", "ExecuteBatchError"}
    ),
    # The details say that it was the token that took the time, and the metadata is of no server.
    "the time ran out while it waited for the token": lambda step, ours, real: (
        _without_details(ours) == _without_details(real) and "waited for an access token" in str(ours)
    ),
    # grpc.aio asks for a server stream's initial metadata when its request has been sent. A status that comes
    # before leaves none (`_set_status` in its call.pyx.pxi): which of the two calls has it is chance.
    "the status came before the initial metadata": lambda step, ours, real: (
        () in (_initial(step, ours), _initial(step, real))
        and _without_initial(step, ours) == _without_initial(step, real)
    ),
    # grpc.aio looks at the end first, and a real call may be over where the other is on its way.
    "InvalidStateError has another text": lambda step, ours, real: (
        step == "write" and {_name(ours), _name(real)} == {"InvalidStateError"}
    ),
}


def _name(outcome: Any) -> str:
    return str(outcome[0] if isinstance(outcome, tuple) else outcome)


def _without_details(outcome: Any) -> Any:
    if isinstance(outcome, str):
        return outcome if outcome in ("hangs", "CancelledError") else "details"
    return (*outcome[:2], *outcome[3:]) if isinstance(outcome, tuple) else outcome


def _is_error(outcome: Any) -> bool:
    return isinstance(outcome, tuple) and outcome[:1] == ("AioRpcError",)


def _initial(step: str, outcome: Any) -> Any:
    """Return the initial metadata that an outcome shows; None where it shows none."""
    if _is_error(outcome):
        return outcome[3]
    return outcome if step == "initial_metadata" else None


def _without_initial(step: str, outcome: Any) -> Any:
    if _is_error(outcome):
        return (*outcome[:3], *outcome[4:])
    is_metadata = step == "initial_metadata" and all(isinstance(pair, tuple) for pair in outcome)
    return None if is_metadata else outcome


def differences(ours: list[Any], real: list[Any]) -> list[Any]:
    """Return the steps of which the two calls showed what they may not, with both outcomes."""
    return [
        (step, our, its)
        for (step, our), (_, its) in zip(ours, real, strict=True)
        if our != its and not any(known(step, our, its) for known in KNOWN_DIFFERENCES.values())
    ]


# What shows how far the server has come.
RACING = ("probe", "cancel", "cancel the reader", "cancel a question", "callback", "wait_for_connection")

_INITIAL, _TRAILING = (("x-initial", "i"),), (("x-trailing", "t"),)


class MetadataEchoServer(EchoServer):
    """Send metadata before and after, so that there is some to compare."""

    async def _receive(self, method: str, context: Any) -> Any:
        refusal = await super()._receive(method, context)
        context.set_trailing_metadata(_TRAILING)
        await context.send_initial_metadata(_INITIAL)
        return refusal


class Pair:
    """The two calls; `play` leads them through a script and returns what each showed.

    Args:
        server: Serves both.
        arity: Of the calls.
        script: What happens.
        timeout: Of the calls, in seconds.
    """

    def __init__(self, server: EchoServer, arity: Any, script: Script, timeout: float | None = None) -> None:
        self._server = server
        self._arity = arity
        self._script = script
        self._timeout = timeout
        if timeout is not None:
            # A real call whose iterator is being read when the time runs out ends with DEADLINE_EXCEEDED, or
            # INTERNAL, or CANCELLED, by chance (https://github.com/grpc/grpc/issues/36066).
            self._script = script = replace(script, with_iterator=False)
        self._written = self._read = 0
        self._half_closed = script.with_iterator or not arity.request_is_stream
        self._written = 2 if script.with_iterator else 0

    async def play(self) -> list[Any]:
        """Return what the two calls, and the server, showed differently: the step and both outcomes."""
        self._server.calls.clear()
        async with AsyncExitStack() as opened:
            self._connection = await opened.enter_async_context(HeldConnection(self._server.port))
            source = ScriptedTokens()
            self._token = source.hold()
            cache = await opened.enter_async_context(TokenCache(source))
            inner = grpc.aio.insecure_channel(f"127.0.0.1:{self._server.port}")
            channel = await opened.enter_async_context(AuthorizedChannel(inner, cache))
            plain = await opened.enter_async_context(grpc.aio.insecure_channel(self._connection.target))
            self._both = [self._begin(channel), self._begin(plain)]
            await (self._play_phases() if self._timeout is None else self._play_to_the_deadline())
            self._server.behave()
            ours, real = (actors.outcomes() for actors in self._both)
        ours_sent = sum(bool(call.values("authorization")) for call in self._server.calls)
        its_sent = len(self._server.calls) - ours_sent
        sent = [] if ours_sent == its_sent or self._timeout is not None else [("sent", ours_sent, its_sent)]
        return differences(ours, real) + sent

    def _begin(self, channel: grpc.aio.Channel) -> Actors:
        call: Any = getattr(EchoStub(channel), self._arity.method)
        arguments = {"timeout": self._timeout}
        if not self._arity.request_is_stream:
            return Actors(call(b"x", **arguments), self._timeout)
        return Actors(call(_requests() if self._script.with_iterator else None, **arguments), self._timeout)

    async def _play_phases(self) -> None:
        held = self._server.hold()
        if self._script.refusal is not None:
            self._server.refuse(self._script.refusal, times=None)
        for step in self._script.waiting:
            await self._do_before_the_answer(step)
        self.let_go()
        if not self._over:
            await held.wait_for(2)
            await self._know_the_connection()
        for step in self._script.held:
            await self._do_before_the_answer(step)
            await self._write_out()
        held.release()
        for step in self._script.answered:
            if not self._races(step):
                await self._do(step)
                await self._caught_up()
        await self.finish()

    async def _know_the_connection(self) -> None:
        """Let both calls notice what the server has: then both answer a question for the connection."""
        if self._arity.request_is_stream:
            await asyncio.gather(*(each.call.wait_for_connection() for each in self._both))
            await self._write_out()
            await self._settle()

    async def _write_out(self) -> None:
        """Let both calls notice that their requests have left: a write may be cancelled before that."""
        if self._arity.request_is_stream and not self._over:
            await asyncio.gather(*(each.finished("writer") for each in self._both))

    async def _settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def _play_to_the_deadline(self) -> None:
        """Let the time run out while both wait, or while the server holds both."""
        held = self._server.hold()
        for step in self._script.waiting:
            await self._do_unless_it_races(step)
        if self._script.refusal is not None:
            self.let_go()
        for step in self._script.held:
            await self._do_unless_it_races(step)
        await asyncio.gather(*(each.call.code() for each in self._both))
        for step in self._script.answered:
            if not step.startswith("cancel ") and step not in set(READING[True]) - {self._style}:
                await self._do(step)
        held.release()
        self.let_go()
        await self.finish()

    async def _do_unless_it_races(self, step: str) -> None:
        """Do what brings the same before the time has run out and after."""
        if step in (*QUESTIONS[:-1], self._style):
            await self._do(step)

    async def _do_before_the_answer(self, step: str) -> None:
        """Do all but to wait for initial metadata, which the end follows at once where a call is refused."""
        if (
            self._script.refusal is None
            or step != "wait_for_connection"
            or self._arity.method != "UnaryStream"
        ):
            await self._do(step)

    def let_go(self) -> None:
        """Let the token and the connection come."""
        self._token.release()
        self._connection.gate.release()

    async def _do(self, step: str) -> None:
        self._count(step)
        # A mixture is refused at once: behind a read that waits it would come after the call's end, or not.
        reader = "" if step in READING[True] and step != self._style else "reader"
        for actors in self._both:
            actors.do(step, reader=reader)
        await self._settle()

    def _count(self, step: str) -> None:
        writes = self._arity.request_is_stream and not self._script.with_iterator and not self._half_closed
        self._written += step == "write" and writes
        self._half_closed = self._half_closed or (step == "done_writing" and writes)
        self._read += step in ("read", "next", "await")

    @property
    def _over(self) -> bool:
        return all(each.call.done() for each in self._both)

    @property
    def _style(self) -> str:
        """The way of reading that comes first in the script."""
        return next((step for step in self._steps if step in READING[True]), READING[True][0])

    @property
    def _messages(self) -> int:
        """How many can be read."""
        if self._script.refusal is not None or not self._arity.response_is_stream:
            return 0
        return self._written if self._arity.request_is_stream else REPEATED

    def _races(self, step: str) -> bool:
        """Whether the outcome of a step depends on how far the server has come."""
        if self._over:
            return False
        if step not in RACING:
            # A call that is over is read either way; one that is not holds to the first.
            return step in READING[True] and step != self._style
        if step == "cancel a question":
            return True
        runs_on = not self._half_closed or self._read < self._messages
        return not runs_on or (step == "cancel the reader" and self._read > 0)

    async def _caught_up(self) -> None:
        """Wait for what cannot be blocked by what is still to come."""
        if self._over or self._half_closed or self._read <= self._messages:
            actors = (
                ["reader", "writer"] if self._half_closed or self._arity.response_is_stream else ["writer"]
            )
            await asyncio.gather(*(each.finished(*actors) for each in self._both))

    async def finish(self) -> None:
        """Write, read and ask to the end, and look at what is left."""
        last = ["done_writing"] if self._arity.request_is_stream and not self._script.with_iterator else []
        last += [self._style] * (self._messages + 1) if self._arity.response_is_stream else ["await"]
        for step in [*last, *QUESTIONS[:-1]]:
            await self._do(step)
        await asyncio.gather(*(each.finished() for each in self._both))
        for step in ("probe", "callback", "cancel", "wait_for_connection"):
            await self._do(step)
        await asyncio.gather(*(each.finished() for each in self._both))

    @property
    def _steps(self) -> tuple[str, ...]:
        return (*self._script.waiting, *self._script.held, *self._script.answered)


async def _requests() -> AsyncIterator[bytes]:
    for _ in range(2):
        yield b"x"
