"""What a call answers when it is asked for its status or its metadata, in whatever state it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from aio_authgrpc._calls.call import AuthorizedCall
from aio_authgrpc._calls.call_status import raise_end, status_of

T = TypeVar("T")


class AnsweringCall(AuthorizedCall):
    """A call that answers once its real call does; a question changes nothing, and sends nothing."""

    _ends_with_connection_wait = True  # with one request, as in grpc.aio

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return await self._ask(lambda call: call.initial_metadata(), lambda _: grpc.aio.Metadata())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return await self._ask(lambda call: call.trailing_metadata(), lambda _: grpc.aio.Metadata())

    async def code(self) -> grpc.StatusCode:
        return await self._ask(lambda call: call.code(), lambda end: status_of(end)[0])

    async def details(self) -> str:
        return await self._ask(lambda call: call.details(), lambda end: status_of(end)[1])

    async def debug_error_string(self) -> str:
        """What grpc.aio's calls have beside their public interface; empty where no RPC was made."""
        return await self._ask(lambda call: call.debug_error_string(), lambda _: "")

    async def wait_for_connection(self) -> None:
        """See `grpc.aio.Call.wait_for_connection`. With one request, to cancel it cancels the RPC, too."""
        try:
            await self._ask(lambda call: call.wait_for_connection(), raise_end)
        except asyncio.CancelledError:
            if self._ends_with_connection_wait:
                self.cancel()
            raise

    async def _ask(
        self, question: Callable[[Any], Awaitable[T]], without_call: Callable[[BaseException], T]
    ) -> T:
        """Ask the real call, and the next one where that one is sent again."""
        while True:
            call = await self._started()
            if self._end is not None:
                return without_call(self._end)
            try:
                answer = await question(call)
            except grpc.aio.AioRpcError:
                if await self._stands(call):
                    raise
            else:
                if not call.done():
                    self._may_replay = False  # the response headers came, and a caller has been told
                if await self._stands(call):
                    return answer

    async def _stands(self, call: Any) -> bool:
        """Wait until it is decided whether a real call's end is this call's; return whether it is."""
        while self._call is call and call.done() and not self._finished:
            await self._next_change()
        return self._call is call
