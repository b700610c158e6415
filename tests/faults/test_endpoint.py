"""Faults between the client and the token endpoint: the caller's view, and the number of requests."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator

import aiohttp
import grpc
import pytest
from google.auth.exceptions import TransportError

from aio_authgrpc import AiohttpRequest, AuthRpcError, TokenSource, service_account
from aio_authgrpc.errors import TokenDeadlineExceededError, TokenUnavailableError
from aio_authgrpc.testing import Authority, ChaosProxy, EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache, TokenState

from .bounds import CALL_TIMEOUT, HTTP_TIMEOUT, SCOPES, SkippingClock
from .endpoint_faults import ALL, OF_THE_NETWORK, PASSING, REFUSALS, EndpointFault

# The attempts of one refresh.
ATTEMPTS = 3
# From here on an hour's token is stale in every process.
IN_THE_WINDOW = 3600 - 100


def of(faults: list[EndpointFault]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", faults, ids=lambda fault: fault.name)


async def call(echo: EchoStub) -> bytes:
    return await echo.UnaryUnary(b"x", timeout=CALL_TIMEOUT)


async def refused(echo: EchoStub) -> AuthRpcError:
    with pytest.raises(AuthRpcError) as caught:
        await call(echo)
    return caught.value


# Without a token


@of(ALL)
async def test_a_call_without_a_token_gets_the_error_that_says_what_to_do(
    authority: Authority, endpoint: ChaosProxy, echo: EchoStub, fault: EndpointFault
) -> None:
    """UNAVAILABLE and retryable, or UNAUTHENTICATED and not."""
    await fault.happen(authority, endpoint)
    error = await refused(echo)
    assert type(error) is fault.error
    assert error.retryable is (fault.error is TokenUnavailableError)
    expected = grpc.StatusCode.UNAVAILABLE if error.retryable else grpc.StatusCode.UNAUTHENTICATED
    assert error.code() is expected


@of(ALL)
async def test_a_call_without_a_token_reaches_no_server(
    authority: Authority,
    endpoint: ChaosProxy,
    echo_server: EchoServer,
    network: ChaosProxy,
    echo: EchoStub,
    fault: EndpointFault,
) -> None:
    """The connection is made meanwhile, and nothing is sent on it without a token."""
    await fault.happen(authority, endpoint)
    await refused(echo)
    assert echo_server.calls == []
    assert network.connections <= 1


@of(ALL)
async def test_a_refresh_asks_as_often_as_it_is_worth(
    authority: Authority, endpoint: ChaosProxy, echo: EchoStub, clock: SkippingClock, fault: EndpointFault
) -> None:
    """Three requests with two short pauses, or one; then the back-off sends no more."""
    await fault.happen(authority, endpoint)
    await asyncio.gather(*(refused(echo) for _ in range(20)))
    await refused(echo)
    attempts = ATTEMPTS if fault.retried else 1
    assert (authority.token_requests, len(clock.pauses)) == (fault.requests(attempts), attempts - 1)


@of(PASSING)
async def test_a_fault_that_passes_is_not_seen(
    authority: Authority, endpoint: ChaosProxy, echo: EchoStub, tokens: TokenCache, fault: EndpointFault
) -> None:
    """The same refresh tries again, and the waiting call gets its answer."""
    await fault.happen(authority, endpoint, times=1)
    assert await call(echo) == b"x"
    assert (tokens.status().generation, tokens.status().last_error) == (1, None)


@of(ALL)
async def test_after_a_fault_the_next_call_after_the_back_off_succeeds(
    authority: Authority, endpoint: ChaosProxy, echo: EchoStub, clock: SkippingClock, fault: EndpointFault
) -> None:
    """No broken connection is reused."""
    await fault.happen(authority, endpoint)
    await refused(echo)
    authority.behave()
    endpoint.behave()
    await endpoint.come_up()
    clock.advance(1.0)
    assert await call(echo) == b"x"


@of([fault for fault in ALL if fault.name in {"half-open", "slow-loris", "latency", "frozen"}])
async def test_an_endpoint_that_hangs_costs_a_call_its_timeout(
    authority: Authority, endpoint: ChaosProxy, echo: EchoStub, tokens: TokenCache, fault: EndpointFault
) -> None:
    """DEADLINE_EXCEEDED that names the token, at the call's own deadline: the refresh has not failed yet."""
    await fault.happen(authority, endpoint)
    with pytest.raises(TokenDeadlineExceededError):
        await echo.UnaryUnary(b"x", timeout=HTTP_TIMEOUT / 2)
    assert tokens.status().last_error is None


