"""Other identities: for a context, beside the channel's own, and never another task's."""

from __future__ import annotations

import asyncio
import gc
import itertools
import pickle
import sys
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import Context, copy_context
from typing import Any

import google.auth.credentials
import grpc.aio
import pytest

from aio_authgrpc import (
    AuthMetadataPlugin,
    AuthorizedChannel,
    ConfigurationError,
    Token,
    TokenRequest,
    TokenSource,
    api_key,
    connect,
    identity,
    static_token,
    token_source,
)
from aio_authgrpc._calls.identity import Identity
from aio_authgrpc._calls.several_tokens import CombinedToken
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc.errors import TokenRefusedError
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock, ScriptedTokens
from aio_authgrpc.tokens import CacheKey, TokenCache


def sent(server: EchoServer, header: str = "authorization") -> list[Any]:
    """Return what the server received under a header, call by call; "" for nothing."""
    values = [call.values(header) for call in server.calls]
    assert all(len(each) <= 1 for each in values)
    return [each[0] if each else "" for each in values]


async def test_a_call_in_the_block_has_the_other_identity(
    stub: EchoStub, echo_server: EchoServer, arity: Any
) -> None:
    """In all four arities; before and after it is the channel's own."""
    await arity.finish(arity.begin(stub))
    with identity(static_token("alice")):
        await arity.finish(arity.begin(stub))
    await arity.finish(arity.begin(stub))
    assert sent(echo_server) == ["Bearer token-1", "Bearer alice", "Bearer token-1"]


async def test_a_task_begun_in_the_block_has_it_and_others_do_not(
    stub: EchoStub, echo_server: EchoServer
) -> None:
    """It follows the context, and leaks to nobody."""
    go_on = asyncio.Event()

    async def call_later() -> bytes:
        await go_on.wait()
        return await stub.UnaryUnary(b"x")

    outside = asyncio.create_task(call_later())
    with identity(static_token("alice")):
        inside = asyncio.create_task(call_later())
    go_on.set()
    await inside
    await outside
    assert sorted(sent(echo_server)) == ["Bearer alice", "Bearer token-1"]


async def test_each_of_many_tasks_has_its_own(stub: EchoStub, echo_server: EchoServer) -> None:
    """One thousand callers through one channel."""

    async def call_as(name: str) -> None:
        with identity(static_token(name)):
            await asyncio.sleep(0)
            call = stub.UnaryUnary(name.encode())
            await asyncio.sleep(0)
            await call

    names = [f"caller-{number}" for number in range(300)]
    await asyncio.gather(*(call_as(name) for name in names))
    assert sorted(sent(echo_server)) == sorted(f"Bearer {name}" for name in names)


async def test_the_inner_block_counts_and_the_outer_comes_back(
    stub: EchoStub, echo_server: EchoServer
) -> None:
    """Blocks nest; one object may be entered again."""
    alice, bob = identity(static_token("alice")), identity(static_token("bob"))
    with alice:
        with bob, alice:
            await stub.UnaryUnary(b"x")
        with bob:
            await stub.UnaryUnary(b"x")
        await stub.UnaryUnary(b"x")
    assert sent(echo_server) == ["Bearer alice", "Bearer bob", "Bearer alice"]


async def test_a_call_keeps_the_identity_that_it_was_made_with(
    channel: AuthorizedChannel, tokens: Any, echo_server: EchoServer
) -> None:
    """Also one that still waits for its token when the block ends."""
    gate = asyncio.Event()

    async def slow() -> str:
        await gate.wait()
        return "slow"

    with identity(token_source(slow)):
        call = EchoStub(channel).UnaryUnary(b"x")
    gate.set()
    await call
    assert (sent(echo_server), tokens.fetches) == (["Bearer slow"], 0)


