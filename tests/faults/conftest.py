"""A client with a chaos proxy before the token endpoint, and one before the gRPC server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from aio_authgrpc import AiohttpRequest, AuthorizedChannel, TokenSource, service_account
from aio_authgrpc.testing import Authority, ChaosProxy, EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache

from .bounds import CALL_TIMEOUT, HTTP_TIMEOUT, OPTIONS, SCOPES, SkippingClock
from .endpoint_faults import EndpointFault


@pytest.fixture
def clock() -> SkippingClock:
    return SkippingClock()


@pytest.fixture
async def endpoint(authority: Authority) -> AsyncIterator[ChaosProxy]:
    """Give the proxy before the token endpoint."""
    async with ChaosProxy(authority.url) as proxy:
        yield proxy


@pytest.fixture
async def network(echo_server: EchoServer) -> AsyncIterator[ChaosProxy]:
    """Give the proxy before the gRPC server. It passes TLS on as it is."""
    async with ChaosProxy(echo_server.target) as proxy:
        yield proxy


@pytest.fixture
async def source(authority: Authority, endpoint: ChaosProxy) -> TokenSource:
    """Give a service account whose token endpoint is behind the proxy."""
    info = await authority.service_account_info()
    return service_account({**info, "token_uri": f"{endpoint.url}/token"}, scopes=SCOPES)


@pytest.fixture
async def request_(request: pytest.FixtureRequest) -> AsyncIterator[AiohttpRequest]:
    """Give the transport of the tokens. Its time-out is short where a test waits for it.

    A busy machine takes longer to answer than the short one: an answer in time would be a failure then.
    """
    callspec = getattr(request.node, "callspec", None)
    fault = None if callspec is None else callspec.params.get("fault")
    answers = isinstance(fault, EndpointFault) and not fault.hangs
    async with AiohttpRequest(timeout=CALL_TIMEOUT if answers else HTTP_TIMEOUT) as transport:
        yield transport


@pytest.fixture
async def tokens(
    source: TokenSource, request_: AiohttpRequest, clock: SkippingClock
) -> AsyncIterator[TokenCache]:
    """Give the token cache of the `echo` fixture."""
    async with TokenCache(source, request=request_, clock=clock) as cache:
        yield cache


@pytest.fixture
async def channel(
    network: ChaosProxy, echo_server: EchoServer, tokens: TokenCache
) -> AsyncIterator[AuthorizedChannel]:
    """Give a channel whose RPCs and token requests all go through the proxies."""
    inner = grpc.aio.secure_channel(network.target, echo_server.ssl_credentials, OPTIONS)
    async with AuthorizedChannel(inner, tokens) as channel:
        yield channel


@pytest.fixture
async def echo(channel: AuthorizedChannel) -> EchoStub:
    return EchoStub(channel)


@pytest.fixture(autouse=True)
async def nothing_leaks(authority: Authority) -> AsyncIterator[None]:
    """Fail a test after which a thread of this package is still there. Tasks are conftest.py's business."""
    yield
    for thread in threading.enumerate():
        if thread.name == "aio_authgrpc":
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()
