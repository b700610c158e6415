"""A gRPC server of all four arities that echoes messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

import grpc
import grpc.aio

from aio_authgrpc.testing.servers.grpc_server import LoopbackGrpcServer
from aio_authgrpc.testing.servers.ordered_calls import RecordedCall
from aio_authgrpc.tokens import Clock

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


class EchoServer(LoopbackGrpcServer):
    """Echo bytes over all four arities on 127.0.0.1, and record, refuse, hold or delay calls on demand.

    The methods are those of `EchoStub`.

    Args:
        repeat: The number of messages in an answer of UnaryStream.
        tls: As for `LoopbackGrpcServer`.
        mutual_tls: As for `LoopbackGrpcServer`.
        options: As for `LoopbackGrpcServer`.
        clock: As for `LoopbackGrpcServer`.
    """

    def __init__(
        self,
        *,
        repeat: int = 3,
        tls: bool = True,
        mutual_tls: bool = False,
        options: Sequence[tuple[str, object]] = (),
        clock: Clock | None = None,
    ) -> None:
        super().__init__(tls=tls, mutual_tls=mutual_tls, options=options, clock=clock)
        self._repeat = repeat

    @property
    def calls(self) -> list[RecordedCall]:
        """Every call received, in order: the same as `recorded`."""
        return self.recorded

    def _register(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self._unary_unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self._unary_stream),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self._stream_unary),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self._stream_stream),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def _unary_unary(self, request: bytes, _: _Context) -> bytes:
        return request

    async def _unary_stream(self, request: bytes, _: _Context) -> AsyncIterator[bytes]:
        for _sent in range(self._repeat):
            yield request

    async def _stream_unary(self, requests: AsyncIterator[bytes], _: _Context) -> bytes:
        return b"".join([request async for request in requests])

    async def _stream_stream(self, requests: AsyncIterator[bytes], _: _Context) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