async def test_the_tokens_of_a_source_are_cached_across_blocks(
    stub: EchoStub, echo_server: EchoServer
) -> None:
    """However often it is entered."""
    fetches = 0

    async def fetch() -> Token:
        nonlocal fetches
        fetches += 1
        return Token("cached")

    source = token_source(fetch)
    for _ in range(3):
        with identity(source):
            await stub.UnaryUnary(b"x")
    assert (sent(echo_server), fetches) == (["Bearer cached"] * 3, 1)


async def test_nobody_can_be_sent(stub: EchoStub, echo_server: EchoServer) -> None:
    """The channel's own identity does not stand in."""
    with identity(google.auth.credentials.AnonymousCredentials()):
        await stub.UnaryUnary(b"x")
    assert sent(echo_server) == [""]


async def test_an_identity_with_another_header_stands_beside_the_channels(
    stub: EchoStub, echo_server: EchoServer, arity: Any
) -> None:
    """A service token plus an end user's."""
    with identity(static_token("user"), header="x-user-authorization"):
        await arity.finish(arity.begin(stub))
    assert (sent(echo_server), sent(echo_server, "x-user-authorization")) == (
        ["Bearer token-1"],
        ["Bearer user"],
    )


async def test_an_api_key_goes_to_its_own_header(stub: EchoStub, echo_server: EchoServer) -> None:
    """Which its source names."""
    with identity(api_key("the-key")):
        await stub.UnaryUnary(b"x")
    assert (sent(echo_server), sent(echo_server, "x-api-key")) == (["Bearer token-1"], ["the-key"])


async def test_the_header_of_the_identity_is_not_the_callers_too(stub: EchoStub) -> None:
    """Two of them would be sent."""
    with identity(static_token("user"), header="x-user-authorization"):
        with pytest.raises(ConfigurationError, match="x-user-authorization"):
            stub.UnaryUnary(b"x", metadata=(("x-user-authorization", "mine"),))


async def test_an_identity_that_fails_is_that_calls_error(stub: EchoStub, echo_server: EchoServer) -> None:
    """The channel's own identity never stands in for another."""

    async def refuse() -> str:
        raise LookupError("no")

    with identity(token_source(refuse)), pytest.raises(Exception, match="No token could be fetched"):
        await stub.UnaryUnary(b"x")
    assert sent(echo_server) == []


async def test_a_refused_identity_is_replayed_with_its_own_new_token(
    channel: AuthorizedChannel, echo_server: EchoServer, fake_clock: FakeClock, tokens: Any
) -> None:
    """The channel's own token is not touched."""
    numbers = iter(range(1, 9))

    async def fetch() -> str:
        return f"user-{next(numbers)}"

    source, stub = token_source(fetch), EchoStub(channel)
    await stub.UnaryUnary(b"x")
    with identity(source):
        await stub.UnaryUnary(b"x")
        fake_clock.advance(60)
        echo_server.refuse()
        await stub.UnaryUnary(b"x")
    await stub.UnaryUnary(b"x")
    assert sent(echo_server) == [
        "Bearer token-1",
        "Bearer user-1",
        "Bearer user-1",
        "Bearer user-2",
        "Bearer token-1",
    ]
    assert tokens.fetches == 1


async def test_of_two_refused_identities_both_are_fetched_anew(
    channel: AuthorizedChannel, echo_server: EchoServer, fake_clock: FakeClock, tokens: Any
) -> None:
    """Which one was refused is not known."""
    numbers = iter(range(1, 9))

    async def fetch() -> str:
        return f"user-{next(numbers)}"

    stub = EchoStub(channel)
    with identity(token_source(fetch), header="x-user-authorization"):
        await stub.UnaryUnary(b"x")
        fake_clock.advance(60)
        echo_server.refuse()
        await stub.UnaryUnary(b"x")
    assert sent(echo_server)[-1] == "Bearer token-2"
    assert sent(echo_server, "x-user-authorization")[-1] == "Bearer user-2"