async def test_an_endless_body_is_read_no_further_than_a_mebibyte(
    authority: Authority, endpoint: ChaosProxy
) -> None:
    """A longer answer is cut off, long before the time-out."""
    authority.flood()
    async with AiohttpRequest(timeout=CALL_TIMEOUT) as request:
        with pytest.raises(TransportError, match="more than 1048576 bytes"):
            await request.send(f"{endpoint.url}/token", "POST", b"x")
    await endpoint.wait_until_idle()


async def test_a_redirect_is_not_followed(authority: Authority, endpoint: ChaosProxy, echo: EchoStub) -> None:
    """The assertion goes to the address that the key file names, and nowhere else."""
    authority.redirect(authority.jwks_url, times=None)
    error = await refused(echo)
    assert ("answered 307, a redirect" in error.details(), "not followed" in error.hint) == (True, True)
    assert [request.path for request in authority.requests] == ["/token"]


async def test_a_wrong_content_type_does_not_matter(authority: Authority, echo: EchoStub) -> None:
    """Only the body counts, as in google-auth."""
    authority.mislabel("text/html")
    assert await call(echo) == b"x"
    assert authority.token_requests == 1


# With a token


@of(ALL)
async def test_a_usable_token_is_served_on(
    authority: Authority,
    endpoint: ChaosProxy,
    echo: EchoStub,
    tokens: TokenCache,
    clock: SkippingClock,
    fault: EndpointFault,
) -> None:
    """For every fault of the background refresh: the calls succeed, and the failure is recorded."""
    await call(echo)
    endpoint.cut()
    await fault.happen(authority, endpoint)
    clock.advance(IN_THE_WINDOW)
    async with tokens.events() as events:
        assert [await call(echo) for _ in range(10)] == [b"x"] * 10
        while tokens.status().last_error is None:
            await anext(events)
    assert (tokens.status().state, tokens.status().generation) == (TokenState.STALE, 1)
    assert await call(echo) == b"x"


@of(ALL)
async def test_a_fault_that_is_over_before_the_token_fails_no_call(
    authority: Authority,
    endpoint: ChaosProxy,
    echo: EchoStub,
    tokens: TokenCache,
    clock: SkippingClock,
    fault: EndpointFault,
) -> None:
    """The back-off ends with the token: the first call without one starts a refresh, and waits."""
    await call(echo)
    endpoint.cut()
    await fault.happen(authority, endpoint)
    clock.advance(3600 - 31)
    async with tokens.events() as events:
        await call(echo)
        while tokens.status().last_error is None:
            await anext(events)
    authority.behave()
    endpoint.behave()
    await endpoint.come_up()
    clock.advance(1.5)
    assert await call(echo) == b"x"
    assert tokens.status().generation == 2


@of(REFUSALS)
async def test_a_refusal_is_asked_once_a_back_off(
    authority: Authority, endpoint: ChaosProxy, echo: EchoStub, clock: SkippingClock, fault: EndpointFault
) -> None:
    """For any number of callers and calls."""
    await fault.happen(authority, endpoint)
    for round_ in range(1, 6):
        errors = await asyncio.gather(*(refused(echo) for _ in range(50)))
        assert authority.token_requests == round_
        assert {(error.code(), error.retryable) for error in errors} == {
            (grpc.StatusCode.UNAUTHENTICATED, False)
        }
        clock.advance(60)


