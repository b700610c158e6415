"""What a fork does to objects that belong to an event loop: in the child they belong to none."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class LoopBound(Protocol):
    """Belongs to the loop that it was first used on."""

    def lose_loop(self) -> None:
        """Belong to no loop from now on, if it belonged to one: this is a forked child."""
        ...


_loop_bound: weakref.WeakSet[LoopBound] = weakref.WeakSet()


def lose_loop_at_fork(owner: LoopBound) -> None:
    """Let an object know when it finds itself in a forked child.

    There the parent's connections and threads are gone, but its event loop may be run all the same, and
    whoever waited on it for an RPC would wait for ever.
    """
    _loop_bound.add(owner)


def _in_child() -> None:
    for owner in tuple(_loop_bound):
        owner.lose_loop()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_in_child)