async def test_a_channel_forgets_identities_that_are_not_used(
    channel: AuthorizedChannel, stub: EchoStub
) -> None:
    """A service that makes a source for every request keeps the last 128 of them."""
    sources = [static_token(f"caller-{number}") for number in range(200)]
    forgotten = [weakref.ref(source) for source in sources]
    for source in sources:
        with identity(source):
            await stub.UnaryUnary(b"x")
    del source, sources
    gc.collect()
    assert sum(reference() is not None for reference in forgotten) == 128


async def test_closing_the_channel_ends_the_fetch_of_another_identity(
    channel: AuthorizedChannel, stub: EchoStub
) -> None:
    """Nothing is left running."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def hang() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    with identity(token_source(hang)):
        call = stub.UnaryUnary(b"x")
    await started.wait()
    await channel.close()
    assert cancelled.is_set()
    with pytest.raises(Exception, match="closed"):
        await call


@pytest.mark.parametrize("credentials", ["token", 5, {}, {"authorization": "token"}])
def test_what_is_no_identity_is_refused_at_the_call(credentials: Any) -> None:
    """As by connect()."""
    with pytest.raises(ConfigurationError) as caught:
        identity(credentials)
    assert caught.value.field == "credentials"


def test_what_is_no_header_is_refused_at_the_call() -> None:
    """As by connect()."""
    with pytest.raises(ConfigurationError):
        identity(static_token("t"), header="grpc-status")


# Several at once, for all calls of a channel


async def test_a_channel_may_have_several_identities(echo_server: EchoServer) -> None:
    """IAP's outside and the service's own inside, each under its header."""
    credentials = {"proxy-authorization": static_token("iap"), "authorization": static_token("service")}
    async with connect(
        echo_server.target, EchoStub, credentials=credentials, ssl_credentials=echo_server.ssl_credentials
    ) as stub:
        await stub.UnaryUnary(b"x")
        with pytest.raises(ConfigurationError, match="'authorization'"):
            stub.UnaryUnary(b"x", metadata=(("authorization", "mine"),))
    assert sent(echo_server, "proxy-authorization") == ["Bearer iap"]
    assert sent(echo_server) == ["Bearer service"]


async def test_several_identities_end_with_the_first_that_does(fake_clock: FakeClock) -> None:
    """And what two of them bring along is sent once."""
    project = (("x-goog-user-project", "payer"),)
    now = fake_clock.time()
    source = as_token_source(
        {
            "authorization": ScriptedTokens(Token("a", expires_at=now + 600, metadata=project)),
            "x-other": ScriptedTokens(Token("b", expires_at=now + 300, metadata=project)),
        }
    )
    async with TokenCache(source, clock=fake_clock) as cache:
        token = await cache.get()
    assert (token.value, token.expires_at) == ("a", now + 300)
    assert token.metadata == (("x-goog-user-project", "payer"), ("x-other", "Bearer b"))


async def test_of_several_identities_one_that_fails_fails_all(fake_clock: FakeClock) -> None:
    """The others are cancelled after 2 s; half of what was meant is not sent."""
    cancelled = asyncio.Event()

    async def hang() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    async def refuse() -> str:
        raise TokenRefusedError("no")

    source = as_token_source({"a": token_source(hang), "b": token_source(refuse)})
    async with TokenCache(source, clock=fake_clock) as cache:
        with pytest.raises(TokenRefusedError, match="no"):
            await cache.get()
    assert cancelled.is_set()


# Who names a header means it


SERVICE = {"proxy-authorization": static_token("iap"), "authorization": static_token("service")}


@pytest.mark.parametrize(
    ("who", "proxy", "own"),
    [
        (lambda: identity(static_token("caller"), header="authorization"), "Bearer iap", "Bearer caller"),
        (lambda: identity(static_token("caller")), "Bearer iap", "Bearer caller"),
        (
            lambda: identity(static_token("caller"), header="proxy-authorization"),
            "Bearer caller",
            "Bearer service",
        ),
        (
            lambda: identity({"authorization": static_token("a"), "proxy-authorization": static_token("b")}),
            "Bearer b",
            "Bearer a",
        ),
        (
            lambda: identity({"proxy-authorization": static_token("b"), "authorization": static_token("a")}),
            "Bearer b",
            "Bearer a",
        ),
    ],
    ids=["by-header", "the-usual-one", "the-other-one", "both", "both-in-another-order"],
)
async def test_of_several_identities_of_a_channel_the_one_that_is_meant_is_replaced(
    echo_server: EchoServer, who: Any, proxy: str, own: str
) -> None:
    """And the others stay."""
    async with connect(
        echo_server.target, EchoStub, credentials=SERVICE, ssl_credentials=echo_server.ssl_credentials
    ) as stub:
        with who():
            await stub.UnaryUnary(b"x")
    assert (sent(echo_server, "proxy-authorization"), sent(echo_server)) == ([proxy], [own])


@pytest.mark.parametrize("order", [1, -1])
async def test_several_identities_of_a_context_replace_the_channels_one(
    stub: EchoStub, echo_server: EchoServer, order: int
) -> None:
    """In whatever order they stand; and their headers are not the caller's too."""
    both = [("authorization", static_token("caller")), ("x-user", static_token("user"))][::order]
    with identity(dict(both)):
        await stub.UnaryUnary(b"x")
        with pytest.raises(ConfigurationError, match="x-user"):
            stub.UnaryUnary(b"x", metadata=(("x-user", "mine"),))
    assert (sent(echo_server), sent(echo_server, "x-user")) == (["Bearer caller"], ["Bearer user"])


