"""What a fork does to the objects of an event loop: in the child they belong to no loop."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class LosesLoop(Protocol):
    """An object that belongs to an event loop, and to none in a forked child."""

    def lose_loop(self) -> None:
        """Forget the loop: this process is a forked child of the one that used it."""
        ...


_owners: weakref.WeakSet[LosesLoop] = weakref.WeakSet()


def lose_loop_at_fork(owner: LosesLoop) -> None:
    """Call `owner.lose_loop()` in every forked child, while `owner` lives.

    A child has neither the parent's connections nor its threads, yet may run a copy of its event loop: an
    RPC awaited there would never end.
    """
    _owners.add(owner)


def _in_child() -> None:
    for owner in tuple(_owners):
        owner.lose_loop()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
