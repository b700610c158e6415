"""Opening once and closing once, for servers and proxies."""

from __future__ import annotations

import enum
import warnings
from types import TracebackType
from typing import Self

import anyio

# Closing cancels the open requests, which takes milliseconds; the bound is for a handler that ignores
# cancellation.
_CLOSE_TIMEOUT = 5.0


class _State(enum.Enum):
    NEW = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class Lifecycle:
    """Give a subclass `async with` and `aclose()`, made from its `_open()` and `_close()`.

    An object can be opened once. An open object that is garbage-collected warns with `ResourceWarning`.
    """

    # A class attribute: `__del__` needs it even if a subclass's constructor raised.
    _state = _State.NEW

    async def __aenter__(self) -> Self:
        """Start listening, on the running loop.

        Raises:
            RuntimeError: It has been opened before.
        """
        if self._state is not _State.NEW:
            raise RuntimeError(f"{type(self).__name__} can be opened once: make another one")
        self._state = _State.OPEN
        try:
            await self._open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening and end open requests. Idempotent; bounded in time."""
        opened = self._state is _State.OPEN
        # Before the first await: a concurrent aclose() must see it closed.
        self._state = _State.CLOSED
        if opened:
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await self._close()

    @property
    def closed(self) -> bool:
        """Whether `aclose()` has been called."""
        return self._state is _State.CLOSED

    async def _open(self) -> None:
        raise NotImplementedError

    async def _close(self) -> None:
        """Undo `_open()`, also after it failed halfway."""
        raise NotImplementedError

    def _not_open(self) -> RuntimeError:
        return RuntimeError(
            f"{type(self).__name__} is not open: use it as `async with {type(self).__name__}(...)`"
        )

    def __del__(self) -> None:
        if self._state is _State.OPEN:
            warnings.warn(
                f"{type(self).__name__} was never closed", ResourceWarning, stacklevel=2, source=self
            )
