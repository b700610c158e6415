"""How a fake server is told to do wrong: to wait, or to answer badly, so often or until further notice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

_T = TypeVar("_T")

# The place that stands for all of them.
ANYWHERE = "*"


class Gate:
    """Hold whoever arrives until it is released. As a context manager it is released at the end of the block.

    Attributes:
        arrived: Set when the first request has arrived; wait for it instead of sleeping.
    """

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self._released = asyncio.Event()
        self._changed = asyncio.Event()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many are held now."""
        return self._waiting

    @property
    def released(self) -> bool:
        """Whether `release()` has been called; whoever arrives then passes."""
        return self._released.is_set()

    def release(self) -> None:
        """Let everybody pass, now and from now on."""
        self._released.set()

    async def wait_for(self, count: int) -> None:
        """Wait until `count` are held at the same time."""
        while self._waiting < count:
            self._changed.clear()
            await self._changed.wait()

    async def pass_through(self) -> None:
        """Wait for the release. For the server's side."""
        self._waiting += 1
        self.arrived.set()
        self._changed.set()
        try:
            await self._released.wait()
        finally:
            self._waiting -= 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


@dataclass(slots=True)
class _Line(Generic[_T]):
    item: _T
    where: str
    left: int | None

    def meets(self, where: str) -> bool:
        return self.where in (ANYWHERE, where) and self.left != 0

    def use(self) -> _T:
        if self.left is not None:
            self.left -= 1
        return self.item


class Script(Generic[_T]):
    """Keep what was ordered, for how many requests and where, and hand it out in the order it was ordered."""

    def __init__(self) -> None:
        self._lines: list[_Line[_T]] = []

    def add(self, item: _T, *, times: int | None, where: str) -> None:
        """Order `item` for the next `times` requests (None: for all) to `where`.

        Raises:
            ValueError: `times` is below one.
        """
        if times is not None and times < 1:
            raise ValueError(f"times must be 1 or more, or None for every request, not {times}")
        self._lines.append(_Line(item, where, times))

    def take(self, where: str) -> _T | None:
        """Return what the next request to `where` gets, and count it; None when nothing is ordered."""
        return next((line.use() for line in self._lines if line.meets(where)), None)

    def take_all(self, where: str) -> list[_T]:
        """Return everything that is ordered for the next request to `where`, and count each."""
        return [line.use() for line in self._lines if line.meets(where)]

    def clear(self) -> None:
        """Forget every order."""
        self._lines.clear()
