"""Which event loop an object belongs to, and the errors of using it on another one or after its end."""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, get_running_loop
from weakref import WeakSet

from aio_authgrpc.errors import ChannelClosedError, WrongEventLoopError

_NO_LOOP_YET = object()
_OF_PARENT = object()


def running_loop() -> AbstractEventLoop:
    """Return the running event loop.

    Raises:
        WrongEventLoopError: None of asyncio's runs here.
    """
    try:
        return get_running_loop()
    except RuntimeError:
        raise WrongEventLoopError(
            "No asyncio event loop runs here.",
            hint="Call it in a coroutine that asyncio runs; trio and other event loops are not supported.",
        ) from None


class LoopBound:
    """The event loop that an object belongs to, from its first use until it is closed.

    Attributes:
        open_on: The loop that first used the object; None once it is closed. Before its first use, and in a
            forked child, one of two bare `object()`s, equal to no loop.
    """

    __slots__ = ("__weakref__", "_name", "open_on")

    def __init__(self, name: str) -> None:
        self._name = name
        self.open_on: object = _NO_LOOP_YET
        _all.add(self)

    @property
    def closed(self) -> bool:
        return self.open_on is None

    def check(self) -> None:
        """Raise unless the object is open and on the running loop; the first loop to check owns it."""
        try:
            running = get_running_loop()
            if running is self.open_on:
                return
        except RuntimeError:
            running = None
        if self.open_on is None:
            raise ChannelClosedError(
                f"The {self._name} was closed.",
                hint=f"Use it inside its 'async with' block, or open a new {self._name}.",
            )
        # Check and set without an await between them: the first loop to come keeps the object.
        if self.open_on is not _NO_LOOP_YET or running is None:
            raise self._wrong_loop(running)
        self.open_on = running

    def _wrong_loop(self, running: object) -> WrongEventLoopError:
        if self.open_on is _OF_PARENT:
            return WrongEventLoopError(
                f"The {self._name} was opened before this process was forked.",
                hint=f"Its connections do not work after a fork: open a new {self._name} in the child.",
            )
        if running is None:
            return WrongEventLoopError(
                f"The {self._name} was called where no event loop runs.",
                hint="Call it in a coroutine, on the event loop that it was opened on.",
            )
        return WrongEventLoopError(
            f"The {self._name} belongs to another event loop.",
            hint=f"Open a {self._name} on each event loop that uses one.",
        )

    def close(self) -> None:
        self.open_on = None

    def lose_loop(self) -> None:
        """Belong to no loop from now on; an object without one, or closed, stays as it is.

        A forked child has neither the parent's connections nor its threads, yet may run a copy of its event
        loop: an RPC awaited there would never end.
        """
        if self.open_on is not None and self.open_on is not _NO_LOOP_YET:
            self.open_on = _OF_PARENT


_all: WeakSet[LoopBound] = WeakSet()


def _in_child() -> None:
    for bound in tuple(_all):
        bound.lose_loop()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
