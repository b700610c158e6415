"""What happens to a pair of calls, one deferred and one real: steps, drawn at random, and who does them.

Three phases: both calls wait (one for its token, the other for its connection); the server holds both;
the server answers. Each operation is a task. What reads is done in order, what writes too; a question is a
task of its own. What cannot be told apart without a race is left to the end: then everything is compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from hypothesis import strategies as st

from tests.support.patience import patience

QUESTIONS = ("code", "details", "initial_metadata", "trailing_metadata", "wait_for_connection")
STEPS = (*QUESTIONS, "callback", "probe", "cancel", "cancel the reader", "cancel a question")
READING = {False: ("await",), True: ("read", "next")}
WRITING = ("write", "done_writing")
REPEATED = 3  # how often the server answers UnaryStream

# The bounds of each wait, on an idle machine. What takes longer hangs.
PATIENCE = 5.0
# The bound for what is known to hang on a real call that ended before it was connected.
MOMENT = 0.1


@dataclass(frozen=True, kw_only=True)
class Script:
    """Steps by phase, and how the calls are made and met."""

    waiting: tuple[str, ...]
    held: tuple[str, ...]
    answered: tuple[str, ...]
    with_iterator: bool
    refusal: grpc.StatusCode | None


def scripts(arity: Any) -> st.SearchStrategy[Script]:
    """Return scripts for an arity; steps that end a call early are drawn less often than others."""
    steps = [
        *STEPS,
        *READING[arity.response_is_stream] * 4,
        *(WRITING * 3 if arity.request_is_stream else ()),
    ]
    phase = st.lists(st.sampled_from(steps), max_size=5).map(tuple)
    codes = st.sampled_from([grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE])
    return st.builds(
        Script,
        waiting=phase,
        held=phase,
        answered=phase,
        with_iterator=st.booleans(),
        refusal=st.none() | st.none() | codes,
    )


class Actors:
    """Does the steps on one call, and remembers each with its outcome.

    Args:
        call: The call.
        deadline: Its timeout; None for none.
    """

    def __init__(self, call: Any, deadline: float | None = None) -> None:
        self.call = call
        self.seen: list[tuple[str, object]] = []
        self._deadline = deadline
        self._tasks: list[tuple[str, asyncio.Task[Any]]] = []
        self._last: dict[str, asyncio.Task[Any]] = {}

    def start(self, name: str, operation: Callable[[], Awaitable[Any]], actor: str = "") -> None:
        """Start an operation; where an actor does it, after its others."""
        before = self._last.get(actor)

        async def run() -> Any:
            if before is not None:
                await asyncio.wait({before})
            return await operation()

        task = asyncio.ensure_future(run())
        self._tasks.append((name, task))
        if actor:
            self._last[actor] = task

    def do(self, step: str, *, reader: str = "reader") -> None:  # noqa: C901 - a table of steps
        """Do a step, or start it; what reads is done by the actor of that name."""
        call: Any = self.call
        match step:
            case "probe":
                left = call.time_remaining()
                in_range = left is None if self._deadline is None else 0 <= left <= self._deadline
                self.seen.append((step, (call.done(), call.cancelled(), in_range)))
            case "cancel":
                self.seen.append((step, call.cancel()))
            case "cancel the reader":
                self._cancel(("read", "next", "await"))
            case "cancel a question":
                self._cancel(QUESTIONS)
            case "callback":
                self._add_callback()
            case "read":
                self.start(step, call.read, reader)
            case "next":
                self.start(step, lambda: _next(call), reader)
            case "await":
                self.start(step, lambda: _await(call), "reader")
            case "write":
                self.start(step, lambda: call.write(b"w"), "writer")
            case "done_writing":
                self.start(step, call.done_writing, "writer")
            case _:
                self.start(step, getattr(call, step))

    def _cancel(self, names: tuple[str, ...]) -> None:
        """Cancel the first of these that is under way."""
        task = next((task for name, task in self._tasks if name in names and not task.done()), None)
        if task is not None:
            task.cancel()

    def _add_callback(self) -> None:
        place = len(self.seen)
        self.seen.append(("callback", "never called"))
        calls: list[object] = []

        def called(with_call: object) -> None:
            calls.append((with_call is self.call, self.call.done(), adding))
            self.seen[place] = ("callback", tuple(calls))

        adding = True
        self.call.add_done_callback(called)
        adding = False

    async def finished(self, *actors: str) -> None:
        """Wait, within bounds, for what the actors, or all who asked, have under way."""
        if actors:
            await _ended({self._last[actor] for actor in actors if actor in self._last}, PATIENCE)
            return
        may_hang = ("wait_for_connection", *WRITING)
        await _ended({task for name, task in self._tasks if name not in may_hang}, PATIENCE)
        if self.call.done():
            await _ended({task for _, task in self._tasks}, MOMENT)
        await _ended({task for _, task in self._tasks if not self.call.done()}, PATIENCE)

    def outcomes(self) -> list[tuple[str, object]]:
        """Return what each step brought, those done at once first."""
        return self.seen + [(name, _outcome(task)) for name, task in self._tasks]


async def _ended(tasks: set[asyncio.Task[Any]], within: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=patience(within))


async def _next(call: Any) -> Any:
    return await anext(aiter(call))


async def _await(call: Any) -> Any:
    return await call


def _outcome(task: asyncio.Task[Any]) -> object:
    if not task.done():
        task.cancel()
        return "hangs"
    if task.cancelled():
        return "CancelledError"
    error = task.exception()
    return _shown(task.result()) if error is None else shown_error(error)


def shown_error(error: BaseException) -> object:
    """Return what a caller can tell of an error."""
    if isinstance(error, grpc.aio.AioRpcError):
        metadata = [_shown(error.initial_metadata()), _shown(error.trailing_metadata())]
        return ("AioRpcError", error.code(), error.details(), *metadata)
    return (type(error).__name__, str(error))


def _shown(value: object) -> object:
    if isinstance(value, grpc.aio.Metadata):
        return tuple(value)
    return "EOF" if value is grpc.aio.EOF else value
