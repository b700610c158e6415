"""Keys that change while calls run through Envoy: the replay covers the gap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, connect, service_account
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.testing import Authority, BookstoreServer, EnvoyProxy, FakeClock
from aio_authgrpc.tokens import TokenCache

EMAIL = "client@project.iam.gserviceaccount.com"
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
CALLERS = 4
# A refusal within a token's first ten seconds is considered deliberate, and not replayed.
OLD_ENOUGH = 11.0

UNKNOWN_KEY = "Jwks doesn't have key to match kid or alg from Jwt"


@pytest.fixture
def clock() -> FakeClock:
    """Give the client's clock. Envoy and the authority use the machine's."""
    return FakeClock(time.time())


@pytest.fixture
async def tokens(account: Mapping[str, str], clock: FakeClock) -> AsyncIterator[TokenCache]:
    """Give a cache of access tokens, which the authority's current key signs."""
    async with TokenCache(service_account(dict(account), scopes=SCOPES), clock=clock) as tokens:
        yield tokens


@pytest.fixture
async def bookstore(proxy: EnvoyProxy, listener: Any, tokens: TokenCache) -> AsyncIterator[BookstoreStub]:
    """Give a client of each listener."""
    async with AuthorizedChannel(listener.channel(proxy), tokens) as channel:
        yield BookstoreStub(channel)


async def is_let_in(bookstore: BookstoreStub, metadata: tuple[tuple[str, str], ...]) -> bool:
    """Try a call of a channel that adds no token."""
    call = bookstore.ListShelves(Empty(), metadata=metadata, timeout=10)
    return await call.code() is grpc.StatusCode.OK


async def call_until_envoy_has_the_new_keys(bookstore: BookstoreStub, proxy: EnvoyProxy) -> int:
    """Call continuously from several tasks until a call was refused, and once more; count the calls."""
    calls = 0

    async def call_again_and_again() -> None:
        nonlocal calls
        over = False
        while not over:
            over = (await proxy.counts()).denied > 0
            calls += 1
            await bookstore.ListShelves(Empty(), timeout=10)

    await asyncio.gather(*(call_again_and_again() for _ in range(CALLERS)))
    return calls


async def test_no_call_fails_when_the_key_of_its_token_is_withdrawn(
    authority: Authority, proxy: EnvoyProxy, upstream: BookstoreServer, bookstore: Any, clock: FakeClock
) -> None:
    """Envoy refuses the token once it has fetched the keys; each refused call is sent again."""
    await bookstore.ListShelves(Empty(), timeout=10)
    clock.advance(OLD_ENOUGH)
    await authority.rotate_keys(keep_old=False)
    calls = 1 + await call_until_envoy_has_the_new_keys(bookstore, proxy)
    # Each caller had one open call when the first call was refused.
    assert 1 <= (await proxy.counts()).denied <= CALLERS
    assert (upstream.calls, authority.token_requests) == (calls, 2)


async def test_no_call_fails_when_keys_are_published_ahead(
    authority: Authority, proxy: EnvoyProxy, listener: Any, bookstore: Any, clock: FakeClock
) -> None:
    """The old token is accepted until it expires, then the new one: no call is sent twice."""
    await bookstore.ListShelves(Empty(), timeout=10)
    await authority.rotate_keys()
    probe = (("authorization", f"Bearer {authority.issue_access_token()}"),)
    probes_denied = 0
    async with listener.channel(proxy) as channel:
        while not await is_let_in(BookstoreStub(channel), probe):
            probes_denied += 1
            await bookstore.ListShelves(Empty(), timeout=10)
    clock.advance(3600)
    await bookstore.ListShelves(Empty(), timeout=10)
    assert ((await proxy.counts()).denied, authority.token_requests) == (probes_denied, 2)


async def test_old_token_of_a_plain_channel_is_refused_after_that(
    authority: Authority, proxy: EnvoyProxy, listener: Any
) -> None:
    """The gap is real: without a replay a call fails."""
    metadata = (("authorization", f"Bearer {authority.issue_access_token()}"),)
    async with listener.channel(proxy) as channel:
        await BookstoreStub(channel).ListShelves(Empty(), metadata=metadata, timeout=10)
        await authority.rotate_keys(keep_old=False)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            while True:
                await BookstoreStub(channel).ListShelves(Empty(), metadata=metadata, timeout=10)
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, UNKNOWN_KEY)


async def test_token_of_a_key_that_envoy_has_not_fetched_is_refused(
    authority: Authority, account: Mapping[str, str], upstream: BookstoreServer
) -> None:
    """An issuer must publish a key before it signs with it; no further token is requested."""
    async with EnvoyProxy(authority, upstream) as proxy:  # which keeps keys for five minutes
        await authority.rotate_keys()
        credentials = service_account(dict(account), scopes=SCOPES)
        async with connect(
            proxy.h2c_target, BookstoreStub, credentials=credentials, plaintext=True
        ) as bookstore:
            with pytest.raises(grpc.aio.AioRpcError, match=UNKNOWN_KEY):
                await bookstore.ListShelves(Empty(), timeout=10)
        counts = await proxy.counts()
    assert (counts.denied, authority.token_requests) == (1, 1)
    assert counts.key_fetches == 3  # each listener's first
