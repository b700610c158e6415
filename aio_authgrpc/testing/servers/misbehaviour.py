"""Orders to misbehave: gates that hold requests, and scripts of faults for a number of requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

_T = TypeVar("_T")

# Matches every place.
ANYWHERE = "*"


class Gate:
    """Hold arriving requests until the release. As a context manager it is released at the end of the block.

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
        """The number of requests that are held now."""
        return self._waiting

    @property
    def released(self) -> bool:
        """Whether `release()` has been called. Later requests pass."""
        return self._released.is_set()

    def release(self) -> None:
        """Let all requests pass, now and from now on."""
        self._released.set()

    async def wait_for(self, count: int) -> None:
        """Wait until `count` requests are held at the same time."""
        while self._waiting < count:
            self._changed.clear()
            await self._changed.wait()

    async def pass_through(self) -> None:
        """Wait for the release. Called by the server."""
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
    """A list of orders, each for a number of requests to one place, taken in their order."""

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
        """Return the order for the next request to `where`, and count it; None without an order."""
        return next((line.use() for line in self._lines if line.meets(where)), None)

    def take_all(self, where: str) -> list[_T]:
        """Return all orders for the next request to `where`, and count each."""
        return [line.use() for line in self._lines if line.meets(where)]

    def clear(self) -> None:
        """Forget every order."""
        self._lines.clear()
