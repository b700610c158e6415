"""A gRPC server of all four arities that echoes messages and records its calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import grpc.aio

from aio_authgrpc.testing.servers.grpc_server import LoopbackGrpcServer
from aio_authgrpc.testing.servers.misbehaviour import ANYWHERE, Gate, Script

SERVICE = "aio_authgrpc.testing.Echo"

_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class EchoStub:
    """Call an `EchoServer`. Messages are plain bytes.

    Args:
        channel: Any `grpc.aio` channel.

    Attributes:
        UnaryUnary: Answers the request.
        UnaryStream: Answers the request several times.
        StreamUnary: Answers all requests, joined.
        StreamStream: Answers each request at once.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.UnaryUnary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/{SERVICE}/UnaryUnary"
        )
        self.UnaryStream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
            f"/{SERVICE}/UnaryStream"
        )
        self.StreamUnary: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(
            f"/{SERVICE}/StreamUnary"
        )
        self.StreamStream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            f"/{SERVICE}/StreamStream"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """A call that the server received. The metadata is not in its `repr`, because it may hold a token.

    Attributes:
        method: The method's name, such as "UnaryUnary".
        metadata: The client's metadata, in order, gRPC's own keys included.
        time_remaining: The seconds left until the deadline on arrival; None without a deadline.
        peer: The address of the client's connection, as gRPC writes it. Each connection has another port.
        client_names: The alternative names in the client's certificate; empty without mutual TLS.
    """

    method: str
    metadata: tuple[tuple[str, str | bytes], ...] = field(repr=False)
    time_remaining: float | None
    peer: str
    client_names: tuple[str, ...] = ()

    def values(self, key: str) -> tuple[str | bytes, ...]:
        """Return every value under `key`, a lower-case name."""
        return tuple(value for name, value in self.metadata if name == key)


@dataclass(frozen=True, slots=True)
class _Refusal:
    code: grpc.StatusCode
    details: str
    after_messages: int
    drain: bool
    trailing: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    async def meet(
        self, messages: int, context: _Context, requests: AsyncIterator[bytes] | None = None
    ) -> None:
        """Abort the call once `messages` is the ordered number of messages."""
        if messages != self.after_messages:
            return
        if self.drain and requests is not None:
            async for _ in requests:
                pass
        await context.abort(self.code, self.details, self.trailing)


class _NoRefusal:
    after_messages = 0

    async def meet(
        self, messages: int, context: _Context, requests: AsyncIterator[bytes] | None = None
    ) -> None:
        pass


class EchoServer(LoopbackGrpcServer):
    """Echo bytes over all four arities on 127.0.0.1, record every call, and refuse or hold calls on demand.

    An order to refuse or hold concerns the next `times` calls (None: until `behave()`) of one method, such
    as "UnaryStream", or of any ("*"). Calls are held before they are refused.

    Args:
        repeat: The number of messages in an answer of UnaryStream.
        tls: As for `LoopbackGrpcServer`.
        mutual_tls: As for `LoopbackGrpcServer`.

    Attributes:
        calls: Every call received, in order, refused ones included.
    """

    def __init__(self, *, repeat: int = 3, tls: bool = True, mutual_tls: bool = False) -> None:
        super().__init__(tls=tls, mutual_tls=mutual_tls)
        self.calls: list[RecordedCall] = []
        self._repeat = repeat
        self._gates: list[Gate] = []
        self._waits: Script[Callable[[], Awaitable[None]]] = Script()
        self._refusals: Script[_Refusal] = Script()

    def refuse(
        self,
        code: grpc.StatusCode = grpc.StatusCode.UNAUTHENTICATED,
        details: str = "the test ordered a refusal",
        *,
        times: int | None = 1,
        method: str = ANYWHERE,
        after_messages: int = 0,
        drain: bool = True,
        trailing: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """End calls with a status other than OK.

        Args:
            code: The status code.
            details: The status's text.
            times: The number of calls; None means until `behave()`.
            method: The method of the calls; "*" means any.
            after_messages: How many messages the server sends first, or, in StreamUnary, reads first.
                UnaryUnary refuses at once. A call with fewer messages is refused at its end.
            drain: Whether a request stream is read to its end before it is refused. False refuses at once;
                a grpc.aio client that is still writing then reports INTERNAL in place of `code` every
                other time (https://github.com/grpc/grpc/issues/36066).
            trailing: The trailing metadata, such as `www-authenticate`.
        """
        refusal = _Refusal(code, details, after_messages, drain, trailing)
        self._refusals.add(refusal, times=times, where=method)

    def hold(self, *, times: int | None = None, method: str = ANYWHERE) -> Gate:
        """Hold calls at a gate until it is released, before anything is read or sent. Closing releases it."""
        gate = Gate()
        self._gates.append(gate)
        self._waits.add(gate.pass_through, times=times, where=method)
        return gate

    def behave(self) -> None:
        """Forget the remaining orders, and release every gate."""
        self._waits.clear()
        self._refusals.clear()
        while self._gates:
            self._gates.pop().release()

    def _register(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self._unary_unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self._unary_stream),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self._stream_unary),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self._stream_stream),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def _close(self) -> None:
        self.behave()
        await super()._close()

    async def _unary_unary(self, request: bytes, context: _Context) -> bytes:
        refusal = await self._receive("UnaryUnary", context)
        await refusal.meet(refusal.after_messages, context)
        return request

    async def _unary_stream(self, request: bytes, context: _Context) -> AsyncIterator[bytes]:
        refusal = await self._receive("UnaryStream", context)
        for sent in range(self._repeat):
            await refusal.meet(sent, context)
            yield request
        await refusal.meet(refusal.after_messages, context)

    async def _stream_unary(self, requests: AsyncIterator[bytes], context: _Context) -> bytes:
        refusal = await self._receive("StreamUnary", context)
        await refusal.meet(0, context, requests)
        received: list[bytes] = []
        async for request in requests:
            received.append(request)
            await refusal.meet(len(received), context, requests)
        await refusal.meet(refusal.after_messages, context)
        return b"".join(received)

    async def _stream_stream(self, requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        refusal = await self._receive("StreamStream", context)
        await refusal.meet(0, context, requests)
        sent = 0
        async for request in requests:
            yield request
            sent += 1
            await refusal.meet(sent, context, requests)
        await refusal.meet(refusal.after_messages, context)

    async def _receive(self, method: str, context: _Context) -> _Refusal | _NoRefusal:
        metadata = tuple((key, value) for key, value in context.invocation_metadata() or ())
        self.calls.append(
            RecordedCall(
                method=method,
                metadata=metadata,
                time_remaining=context.time_remaining(),
                peer=context.peer(),
                client_names=tuple(name.decode() for name in context.peer_identities() or ()),
            )
        )
        for wait in self._waits.take_all(method):
            await wait()
        return self._refusals.take(method) or _NoRefusal()
