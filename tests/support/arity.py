"""The four arities of gRPC's methods, as a test parameter."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from aio_authgrpc.testing import EchoStub


@dataclass(frozen=True, kw_only=True)
class Arity:
    """How a call of one arity is begun and finished: each auth behaviour is tested over all four.

    Attributes:
        method: The echo server's method, such as "UnaryStream".
        request_is_stream: Whether the client sends a stream.
        response_is_stream: Whether the server sends a stream.
        responses: What the echo server answers to `begin()`.
    """

    method: str
    request_is_stream: bool
    response_is_stream: bool
    responses: list[bytes] = field(hash=False)

    # Any: types-grpcio gives the four kinds of call no common base class, and tests use what each one has.
    def begin(self, stub: EchoStub, **arguments: Any) -> Any:
        """Call the stub with b"x", or with a stream of two of it."""
        requests: bytes | Iterator[bytes] = iter([b"x", b"x"]) if self.request_is_stream else b"x"
        return getattr(stub, self.method)(requests, **arguments)

    async def finish(self, call: AsyncIterable[bytes] | Awaitable[bytes]) -> list[bytes]:
        """Return all responses."""
        if self.response_is_stream:
            return [message async for message in cast("AsyncIterable[bytes]", call)]
        return [await cast("Awaitable[bytes]", call)]


ARITIES = (
    Arity(method="UnaryUnary", request_is_stream=False, response_is_stream=False, responses=[b"x"]),
    Arity(method="UnaryStream", request_is_stream=False, response_is_stream=True, responses=[b"x"] * 3),
    Arity(method="StreamUnary", request_is_stream=True, response_is_stream=False, responses=[b"xx"]),
    Arity(method="StreamStream", request_is_stream=True, response_is_stream=True, responses=[b"x"] * 2),
)
REPLAYABLE = tuple(arity for arity in ARITIES if not arity.request_is_stream)
NOT_REPLAYABLE = tuple(arity for arity in ARITIES if arity.request_is_stream)
