"""The channel of one event loop, of a `LazyChannel`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from time import monotonic
from typing import Any

import grpc.aio

from aio_authgrpc._calls.channel import AuthorizedChannel
from aio_authgrpc._channels.interceptors import Engine, EngineMethod, start_call
from aio_authgrpc._loop.single_flight import SingleFlight
from aio_authgrpc.errors import (
    AuthGrpcError,
    AuthRpcError,
    ChannelClosedError,
    ChannelNotOpenedError,
    TokenDeadlineExceededError,
)

Make = Callable[[grpc.aio.Channel], Any]
"""Asks a channel for a method."""


class LoopChannel:
    """The channel of one event loop: to be opened, open, or closed with the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        opening: Callable[[], Awaitable[AuthorizedChannel]],
        grace: float | None,
    ) -> None:
        self.loop = loop
        self.channel: AuthorizedChannel | None = None
        self._opening = opening
        self._grace = grace
        self._flight = SingleFlight(self._open, _closed_meanwhile)
        self._until_loop_ends: AsyncGenerator[AuthorizedChannel] | None = None
        self._engine = Engine()
        self._closed = False

    def begin(
        self,
        arity: str,
        make: Make,
        method: Callable[[AuthorizedChannel], Any],
        request: Any = None,
        timeout: float | None = None,
        **arguments: Any,
    ) -> Any:
        """Begin a call of a channel that is not open yet, and its opening."""
        deadline = None if timeout is None else monotonic() + timeout

        async def start(details: Any, request: Any) -> Any:
            channel = await self.opened(_remaining(deadline))
            return start_call(method(channel), details, request, _remaining(deadline))

        self.start()
        asked = EngineMethod(arity, make)
        return self._engine.begin(asked, (), start, request, timeout=timeout, **arguments)

    def start(self) -> None:
        """Open the channel in the background, if it is not open."""
        if self.channel is None and not self._closed:
            self._flight.start()

    async def opened(self, seconds: float | None) -> AuthorizedChannel:
        """Return the channel, waiting `seconds` at most for the opening.

        Raises:
            ChannelNotOpenedError, TokenDeadlineExceededError, ChannelClosedError: There is none.
        """
        if self.channel is not None:
            return self.channel
        try:
            async with asyncio.timeout(seconds):
                outcome = _closed_meanwhile() if self._closed else await self._flight.join()
        except TimeoutError:
            raise TokenDeadlineExceededError(
                "The call's time ran out while its channel was opened.",
                hint="Reading credentials and certificates took longer than the call's timeout; raise it.",
            ) from None
        if isinstance(outcome, AuthorizedChannel):
            return outcome
        if isinstance(outcome, AuthRpcError):
            raise outcome.copy()
        text, hint = type(outcome).__name__, ""
        if isinstance(outcome, AuthGrpcError):
            text, hint = str(outcome).removesuffix(f" {outcome.hint}"), outcome.hint
        raise ChannelNotOpenedError(f"The channel could not be opened: {text}", hint=hint) from outcome

    async def _open(self) -> AuthorizedChannel | Exception:
        # An asynchronous generator is closed by its loop's shutdown_asyncgens(), which asyncio.run calls.
        generator = self._channel_until_loop_ends()
        try:
            self.channel = await anext(generator)
        except Exception as error:  # noqa: BLE001 - a user's function for certificates raises anything
            return error
        self._until_loop_ends = generator
        return self.channel

    async def _channel_until_loop_ends(self) -> AsyncGenerator[AuthorizedChannel]:
        channel = await self._opening()
        try:
            yield channel
        finally:
            self.channel = None
            try:
                await self._engine.close()
            finally:
                await channel.close(self._grace)

    async def close(self, grace: float | None) -> None:
        """Close the channel, or stop its opening; cancelling it ends the grace, and closes all the same."""
        self._closed = True
        opening = self._flight.cancel()
        try:
            if opening is not None:
                await asyncio.wait({opening})
            if self.channel is not None:
                await self.channel.close(grace)
        finally:
            if self._until_loop_ends is not None:
                await self._until_loop_ends.aclose()
            else:
                await self._engine.close()


def _closed_meanwhile() -> ChannelClosedError:
    return ChannelClosedError(
        "The channel was closed while it was opened.", hint="The next call opens it again."
    )


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())
