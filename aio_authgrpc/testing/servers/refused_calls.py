"""The end of a call that a test ordered to be refused: at once, or after some messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import grpc
import grpc.aio

# Messages are of any type: they are the user's.
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# Seconds. A client that has sent nothing for so long waits for the server: a stream that stays open would
# never be refused otherwise. A client that sends is not cut off, however long it sends.
_QUIET = 0.1


@dataclass(frozen=True, slots=True)
class Refusal:
    """An order of `OrderedCalls.refuse()`, which documents its fields."""

    code: grpc.StatusCode
    details: str
    after_messages: int
    drain: bool
    trailing: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class RefusedCall:
    """Stands for the context of a call, and for its stream of requests, and refuses it in time.

    A service answers by yielding messages or with `context.write()`, and reads requests with `async for` or
    with `context.read()`.

    Args:
        refusal: The order.
        context: The call's own context.
        requests: The stream of requests, if there is one.
        counts_answers: Whether the messages that count are those of the service, or the requests.
    """

    def __init__(
        self,
        refusal: Refusal,
        context: _Context,
        requests: AsyncIterable[Any] | None,
        *,
        counts_answers: bool,
    ) -> None:
        self._refusal = refusal
        self._context = context
        self._requests = requests
        # A service may read in one task and write in another, and the requests are drained in between.
        self._turn = asyncio.Lock()
        self._counts_answers = counts_answers
        self._messages = 0

    async def begin(self) -> None:
        """Refuse the call if it may have no message."""
        if self._refusal.after_messages == 0:
            await self.end()

    async def answered(self) -> None:
        """Count a message of the service, and refuse the call after the last."""
        await self._count(is_answer=True)

    async def end(self) -> None:
        """Refuse the call. Raises grpc's exception, which ends the service's part."""
        if self._refusal.drain and self._requests is not None:
            with contextlib.suppress(TimeoutError):
                while await asyncio.wait_for(self._next(), _QUIET) is not grpc.aio.EOF:
                    pass
        await self._context.abort(self._refusal.code, self._refusal.details, self._refusal.trailing)

    # What the service sees

    async def write(self, message: object) -> None:
        """Send a message."""
        await self._context.write(message)
        await self.answered()

    async def read(self) -> object:
        """Return the next request, or grpc's EOF."""
        message = await self._context.read()
        if message is not grpc.aio.EOF:
            await self._count(is_answer=False)
        return message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        message = await self._next()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        await self._count(is_answer=False)
        return message

    def __getattr__(self, name: str) -> Any:
        """Return the rest of the context."""
        return getattr(self._context, name)

    async def _next(self) -> object:
        assert self._requests is not None, "there is a stream"
        async with self._turn:
            # grpc's iterator is the same each time. Made without being used, it warns.
            return await anext(aiter(self._requests), grpc.aio.EOF)

    async def _count(self, *, is_answer: bool) -> None:
        if is_answer is self._counts_answers:
            self._messages += 1
            if self._messages == self._refusal.after_messages:
                await self.end()
