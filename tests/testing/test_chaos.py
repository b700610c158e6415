"""ChaosProxy: its faults, as clients of plain sockets and of HTTP see them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from aio_authgrpc.testing import Authority, ChaosProxy, FakeClock


@pytest.fixture
async def proxy(authority: Authority, fake_clock: FakeClock) -> AsyncIterator[ChaosProxy]:
    async with ChaosProxy(authority.url, clock=fake_clock) as proxy:
        yield proxy


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def get(session: aiohttp.ClientSession, proxy: ChaosProxy) -> int:
    """Return how many bytes the key set has."""
    async with session.get(f"{proxy.url}/jwks") as response:
        return len(await response.read())


async def test_without_an_order_it_passes_everything_on(
    session: aiohttp.ClientSession, proxy: ChaosProxy
) -> None:
    """In both directions, over a kept connection."""
    assert await get(session, proxy) == await get(session, proxy) > 300
    assert (proxy.connections, proxy.open_connections) == (1, 1)


@pytest.mark.parametrize("after", [0, 100])
async def test_a_reset_is_a_reset(session: aiohttp.ClientSession, proxy: ChaosProxy, after: int) -> None:
    """TCP RST, for the ordered number of connections; aiohttp itself tries twice."""
    proxy.reset_connections(after=after, times=2)
    with pytest.raises(aiohttp.ClientError) as caught:
        await get(session, proxy)
    assert "reset" in f"{caught.value!r} {caught.value.__cause__!r}".lower()
    assert await get(session, proxy)


async def test_an_end_in_the_middle_is_no_reset(session: aiohttp.ClientSession, proxy: ChaosProxy) -> None:
    """TCP FIN: the client reports an incomplete answer."""
    proxy.end_connections(after=250)
    with pytest.raises(aiohttp.ClientPayloadError, match="not completed") as caught:
        await get(session, proxy)
    assert "reset" not in str(caught.value).lower()


async def test_a_held_connection_goes_on_when_it_is_released(
    session: aiohttp.ClientSession, proxy: ChaosProxy, authority: Authority
) -> None:
    """Nothing of it arrives before."""
    with proxy.hold() as gate:
        getting = asyncio.create_task(get(session, proxy))
        await gate.arrived.wait()
        assert authority.requests == []
    assert await getting


async def test_answers_are_late_by_the_clock(
    session: aiohttp.ClientSession, proxy: ChaosProxy, fake_clock: FakeClock
) -> None:
    """The request has arrived, and its answer waits for the clock."""
    proxy.delay(5)
    getting = asyncio.create_task(get(session, proxy))
    await fake_clock.wait_for_sleepers()
    assert not getting.done()
    fake_clock.advance(5)
    assert await getting


async def test_a_trickle_is_a_byte_at_a_time(proxy: ChaosProxy, fake_clock: FakeClock) -> None:
    """Each after a pause."""
    proxy.trickle(pause=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"GET /jwks HTTP/1.0\r\n\r\n")
    received = []
    for _ in range(4):
        await fake_clock.wait_for_sleepers()
        fake_clock.advance(1)
        received.append(await reader.read(100))
    writer.close()
    await writer.wait_closed()
    assert received == [b"H", b"T", b"T", b"P"]


async def test_a_cut_resets_all_that_are_open(session: aiohttp.ClientSession, proxy: ChaosProxy) -> None:
    """And returns their number."""
    await get(session, proxy)
    assert (proxy.cut(), proxy.cut()) == (1, 0)
    await proxy.wait_until_idle()
    assert await get(session, proxy)


async def test_a_frozen_network_passes_nothing_on(
    session: aiohttp.ClientSession, proxy: ChaosProxy, authority: Authority
) -> None:
    """Also on an open connection."""
    await get(session, proxy)
    with proxy.freeze() as gate:
        getting = asyncio.create_task(get(session, proxy))
        await gate.arrived.wait()
        assert len(authority.requests) == 1
    assert await getting
    assert proxy.connections == 1


async def test_down_and_up_again_on_the_same_port(session: aiohttp.ClientSession, proxy: ChaosProxy) -> None:
    """Connections are refused in between; both methods are idempotent."""
    port = proxy.port
    await proxy.go_down()
    await proxy.go_down()
    with pytest.raises(aiohttp.ClientConnectorError, match="Connect call failed"):
        await get(session, proxy)
    await proxy.come_up()
    await proxy.come_up()
    assert (await get(session, proxy) > 0, proxy.port) == (True, port)


async def test_behave_forgets_the_orders(session: aiohttp.ClientSession, proxy: ChaosProxy) -> None:
    """For all connections to come."""
    proxy.reset_connections(times=None)
    proxy.hold()
    proxy.freeze()
    proxy.behave()
    assert await get(session, proxy)


async def test_a_server_that_is_down_ends_the_connection(session: aiohttp.ClientSession) -> None:
    """The proxy itself goes on."""
    async with ChaosProxy("127.0.0.1:1") as proxy:
        with pytest.raises(aiohttp.ClientError):
            await get(session, proxy)
        await proxy.wait_until_idle()


async def test_its_certificate_changes_between_connections(
    session: aiohttp.ClientSession, authority: Authority
) -> None:
    """Trusted, then not, then again."""
    async with ChaosProxy(authority.url, tls=True) as proxy:
        context = proxy.client_context()
        for trusted in (True, False, True):
            await proxy.change_certificate(trusted=trusted)
            proxy.cut()
            await proxy.wait_until_idle()
            try:
                async with session.get(f"{proxy.url}/jwks", ssl=context) as response:
                    assert (response.status, trusted) == (200, True)
            except aiohttp.ClientConnectorCertificateError:
                assert not trusted


async def test_closing_ends_held_connections(authority: Authority) -> None:
    """And the client gets an error."""
    async with ChaosProxy(authority.url) as proxy:
        gate = proxy.hold()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        await gate.arrived.wait()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.transport.abort()


@pytest.mark.parametrize("target", ["localhost", "http://localhost", "nonsense://"])
def test_a_target_without_a_port_is_refused(target: str) -> None:
    """The error says what to pass."""
    with pytest.raises(ValueError, match="host:port"):
        ChaosProxy(target)


async def test_without_tls_there_is_no_certificate(proxy: ChaosProxy) -> None:
    """One clear error."""
    with pytest.raises(RuntimeError, match="tls=False"):
        proxy.client_context()


async def test_before_it_is_open_it_has_no_address() -> None:
    """One clear error, in the words of all fakes."""
    with pytest.raises(RuntimeError, match="not open"):
        ChaosProxy("localhost:1").port  # noqa: B018 - it raises


# The HTTP servers' own orders


@pytest.mark.parametrize("order", ["truncate", "mislabel"])
async def test_an_answer_is_spoiled_once(
    session: aiohttp.ClientSession, authority: Authority, order: str
) -> None:
    """Half of the body, or another content type; the next answer is complete."""
    getattr(authority, order)(path="*")
    answers = []
    for _ in range(2):
        async with session.get(authority.jwks_url) as response:
            answers.append((response.content_type, len(await response.read())))
    (kind, length), (whole_kind, whole) = answers
    assert whole_kind == "application/json"
    assert {"truncate": length == whole // 2, "mislabel": (kind, length) == ("text/html", whole)}[order]


async def test_a_flood_has_no_end(session: aiohttp.ClientSession, authority: Authority) -> None:
    """It ends when the client leaves."""
    authority.flood(path="*")
    async with session.get(authority.jwks_url) as response:
        assert len(await response.content.readexactly(3 * 1024 * 1024)) == 3 * 1024 * 1024


async def test_a_redirect_names_another_place(session: aiohttp.ClientSession, authority: Authority) -> None:
    """307 by default."""
    authority.redirect("http://127.0.0.1:9/", path="*")
    async with session.get(authority.jwks_url, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (307, "http://127.0.0.1:9/")