# Nothing is left open


@of(OF_THE_NETWORK)
async def test_closing_during_a_fault_leaves_no_connection(
    authority: Authority,
    endpoint: ChaosProxy,
    source: TokenSource,
    clock: SkippingClock,
    fault: EndpointFault,
) -> None:
    """The refresh is cancelled with its request, and the session that the cache made is closed."""
    await fault.happen(authority, endpoint)
    async with TokenCache(source, clock=clock) as tokens:
        waiting = asyncio.create_task(tokens.get())
        while not endpoint.connections and not waiting.done():  # noqa: ASYNC110 - a refresh sets no event
            await asyncio.sleep(0)
    await asyncio.wait({waiting})
    assert isinstance(waiting.exception(), AuthRpcError)
    endpoint.behave()
    await endpoint.wait_until_idle()


async def test_a_cut_of_an_idle_connection_is_not_seen(
    endpoint: ChaosProxy, echo: EchoStub, clock: SkippingClock, tokens: TokenCache
) -> None:
    """The session kept it from the first token to the second."""
    await call(echo)
    assert endpoint.cut() == 1
    clock.advance(3600)
    assert await call(echo) == b"x"
    assert (tokens.status().generation, endpoint.connections) == (2, 2)


# The certificate


@pytest.fixture
async def tls_endpoint(authority: Authority) -> AsyncIterator[ChaosProxy]:
    async with ChaosProxy(authority.url, tls=True) as proxy:
        yield proxy


@pytest.fixture
async def tls_tokens(
    authority: Authority, tls_endpoint: ChaosProxy, clock: SkippingClock
) -> AsyncIterator[TokenCache]:
    """Give a cache whose endpoint speaks TLS, with a certificate of the proxy's own authority."""
    info = {**await authority.service_account_info(), "token_uri": f"{tls_endpoint.url}/token"}
    context: ssl.SSLContext = await asyncio.to_thread(tls_endpoint.client_context)
    connector = aiohttp.TCPConnector(ssl=context, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        TokenCache(
            service_account(info, scopes=SCOPES),
            request=AiohttpRequest(session),
            clock=clock,
            rng=random.Random(1),
        ) as cache,
    ):
        yield cache


async def test_a_new_certificate_of_a_trusted_authority_is_not_seen(
    tls_endpoint: ChaosProxy, tls_tokens: TokenCache, clock: SkippingClock
) -> None:
    """As in a renewal: the next connection uses it."""
    await tls_tokens.get()
    await tls_endpoint.change_certificate()
    clock.advance(3600)
    await tls_tokens.get()
    assert (tls_tokens.status().generation, tls_endpoint.connections) == (2, 2)


@pytest.mark.parametrize(("names", "trusted"), [((), False), (("elsewhere.example",), True)])
async def test_a_certificate_that_is_not_to_be_trusted_gets_no_assertion(
    authority: Authority, tls_endpoint: ChaosProxy, tls_tokens: TokenCache, names: tuple[str], trusted: bool
) -> None:
    """From an unknown authority, or for another name."""
    await tls_endpoint.change_certificate(*names, trusted=trusted)
    with pytest.raises(TokenUnavailableError, match="certificate"):
        await tls_tokens.get()
    assert authority.requests == []


async def test_after_a_wrong_certificate_the_right_one_is_taken(
    tls_endpoint: ChaosProxy, tls_tokens: TokenCache, clock: SkippingClock
) -> None:
    """As after a fixed deployment mistake."""
    await tls_endpoint.change_certificate(trusted=False)
    with pytest.raises(TokenUnavailableError):
        await tls_tokens.get()
    await tls_endpoint.change_certificate()
    clock.advance(1.0)
    assert (await tls_tokens.get()).value
