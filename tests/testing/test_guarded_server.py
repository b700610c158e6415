"""GuardedServer: a service that the test defines itself, from a `.proto` of its own, behind the guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, service_account, static_token
from aio_authgrpc.bookstore import BookstoreStub, Empty, InMemoryBookstore, add_BookstoreServicer_to_server
from aio_authgrpc.testing import JWKS_PATH, Authority, EchoServer, EchoStub, FakeClock, GuardedServer
from tests.support.orders import METHODS, Method, WaitingOrders, WritingOrders, YieldingOrders
from tests.support.orders_pb2 import Order, Receipt
from tests.support.orders_pb2_grpc import OrdersStub, add_OrdersServicer_to_server

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
EMAIL = "tester@project.iam.gserviceaccount.com"

each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
each_service = pytest.mark.parametrize("service", [YieldingOrders, WritingOrders], indirect=True)


@pytest.fixture
def service(request: pytest.FixtureRequest) -> YieldingOrders:
    """Give the service behind the guard."""
    make: Callable[[], YieldingOrders] = getattr(request, "param", YieldingOrders)
    return make()


@pytest.fixture
async def server(authority: Authority, service: YieldingOrders) -> AsyncIterator[GuardedServer]:
    async with GuardedServer(authority, add_OrdersServicer_to_server, service) as server:
        yield server


@pytest.fixture
async def orders(server: GuardedServer) -> AsyncIterator[OrdersStub]:
    async with server.connect(OrdersStub) as orders:
        yield orders


async def failure(method: Method, orders: OrdersStub, **arguments: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await method.call(orders, **arguments)
    return raised.value


# Let in


@each_method
@each_service
async def test_caller_with_a_token_reaches_the_service(
    server: GuardedServer, orders: OrdersStub, service: YieldingOrders, method: Method
) -> None:
    """Its answers arrive, and the service knows who called."""
    assert len(await method.call(orders)) == method.answers
    assert set(service.callers) == {EMAIL}
    assert (server.calls, server.refused) == (1, 0)


@each_method
async def test_call_that_reached_the_service_is_recorded(
    server: GuardedServer, orders: OrdersStub, method: Method
) -> None:
    """With its metadata, which `repr` does not show."""
    await method.call(orders, metadata=(("x-trace", "1"),))
    [call] = server.recorded
    assert call.method == method.name
    assert call.values("x-trace") == ("1",)
    [value] = call.values("authorization")
    assert str(value).startswith("Bearer ey")
    assert str(value) not in repr(call)
    assert call.time_remaining is not None


async def test_token_of_connect_comes_from_the_authority_s_endpoint(
    authority: Authority, server: GuardedServer, orders: OrdersStub
) -> None:
    """Once for both calls: what a test orders of the authority concerns it."""
    await orders.Place(Order(item="tea"), timeout=10)
    await orders.Place(Order(item="milk"), timeout=10)
    assert authority.token_requests == 1
    [audience] = {authority.claims_of(bearer(call))["aud"] for call in server.recorded}
    assert audience == server.audience


def bearer(call: Any) -> str:
    return str(call.values("authorization")[0]).removeprefix("Bearer ")


async def test_connect_takes_another_identity(authority: Authority, server: GuardedServer) -> None:
    """As the code under test would have it."""
    key_file = await authority.service_account_info("other@project.iam.gserviceaccount.com")
    credentials = service_account(key_file, scopes=["a-scope"])
    async with server.connect(OrdersStub, credentials=credentials) as orders:
        assert (await orders.Place(Order(item="tea"), timeout=10)).items == ["tea"]
    assert authority.claims_of(bearer(server.recorded[0]))["scope"] == "a-scope"


async def test_without_a_stub_connect_yields_the_channel(server: GuardedServer) -> None:
    """For stubs of several services."""
    async with server.connect() as channel:
        assert isinstance(channel, AuthorizedChannel)
        assert (await OrdersStub(channel).Place(Order(item="tea"), timeout=10)).number == 1


@pytest.mark.parametrize("tls", [{"tls": False}, {"mutual_tls": True}], ids=["plaintext", "mutual-tls"])
async def test_connect_speaks_what_the_server_speaks(authority: Authority, tls: Any) -> None:
    """Without TLS, or with a client certificate."""
    server = GuardedServer(authority, add_OrdersServicer_to_server, YieldingOrders(), **tls)
    async with server, server.connect(OrdersStub) as orders:
        assert (await orders.Place(Order(item="tea"), timeout=10)).number == 1


async def test_server_without_an_authority_asks_for_no_token() -> None:
    """Then `connect()` sends none."""
    server = GuardedServer(None, add_OrdersServicer_to_server, YieldingOrders())
    async with server, server.connect(OrdersStub) as orders:
        await orders.Place(Order(item="tea"), timeout=10)
    assert server.recorded[0].values("authorization") == ()


async def test_echo_server_connects_anybody() -> None:
    """It demands nothing."""
    async with EchoServer() as server, server.connect(EchoStub) as echo:
        assert await echo.UnaryUnary(b"a", timeout=10) == b"a"
    assert server.calls == server.recorded


async def test_two_services_share_a_guard(authority: Authority) -> None:
    """A function of the test's own adds both."""

    def add(services: tuple[YieldingOrders, InMemoryBookstore], server: grpc.aio.Server) -> None:
        add_OrdersServicer_to_server(services[0], server)
        add_BookstoreServicer_to_server(services[1], server)

    server = GuardedServer(authority, add, (YieldingOrders(), InMemoryBookstore()))
    async with server, server.connect() as channel:
        await OrdersStub(channel).Place(Order(item="tea"), timeout=10)
        await BookstoreStub(channel).ListShelves(Empty(), timeout=10)
    assert [call.method for call in server.recorded] == ["Place", "ListShelves"]