async def test_of_nested_identities_the_inner_counts_for_its_header(
    stub: EchoStub, echo_server: EchoServer
) -> None:
    """The outer's others stay."""
    outer = identity({"x-user": static_token("outer"), "x-tenant": static_token("tenant")})
    with outer, identity(static_token("inner"), header="x-user"):
        await stub.UnaryUnary(b"x")
    assert (sent(echo_server, "x-user"), sent(echo_server, "x-tenant")) == (
        ["Bearer inner"],
        ["Bearer tenant"],
    )


@pytest.mark.parametrize(
    ("fixed", "who", "header", "value"),
    [
        ({"api_key": "service-key"}, lambda: identity(api_key("caller-key")), "x-api-key", "caller-key"),
        (
            {"metadata": {"x-user": "service-user"}},
            lambda: identity(static_token("caller"), header="x-user"),
            "x-user",
            "Bearer caller",
        ),
    ],
    ids=["api-key", "metadata"],
)
async def test_an_identity_stands_over_what_is_fixed_for_the_channel(
    echo_server: EchoServer, fixed: dict[str, Any], who: Any, header: str, value: str
) -> None:
    """Once, and not beside it."""
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=static_token("t"),
        ssl_credentials=echo_server.ssl_credentials,
        **fixed,
    ) as stub:
        with who():
            await stub.UnaryUnary(b"x")
    assert sent(echo_server, header) == [value]


async def test_one_google_credential_is_one_identity_however_often_it_is_entered(
    stub: EchoStub, authority: Any
) -> None:
    """Twenty requests at once, one token request."""
    from google.oauth2 import service_account

    make = service_account.Credentials.from_service_account_info
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    credentials = await asyncio.to_thread(make, await authority.service_account_info(), scopes=scopes)

    async def call() -> None:
        with identity(credentials):
            await stub.UnaryUnary(b"x")

    await asyncio.gather(*(call() for _ in range(20)))
    assert authority.token_requests == 1


