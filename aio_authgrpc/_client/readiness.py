"""Waiting until a channel has its token and its connection, with an error that says what is missing."""

from __future__ import annotations

import asyncio
from typing import Any

from aio_authgrpc._calls.channel import AuthorizedChannel
from aio_authgrpc._channels.connection_hints import connection_hint
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.errors import ConnectionNotReadyError, TokenDeadlineExceededError

_CHECK = "Check that the server runs, its address and its certificate."


async def make_ready(channel: AuthorizedChannel, address: str, timeout: float) -> None:
    """Fetch the token and connect at the same time.

    Raises:
        TokenUnavailableError, TokenRefusedError: The token could not be fetched.
        TokenDeadlineExceededError: The token did not come in `timeout` seconds.
        ConnectionNotReadyError: The server was not reached in that time; the details say why.
    """
    token = asyncio.create_task(channel.auth.get(), name="aio_authgrpc ready: token")
    connected = asyncio.create_task(channel.channel_ready(), name="aio_authgrpc ready: connection")
    tasks: set[asyncio.Task[Any]] = {token, connected}
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
        if token.done():
            token.result()
        reached = "was reached" if connected.done() else "was not reached either"
        if not token.done():
            raise TokenDeadlineExceededError(
                f"No access token came within ready_timeout={timeout:g} s; {address} {reached}.",
                hint="The token endpoint is slow, or cannot be reached from here.",
            )
        if not connected.done():
            raise await _not_ready(channel, address, timeout)
        connected.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _not_ready(channel: AuthorizedChannel, address: str, timeout: float) -> ConnectionNotReadyError:
    text = f"{address} was not reached within ready_timeout={timeout:g} s; the token was fetched."
    failure = await channel.connection_failure()
    reason = redacted((failure.details() or "") if failure is not None else "")
    hint = connection_hint(reason) or _CHECK
    error = ConnectionNotReadyError(text + (f" gRPC says: {reason}" if reason else ""), hint=hint)
    error.__cause__ = failure
    return error
