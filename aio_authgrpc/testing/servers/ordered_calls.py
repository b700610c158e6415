"""The calls of a gRPC server: recorded, and held, late or refused as a test orders."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
import grpc.aio

from aio_authgrpc.testing.servers.misbehaviour import ANYWHERE, Gate, Script
from aio_authgrpc.testing.servers.refused_calls import Refusal, RefusedCall
from aio_authgrpc.tokens import Clock, SystemClock

# Messages are of any type: they are the user's.
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Receive: TypeAlias = "Callable[[str, _Context], Awaitable[Refusal | None]]"


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


class OrderedCalls:
    """Record the calls of a server, and hold, delay or refuse them on demand.

    An order concerns the next `times` calls (None: until `behave()`) of one method, such as "GetShelf", or of
    any ("*"). A call first passes all its waits, so that a refusal can be ordered while it is held.

    Args:
        clock: Times `delay()`; None means the machine's clock.

    Attributes:
        recorded: Every call that reached the service, in order, calls that the test refuses included.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.recorded: list[RecordedCall] = []
        self._clock: Clock = SystemClock() if clock is None else clock
        self._gates: list[Gate] = []
        self._waits: Script[Callable[[], Awaitable[None]]] = Script()
        self._refusals: Script[Refusal] = Script()

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
            after_messages: How many messages the server sends first, or, if it answers with a single
                message, reads of the request stream first. A method without streams is refused at once. A
                call with fewer messages is refused at its end.
            drain: Whether a request stream is read before it is refused: to its end, or until the client has
                sent nothing for 0.1 s. False refuses at once; a grpc.aio client that is still writing then
                reports INTERNAL in place of `code` every other time
                (https://github.com/grpc/grpc/issues/36066).
            trailing: The trailing metadata, such as `www-authenticate`.
        """
        refusal = Refusal(code, details, after_messages, drain, trailing)
        self._refusals.add(refusal, times=times, where=method)

    def hold(self, *, times: int | None = None, method: str = ANYWHERE) -> Gate:
        """Hold calls at a gate until it is released, before anything is read or sent. Closing releases it."""
        gate = Gate()
        self._gates.append(gate)
        self._waits.add(gate.pass_through, times=times, where=method)
        return gate

    def delay(self, seconds: float, *, times: int | None = None, method: str = ANYWHERE) -> None:
        """Serve calls after `seconds` of the server's clock."""
        self._waits.add(functools.partial(self._clock.sleep, seconds), times=times, where=method)

    def behave(self) -> None:
        """Forget the remaining orders, and release every gate."""
        self._waits.clear()
        self._refusals.clear()
        while self._gates:
            self._gates.pop().release()

    async def _receive(self, method: str, context: _Context) -> Refusal | None:
        """Record a call and let it wait; return its refusal."""
        call = RecordedCall(
            method=method,
            metadata=tuple((key, value) for key, value in context.invocation_metadata() or ()),
            time_remaining=context.time_remaining(),
            peer=context.peer(),
            client_names=tuple(name.decode() for name in context.peer_identities() or ()),
        )
        self.recorded.append(call)
        for wait in self._waits.take_all(method):
            await wait()
        return self._refusals.take(method)


class FollowOrders(grpc.aio.ServerInterceptor):
    """Put the orders between the calls and the service.

    Args:
        receive: Is told of each call, as its first step; returns its refusal.
    """

    def __init__(self, receive: _Receive) -> None:
        self._receive = receive

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the method's handler, or None if there is no such method. Called by the server."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        kind = ("stream_" if handler.request_streaming else "unary_") + (
            "stream" if handler.response_streaming else "unary"
        )
        method = _Method(
            name=handler_call_details.method.rpartition("/")[2],
            behaviour=getattr(handler, kind),
            reads_stream=handler.request_streaming,
            sends_stream=handler.response_streaming,
            receive=self._receive,
        )
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(  # type: ignore[no-any-return]  # one of grpc's four functions
            method.ordered(),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    """A method of the service, with the orders before it."""

    name: str
    behaviour: Any
    reads_stream: bool
    sends_stream: bool
    receive: _Receive

    def ordered(self) -> Any:
        """Return a behaviour of the kind of the service's: grpc tells generators and coroutines apart."""
        if inspect.isasyncgenfunction(self.behaviour):
            return self._yield
        return self._answer if inspect.iscoroutinefunction(self.behaviour) else self._refuse

    async def _yield(self, request: Any, context: _Context) -> AsyncIterator[Any]:
        refused = await self._refused(request, context)
        requests = request if refused is None or not self.reads_stream else refused
        async with contextlib.aclosing(self.behaviour(requests, context)) as messages:
            async for message in messages:
                yield message
                if refused is not None:
                    await refused.answered()
        if refused is not None:
            await refused.end()

    async def _answer(self, request: Any, context: _Context) -> Any:
        refused = await self._refused(request, context)
        if refused is None:
            return await self.behaviour(request, context)
        if self.reads_stream or self.sends_stream:
            await self.behaviour(refused if self.reads_stream else request, refused)
        return await refused.end()

    async def _refused(self, request: Any, context: _Context) -> RefusedCall | None:
        refusal = await self.receive(self.name, context)
        if refusal is None:
            return None
        requests = request if self.reads_stream else None
        call = RefusedCall(refusal, context, requests, counts_answers=self.sends_stream)
        await call.begin()
        return call

    async def _refuse(self, _: Any, context: _Context) -> None:
        details = f"{self.name} is not there as a coroutine: write it with `async def`."
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, details)