async def test_closing_ends_also_the_fetches_of_identities_that_were_forgotten(
    channel: AuthorizedChannel, stub: EchoStub
) -> None:
    """More than a channel keeps."""
    started, ended = 0, 0

    async def hang() -> str:
        nonlocal started, ended
        started += 1
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1
        return ""

    calls = []
    for _ in range(150):
        with identity(token_source(hang)):
            calls.append(stub.UnaryUnary(b"x"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await channel.close()
    assert (started, ended) == (150, 150)
    await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize(
    "credentials",
    [
        {"authorization": static_token("a"), "Authorization": static_token("b")},
        {"authorization": None},
        {"authorization": {"x-user": static_token("a")}},
    ],
    ids=["twice", "none", "nested"],
)
def test_a_mapping_that_is_not_clear_is_refused(credentials: Any) -> None:
    """Nothing of it is dropped in silence."""
    with pytest.raises(ConfigurationError) as caught:
        identity(credentials)
    assert caught.value.field == "credentials"


@pytest.mark.parametrize(
    "made",
    [
        identity(static_token("SECRETQ")),
        identity({"x-user": static_token("SECRETQ")}),
        identity(google.auth.credentials.AnonymousCredentials()),
    ],
    ids=["one", "several", "google"],
)
def test_an_identity_is_not_pickled(made: Any) -> None:
    """Nor its source."""
    for thing in (made, *made.sources.values()):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(thing)


class TenantTokens:
    """A source whose key has an owner that is made anew each time."""

    def __init__(self, tenant: str, *, owner: object = None) -> None:
        self._tenant = tenant
        self._owner = owner

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of the tenant's tokens."""
        return CacheKey((self._tenant,) if self._owner is None else self._owner, audience or self._tenant)

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the tenant's token."""
        return Token(f"token-of-{self._tenant}")


@pytest.mark.parametrize("owner", [None, object()], ids=["owner-made-anew", "owner-of-both"])
async def test_sources_with_different_keys_are_different_identities(
    stub: EchoStub, echo_server: EchoServer, owner: object
) -> None:
    """No caller gets another one's token, whatever its key is made of."""
    for tenant in ("alice", "bob", "alice"):
        with identity(TenantTokens(tenant, owner=owner)):
            await stub.UnaryUnary(b"x")
    assert sent(echo_server) == [f"Bearer token-of-{tenant}" for tenant in ("alice", "bob", "alice")]


async def test_of_identities_with_several_headers_as_many_tokens_are_kept(
    channel: AuthorizedChannel, stub: EchoStub
) -> None:
    """128 in all, of one header or of two."""
    sources = [static_token(f"caller-{number}") for number in range(200)]
    forgotten = [weakref.ref(source) for source in sources]
    for first, second in itertools.pairwise(sources[::2] + sources[1::2]):
        with identity(first), identity(second, header="x-other"):
            await stub.UnaryUnary(b"x")
    del first, second, sources
    gc.collect()
    assert sum(reference() is not None for reference in forgotten) <= 128


async def test_a_view_of_the_channel_carries_an_identity(
    echo_server: EchoServer, channel: AuthorizedChannel, arity: Any
) -> None:
    """Wherever its stub is used; the channel's own stubs keep the channel's identity."""
    mine = EchoStub(channel.with_identity(static_token("mine")))
    assert await arity.finish(arity.begin(mine)) == arity.responses
    assert await arity.finish(arity.begin(EchoStub(channel))) == arity.responses
    assert [call.values("authorization") for call in echo_server.calls] == [
        ("Bearer mine",),
        ("Bearer token-1",),
    ]


async def test_a_view_is_the_innermost_identity(echo_server: EchoServer, channel: AuthorizedChannel) -> None:
    """A block around the call does not replace what the stub was made with."""
    mine = EchoStub(channel.with_identity(static_token("mine")))
    with identity(static_token("of-the-block")):
        await mine.UnaryUnary(b"x")
    assert echo_server.calls[0].values("authorization") == ("Bearer mine",)


async def test_closing_a_view_leaves_the_channel_open(
    echo_server: EchoServer, channel: AuthorizedChannel
) -> None:
    """The channel belongs to its opener."""
    async with channel.with_identity(static_token("mine"), header="x-mine") as view:
        await EchoStub(view).UnaryUnary(b"x")
    await EchoStub(channel).UnaryUnary(b"x")
    assert [call.values("x-mine") for call in echo_server.calls] == [("Bearer mine",), ()]


# More identities than a channel keeps


class Callers:
    """Numbered callers of a service, whose tokens come from a source for each of them."""

    def __init__(self, channel: AuthorizedChannel) -> None:
        self._stub = EchoStub(channel)
        self._sources: dict[int, ScriptedTokens] = {}

    def enter(self, number: int) -> Identity:
        return identity(self._sources.setdefault(number, ScriptedTokens()))

    async def call_inside(self, number: int) -> list[int]:
        """Make a call in the block of a caller; return its number if that needed a token request."""
        before = self._sources[number].fetches
        await self._stub.UnaryUnary(b"x")
        return [number] * (self._sources[number].fetches - before)

    async def call(self, *numbers: int) -> list[int]:
        """Make a call for each, one after the other; return the numbers that needed a token request."""
        asked = []
        for number in numbers:
            gc.collect()  # what the channel has forgotten is gone then
            with self.enter(number):
                asked += await self.call_inside(number)
        return asked


@pytest.fixture
async def callers(request: Any, echo_server: EchoServer, cache: TokenCache) -> AsyncIterator[Callers]:
    """Give callers on a channel that keeps the tokens of as many as the test says."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with AuthorizedChannel(inner, cache, **request.param) as channel:
        yield Callers(channel)


def keeps(most: int | None) -> Any:
    arguments = {} if most is None else {"max_identities": most}
    return pytest.mark.parametrize("callers", [arguments], indirect=True, ids=[str(most)])


@keeps(None)
async def test_two_hundred_identities_in_turn_cost_few_token_requests(callers: Callers) -> None:
    """By default 600 at most for 1 000 calls, though the channel has 128 places."""
    asked = [await callers.call(*range(200)) for _ in range(5)]
    assert len(asked[0]) == 200
    assert sum(map(len, asked)) <= 600


@keeps(16)
async def test_a_scan_leaves_the_identities_that_are_in_use(callers: Callers) -> None:
    """It is 50 identities, each used once, between two uses of those that are kept."""
    in_use = range(10)
    await callers.call(*in_use, *in_use)
    for scan in range(5):
        await callers.call(*range(100 + 50 * scan, 150 + 50 * scan))
        assert await callers.call(*in_use) == []


@keeps(4)
async def test_of_the_identities_that_are_kept_the_least_recently_used_one_goes(callers: Callers) -> None:
    """It makes room for a newcomer that was used again."""
    await callers.call(1, 2, 3, 4)
    await callers.call(1, 3, 4)  # 4 is kept from now on
    await callers.call(5)
    assert await callers.call(3, 4, 1, 5) == []
    assert await callers.call(2) == [2]


@keeps(4)
async def test_a_newcomer_that_is_used_once_goes_before_those_that_are_kept(callers: Callers) -> None:
    """Also if each of those was used once."""
    await callers.call(1, 2, 3, 4, 5)
    assert await callers.call(1, 2, 3, 5) == []
    assert await callers.call(4) == [4]


@keeps(16)
async def test_two_newcomers_at_the_same_time_keep_their_tokens(callers: Callers) -> None:
    """One place of eight is for newcomers."""
    await callers.call(*range(16), *range(16))
    assert await callers.call(100, 101, 100, 101, 100, 101) == [100, 101]


@keeps(16)
async def test_a_newcomer_may_be_the_least_recently_used_one(callers: Callers) -> None:
    """Then it goes, and the next newcomer finds that it is gone."""
    await callers.call(*range(16))
    await callers.call(*range(15), 100)  # 14 was used again on its trial: 15 goes in its place
    assert await callers.call(101, *range(1, 15), 100, 101) == [101]
    assert await callers.call(15) == [15]


@keeps(8)
async def test_identities_that_are_out_of_use_make_room_in_the_end(callers: Callers) -> None:
    """Eight of them give way to six others that are used in turn."""
    await callers.call(*range(8), *range(8))
    for _ in range(20):
        await callers.call(*range(100, 106))
    assert await callers.call(*range(100, 106)) == []


@keeps(4)
async def test_a_block_costs_one_token_request_however_many_others_are_entered(callers: Callers) -> None:
    """Twenty at once, each with two calls, on a channel that keeps four: a block holds what it has made."""
    all_have_called = asyncio.Barrier(20)

    async def block(number: int) -> list[int]:
        with callers.enter(number):
            asked = await callers.call_inside(number)
            await all_have_called.wait()
            return asked + await callers.call_inside(number)

    asked = await asyncio.gather(*(block(number) for number in range(20)))
    assert asked == [[number] for number in range(20)]


@keeps(1)
async def test_a_channel_may_keep_one_identity(callers: Callers) -> None:
    """The last one that was used."""
    assert await callers.call(1, 1, 2, 2, 1) == [1, 2, 1]


async def test_a_connection_keeps_as_many_identities_as_it_is_told(echo_server: EchoServer) -> None:
    """`max_identities` of `connect()`."""
    async with connect(
        echo_server.target,
        credentials=static_token("t"),
        ssl_credentials=echo_server.ssl_credentials,
        max_identities=200,
    ) as channel:
        callers = Callers(channel)
        await callers.call(*range(200))
        assert await callers.call(*range(200)) == []


@pytest.mark.parametrize("most", [0, -1, 1.5, "2", True, None])
async def test_what_is_no_number_of_identities_is_refused(cache: TokenCache, most: Any) -> None:
    """By `connect()` at the call, and by the channel."""
    with pytest.raises(ConfigurationError) as refused_by_connect:
        connect("host", credentials=static_token("t"), max_identities=most)
    async with grpc.aio.insecure_channel("127.0.0.1:1") as inner:
        with pytest.raises(ConfigurationError) as refused_by_channel:
            AuthorizedChannel(inner, cache, max_identities=most)
    assert refused_by_connect.value.field == refused_by_channel.value.field == "max_identities"


# Generators, and code that runs later


async def test_a_generator_that_only_calls_in_the_block_leaves_its_reader_alone(
    stub: EchoStub, echo_server: EchoServer
) -> None:
    """While it is read, and after the reader left it."""

    async def messages() -> AsyncIterator[bytes]:
        with identity(static_token("alice")):
            call = stub.UnaryStream(b"x")
        async for message in call:
            yield message

    async for _ in messages():
        await stub.UnaryUnary(b"x")
        break
    await stub.UnaryUnary(b"x")
    assert sent(echo_server) == ["Bearer alice", "Bearer token-1", "Bearer token-1"]


async def test_a_block_around_a_yield_ends_when_the_generator_is_closed(
    stub: EchoStub, echo_server: EchoServer
) -> None:
    """`aclosing()` closes it at a `break`, too; without it the identity would stay."""

    async def messages() -> AsyncGenerator[bytes]:
        with identity(static_token("alice")):
            async for message in stub.UnaryStream(b"x"):
                yield message

    async with aclosing(messages()) as read:
        async for _ in read:
            await stub.UnaryUnary(b"x")
            break
    await stub.UnaryUnary(b"x")
    assert sent(echo_server) == ["Bearer alice", "Bearer alice", "Bearer token-1"]


def call_in_thread(stub: EchoStub, loop: asyncio.AbstractEventLoop) -> None:
    """Make a call on the loop, from another thread."""

    async def call() -> None:
        await stub.UnaryUnary(b"x")

    asyncio.run_coroutine_threadsafe(call(), loop).result(10)


@pytest.mark.skipif(
    getattr(sys.flags, "thread_inherit_context", False),
    reason="threads start with the context of their maker",
)
async def test_a_function_that_an_executor_runs_carries_the_channels_own_identity(
    stub: EchoStub, echo_server: EchoServer
) -> None:
    """Its thread has a context of its own."""
    loop = asyncio.get_running_loop()
    with identity(static_token("alice")):
        await loop.run_in_executor(None, call_in_thread, stub, loop)
    assert sent(echo_server) == ["Bearer token-1"]


async def test_a_function_that_an_executor_runs_in_a_copy_of_the_context_has_the_identity(
    stub: EchoStub, echo_server: EchoServer
) -> None:
    """As `asyncio.to_thread` does it; the thread has it no longer than that."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as executor:
        await loop.run_in_executor(executor, copy_context().run, call_in_thread, stub, loop)
        with identity(static_token("alice")):
            await loop.run_in_executor(executor, copy_context().run, call_in_thread, stub, loop)
            await asyncio.to_thread(call_in_thread, stub, loop)
        await loop.run_in_executor(executor, copy_context().run, call_in_thread, stub, loop)
    assert sent(echo_server) == ["Bearer token-1", "Bearer alice", "Bearer alice", "Bearer token-1"]


async def test_a_worker_that_enters_the_identity_of_its_work_has_no_other(
    stub: EchoStub, echo_server: EchoServer
) -> None:
    """It was started in a caller's block, in a context of its own."""
    work: asyncio.Queue[tuple[TokenSource, bytes] | None] = asyncio.Queue()

    async def serve() -> None:
        while (item := await work.get()) is not None:
            with identity(item[0]):
                await stub.UnaryUnary(item[1])
        await stub.UnaryUnary(b"the worker's own")

    with identity(static_token("alice")):
        worker = asyncio.create_task(serve(), context=Context())
        await work.put((static_token("bob"), b"x"))
    await work.put((static_token("carol"), b"x"))
    await work.put(None)
    await worker
    assert sent(echo_server) == ["Bearer bob", "Bearer carol", "Bearer token-1"]


async def test_an_identity_does_not_reach_the_plugin(echo_server: EchoServer) -> None:
    """Call credentials of a call do."""
    own, of_bob = AuthMetadataPlugin(static_token("own")), AuthMetadataPlugin(static_token("bob"))
    credentials = [
        grpc.metadata_call_credentials(own),
        grpc.metadata_call_credentials(of_bob),
        grpc.access_token_call_credentials("carol"),
    ]
    async with (
        own,
        of_bob,
        grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials) as channel,
    ):
        with identity(static_token("alice")):
            for each in credentials:
                await EchoStub(channel).UnaryUnary(b"x", credentials=each)
    assert sent(echo_server) == ["Bearer own", "Bearer bob", "Bearer carol"]


# After the end


async def test_a_closed_channel_keeps_no_token(echo_server: EchoServer) -> None:
    """Nor does a stub of it, nor what turned the tokens into metadata."""
    tokens: weakref.WeakSet[Token] = weakref.WeakSet()

    async def fetch() -> Token:
        tokens.add(token := Token("token", expires_at=time.time() + 3600))
        return token

    replaced, beside = identity(token_source(fetch)), identity(token_source(fetch), header="x-user")
    connection = connect(
        echo_server.target,
        EchoStub,
        credentials=token_source(fetch),
        ssl_credentials=echo_server.ssl_credentials,
    )
    async with connection as stub:
        channel = connection.channel
        await stub.UnaryUnary(b"x")
        held = [stub, channel, channel.auth, channel._authorizer]
        for each in (replaced, beside):
            with each:
                await stub.UnaryUnary(b"x")
            held.append(channel._identities.of((each,)))
        assert len(tokens) == 3
    gc.collect()
    assert len(tokens) == 0
    assert [each for each in gc.get_objects() if type(each) is CombinedToken and each.value] == []
    assert held