# Refused


async def no_token(authority: Authority, server: GuardedServer) -> None:
    return None


async def wrong_audience(authority: Authority, server: GuardedServer) -> str:
    return authority.issue_id_token(audience="https://elsewhere.example")


async def expired(authority: Authority, server: GuardedServer) -> str:
    return authority.issue_id_token(audience=server.audience, lifetime=-61)


async def rotated_key(authority: Authority, server: GuardedServer) -> str:
    token = authority.issue_id_token(audience=server.audience)
    await authority.rotate_keys(keep_old=False)
    return token


@each_method
@pytest.mark.parametrize(
    ("make", "code", "details"),
    [
        pytest.param(no_token, UNAUTHENTICATED, "Jwt is missing", id="no-token"),
        pytest.param(
            wrong_audience, PERMISSION_DENIED, "Audiences in Jwt are not allowed", id="wrong-audience"
        ),
        pytest.param(expired, UNAUTHENTICATED, "Jwt is expired", id="expired"),
        pytest.param(
            rotated_key,
            UNAUTHENTICATED,
            "Jwks doesn't have key to match kid or alg from Jwt",
            id="rotated-key",
        ),
    ],
)
async def test_caller_without_a_good_token_is_refused(
    authority: Authority,
    server: GuardedServer,
    service: YieldingOrders,
    method: Method,
    make: Any,
    code: grpc.StatusCode,
    details: str,
) -> None:
    """In Envoy's words, over every arity, before it has sent a message; the service is not reached."""
    token = await make(authority, server)
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    async with grpc.aio.secure_channel(server.target, server.ssl_credentials) as channel:
        call = method.begin(OrdersStub(channel), metadata=metadata)
        assert (await call.code(), await call.details()) == (code, details)
    assert service.callers == server.recorded == []
    assert (server.calls, server.refused) == (0, 1)


async def test_token_of_a_key_that_left_is_refused_once_the_keys_are_forgotten(
    authority: Authority, server: GuardedServer
) -> None:
    """The guard keeps keys, as Envoy does."""
    token = static_token(authority.issue_id_token(audience=server.audience))
    async with server.connect(OrdersStub, credentials=token) as orders:
        await orders.Place(Order(item="tea"), timeout=10)
        await authority.rotate_keys(keep_old=False)
        await orders.Place(Order(item="tea"), timeout=10)
        server.forget_keys()
        with pytest.raises(grpc.aio.AioRpcError, match="doesn't have key"):
            await orders.Place(Order(item="tea"), timeout=10)


async def test_service_goes_on_after_a_rotation(
    authority: Authority, server: GuardedServer, orders: OrdersStub
) -> None:
    """New tokens have the new key, which the guard fetches."""
    await orders.Place(Order(item="tea"), timeout=10)
    await authority.rotate_keys(keep_old=False)
    async with server.connect(OrdersStub) as others:
        await others.Place(Order(item="milk"), timeout=10)
    assert sum(request.path == JWKS_PATH for request in authority.requests) == 2


@pytest.mark.parametrize("method", METHODS[:2], ids=["Place", "Follow"])
async def test_rotated_key_costs_a_client_of_this_package_no_call(
    authority: Authority, server: GuardedServer, fake_clock: FakeClock, method: Method
) -> None:
    """The refused call is sent once more with a new token, which needs one that is some seconds old."""
    async with server.connect(OrdersStub, clock=fake_clock) as orders:
        await method.call(orders)
        fake_clock.advance(10)
        await authority.rotate_keys(keep_old=False)
        server.forget_keys()
        assert len(await method.call(orders)) == method.answers
    assert (server.calls, server.refused, authority.token_requests) == (2, 1, 2)


# Orders to misbehave


@each_method
@each_service
async def test_ordered_refusal_replaces_the_answer(
    server: GuardedServer, orders: OrdersStub, service: YieldingOrders, method: Method
) -> None:
    """Once; with the status that was ordered. The service is not asked."""
    server.refuse(grpc.StatusCode.UNAVAILABLE, "gone", trailing=(("x-reason", "maintenance"),))
    error = await failure(method, orders)
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "gone")
    assert dict(error.trailing_metadata())["x-reason"] == "maintenance"
    assert service.callers == []
    assert len(await method.call(orders)) == method.answers
    assert [call.method for call in server.recorded] == [method.name] * 2


