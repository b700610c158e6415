"""Waiting for a connection before a call is begun on it."""

from __future__ import annotations

import asyncio
from typing import Protocol

import grpc

from aio_authgrpc.errors import TokenDeadlineExceededError


class ReplaceableConnection(Protocol):
    """A connection that may be another one by the time that it is ready."""

    def get_state(self) -> grpc.ChannelConnectivity: ...

    async def wait_until_ready(self) -> None: ...


async def wait_until_ready(connection: ReplaceableConnection, seconds: float | None) -> None:
    """Wait for a connection that may be replaced; gRPC would bind the call to the one of this moment.

    Raises:
        TokenDeadlineExceededError: `seconds` were over first.
    """
    try:
        async with asyncio.timeout(seconds):
            await connection.wait_until_ready()
    except TimeoutError:
        raise TokenDeadlineExceededError(
            f"The call's time ran out: for {seconds:.3g} s it waited for its connection.",
            hint="A call without wait_for_ready, or connect(ready_timeout=...), says what is in the way.",
        ) from None
