"""One RPC of any arity: messages from JSON are sent, and answers handed out as they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from aio_authgrpc.cli.call.messages import as_message, message_class
from aio_authgrpc.cli.call.schema import Schema
from aio_authgrpc.errors import ConfigurationError

Metadata = tuple[tuple[str, str], ...]


class Rpc:
    """One RPC.

    Args:
        channel: Leads to the server.
        schema: Knows the method's messages.
        method: The method.
        metadata: The metadata to send.
        timeout: Seconds for the RPC; None for any number.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        schema: Schema,
        method: MethodDescriptor,
        *,
        metadata: Metadata,
        timeout: float | None,
    ) -> None:
        self._schema = schema
        self._method = method
        arity = f"{_word(method.client_streaming)}_{_word(method.server_streaming)}"
        make: Callable[..., Callable[..., Any]] = getattr(channel, arity)
        self._start = make(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=message_class(method.input_type).SerializeToString,
            response_deserializer=message_class(method.output_type).FromString,
        )
        self._arguments = {"metadata": metadata, "timeout": timeout}
        self.call: Any = None

    async def answers(self, values: AsyncIterator[object]) -> AsyncGenerator[Message]:
        """Send the messages of JSON values, and yield the answers.

        Raises:
            ConfigurationError: A value does not fit.
            grpc.aio.AioRpcError: The RPC ended with another status than OK.
        """
        if not self._method.client_streaming:
            self.call = self._start(await self._only(values), **self._arguments)
            async with aclosing(self._received()) as received:
                async for answer in received:
                    yield answer
            return
        self.call = self._start(**self._arguments)
        sending = asyncio.create_task(self._send(values), name="requests")
        try:
            async with aclosing(self._received()) as received:
                async for answer in received:
                    yield answer
        except asyncio.CancelledError:
            # The sender cancels the call where its input is wrong; any other cancellation is the user's.
            if sending.done() and not sending.cancelled() and (error := sending.exception()) is not None:
                raise error from None
            raise
        finally:
            sending.cancel()
            await asyncio.wait({sending})

    async def _received(self) -> AsyncGenerator[Message]:
        if self._method.server_streaming:
            async for answer in self.call:
                yield answer
        else:
            yield await self.call

    async def _send(self, values: AsyncIterator[object]) -> None:
        try:
            async for value in values:
                await self.call.write(self._message(value))
            await self.call.done_writing()
        except ConfigurationError:
            self.call.cancel()
            raise
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the RPC has ended; who reads is told how

    async def _only(self, values: AsyncIterator[object]) -> Message:
        """Return the one request; an empty one where nothing was given."""
        requests = [value async for value in values]
        if len(requests) > 1:
            raise ConfigurationError(
                f"{self._method.name} takes one message, and {len(requests)} were given.", field="--data"
            )
        return self._message(requests[0] if requests else {})

    def _message(self, value: object) -> Message:
        return as_message(value, self._method.input_type, self._schema.pool)

    async def metadata(self) -> tuple[Any, Any]:
        """Return the server's initial and trailing metadata, once the RPC has ended."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            return await self.call.initial_metadata() or (), await self.call.trailing_metadata() or ()
        return (), ()


def _word(streams: bool) -> str:
    return "stream" if streams else "unary"