@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize("method", [METHODS[1], METHODS[3]], ids=["Follow", "Talk"])
@each_service
async def test_stream_ends_after_some_messages(
    server: GuardedServer, orders: OrdersStub, method: Method, after: int
) -> None:
    """However the service sends them."""
    server.refuse(grpc.StatusCode.UNAVAILABLE, after_messages=after)
    received: list[Receipt] = []
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await method.call_into(received, orders)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(received) == after


@each_service
async def test_stream_of_requests_is_read_before_it_is_refused(
    server: GuardedServer, orders: OrdersStub, service: YieldingOrders
) -> None:
    """The service gets the messages before, and the client's last one is not lost on a dead call."""
    server.refuse(grpc.StatusCode.UNAVAILABLE, after_messages=1)
    sent: list[str] = []

    async def requests() -> AsyncIterator[Order]:
        for item in ("tea", "milk", "sugar"):
            yield Order(item=item)
            sent.append(item)

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await orders.PlaceMany(requests(), timeout=10)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert sent == ["tea", "milk", "sugar"]
    assert service.taken == []


@each_method
@each_service
async def test_call_with_fewer_messages_is_refused_at_its_end(
    server: GuardedServer, orders: OrdersStub, method: Method
) -> None:
    """A refusal that was ordered is given."""
    server.refuse(grpc.StatusCode.UNAVAILABLE, after_messages=100)
    assert (await failure(method, orders)).code() is grpc.StatusCode.UNAVAILABLE


async def test_order_concerns_the_method_that_it_names(server: GuardedServer, orders: OrdersStub) -> None:
    """Other methods go on."""
    server.refuse(grpc.StatusCode.UNAVAILABLE, times=None, method="Place")
    assert len(await METHODS[1].call(orders)) == 3
    assert (await failure(METHODS[0], orders)).code() is grpc.StatusCode.UNAVAILABLE
    server.behave()
    assert len(await METHODS[0].call(orders)) == 1


@each_method
async def test_held_call_goes_on_when_it_is_released(
    server: GuardedServer, orders: OrdersStub, service: YieldingOrders, method: Method
) -> None:
    """Until then the service is not reached."""
    with server.hold() as gate:
        call = asyncio.create_task(method.call(orders))
        await gate.arrived.wait()
        assert service.callers == []
    assert len(await call) == method.answers


async def test_call_that_the_guard_refuses_uses_no_order(authority: Authority, server: GuardedServer) -> None:
    """Orders are for the calls that it lets in."""
    server.refuse(grpc.StatusCode.UNAVAILABLE)
    async with grpc.aio.secure_channel(server.target, server.ssl_credentials) as channel:
        assert (await failure(METHODS[0], OrdersStub(channel))).code() is UNAUTHENTICATED
    async with server.connect(OrdersStub) as orders:
        assert (await failure(METHODS[0], orders)).code() is grpc.StatusCode.UNAVAILABLE


async def test_delayed_call_is_late_by_the_clock(fake_clock: FakeClock) -> None:
    """The machine's time does not count."""
    server = GuardedServer(None, add_OrdersServicer_to_server, YieldingOrders(), clock=fake_clock)
    async with server, server.connect(OrdersStub) as orders:
        server.delay(60, times=1)
        call = asyncio.ensure_future(METHODS[0].call(orders))
        await fake_clock.wait_for_sleepers()
        assert not call.done()
        fake_clock.advance(60)
        assert len(await call) == 1


@each_method
async def test_closing_ends_a_held_call(server: GuardedServer, orders: OrdersStub, method: Method) -> None:
    """A gate that nobody releases does not keep the server open."""
    gate = server.hold()
    call = asyncio.create_task(method.call(orders))
    await gate.arrived.wait()
    await server.aclose()
    await asyncio.wait([call])
    assert gate.released


async def test_service_without_coroutines_is_told_what_to_write(authority: Authority) -> None:
    """A method that blocks would stop the test's own loop, and one that is missing says so as well."""
    service: Any = WaitingOrders()
    service.Follow = service.PlaceMany = service.Talk = service.Place
    server = GuardedServer(authority, add_OrdersServicer_to_server, service)
    async with server, server.connect(OrdersStub) as orders:
        for method in METHODS:
            call = method.begin(orders)
            assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
            assert "async def" in await call.details()


async def test_connecting_to_a_closed_server_is_an_error(authority: Authority) -> None:
    """It has no address."""
    server = GuardedServer(authority, add_OrdersServicer_to_server, YieldingOrders())
    with pytest.raises(RuntimeError, match="GuardedServer is not open"):
        server.connect(OrdersStub)
