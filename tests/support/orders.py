"""A service of a test's own, in the two ways that grpc.aio knows: yielding answers, and writing them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import grpc.aio

from aio_authgrpc.testing import endpoint_user_info

from .orders_pb2 import Order, Receipt
from .orders_pb2_grpc import OrdersServicer, OrdersStub


class YieldingOrders(OrdersServicer):
    """Takes orders, and knows its callers."""

    def __init__(self) -> None:
        self.callers: list[object] = []
        self.taken: list[str] = []

    async def Place(self, request: Order, context: Any) -> Receipt:
        return self._receipt(request)

    async def Follow(self, request: Receipt, context: Any) -> AsyncIterator[Receipt]:
        for number in range(3):
            yield Receipt(number=number)
        self._note_caller()

    async def PlaceMany(self, request_iterator: AsyncIterator[Order], context: Any) -> Receipt:
        orders = [order async for order in request_iterator]
        return self._receipt(*orders)

    async def Talk(self, request_iterator: AsyncIterator[Order], context: Any) -> AsyncIterator[Receipt]:
        async for order in request_iterator:
            yield self._receipt(order)

    def _receipt(self, *orders: Order) -> Receipt:
        self._note_caller()
        self.taken += [order.item for order in orders]
        return Receipt(number=len(self.taken), items=[order.item for order in orders])

    def _note_caller(self) -> None:
        self.callers.append((endpoint_user_info() or {}).get("email"))


class WritingOrders(YieldingOrders):
    """The same, by `context.read()` and `context.write()`; Talk reads in one task and writes in another."""

    async def Follow(self, request: Receipt, context: Any) -> None:  # type: ignore[override]  # grpc takes both
        for number in range(3):
            await context.write(Receipt(number=number))
        self._note_caller()

    async def PlaceMany(self, request_iterator: AsyncIterator[Order], context: Any) -> Receipt:
        orders: list[Order] = []
        while (order := await context.read()) is not grpc.aio.EOF:
            orders.append(order)
        return self._receipt(*orders)

    async def Talk(self, request_iterator: AsyncIterator[Order], context: Any) -> None:  # type: ignore[override]  # grpc takes both
        orders: asyncio.Queue[Order | None] = asyncio.Queue()

        async def read() -> None:
            async for order in request_iterator:
                orders.put_nowait(order)
            orders.put_nowait(None)

        reading = asyncio.create_task(read())
        try:
            while (order := await orders.get()) is not None:
                await context.write(self._receipt(order))
        finally:
            reading.cancel()


class WaitingOrders:
    """The same without coroutines, as for a server with threads."""

    def Place(self, request: Order, context: Any) -> Receipt:
        return Receipt(number=1)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method of the service, and what it answers to two orders, or one.

    Attributes:
        name: Its name.
        answers: How many messages it answers.
    """

    name: str
    answers: int

    def begin(self, orders: OrdersStub, **arguments: Any) -> Any:
        """Begin a call; a stream of requests is still empty, and open."""
        single = {"Place": (Order(item="tea"),), "Follow": (Receipt(number=1),)}
        return getattr(orders, self.name)(*single.get(self.name, ()), timeout=10, **arguments)

    async def call(self, orders: OrdersStub, **arguments: Any) -> list[Receipt]:
        """Call it; return the answers, or raise what came in their place."""
        received: list[Receipt] = []
        await self.call_into(received, orders, **arguments)
        return received

    async def call_into(self, received: list[Receipt], orders: OrdersStub, **arguments: Any) -> None:
        """Call it, and append each answer as it comes."""
        requests: object = iter([Order(item="tea"), Order(item="milk")])
        if self.name in ("Place", "Follow"):
            requests = Order(item="tea") if self.name == "Place" else Receipt(number=1)
        call = getattr(orders, self.name)(requests, timeout=10, **arguments)
        if self.name in ("Follow", "Talk"):
            async for receipt in call:
                received.append(cast("Receipt", receipt))  # noqa: PERF401 - what came before a failure stays
        else:
            received.append(await call)


METHODS = (
    Method(name="Place", answers=1),
    Method(name="Follow", answers=3),
    Method(name="PlaceMany", answers=1),
    Method(name="Talk", answers=2),
)
