"""A token that the source has already, near its end: served while a new one is fetched."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from google.oauth2.credentials import Credentials

from aio_authgrpc import Token, TokenRequest, id_token, static_token
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc._tokens.across_loops import TokensAcrossLoops
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError
from aio_authgrpc.events import StaleServed
from aio_authgrpc.testing import Authority, EchoServer, FakeClock
from aio_authgrpc.tokens import TokenCache, TokenState
from tests.support.one_login import connection

from .gated_source import GatedSource, failed, fill, settle


class Holding(GatedSource):
    """A gated source that says what it has: a token with these seconds left, or what the test sets."""

    def __init__(self, clock: FakeClock, left: float | None) -> None:
        super().__init__(clock)
        expires_at = None if left is None else clock.time() + left
        self.has: Token | None = Token("held", expires_at=expires_at)

    def current_token(self, request: TokenRequest) -> Token | None:
        return self.has


async def test_a_token_near_its_end_is_served_at_once(clock: FakeClock) -> None:
    """As a stale one: the first call starts a refresh in the background."""
    source = Holding(clock, left=224)
    async with TokenCache(source, clock=clock) as cache:
        assert (await cache.get()).value == "held"
        assert cache.status().state is TokenState.STALE
        assert cache.status().generation == 0
        await source.asked()
        source.answer("new")
        await settle()
        assert (await cache.get()).value == "new"
    assert len(source.requests) == 1


async def test_it_is_served_until_its_end_while_refreshes_fail(clock: FakeClock) -> None:
    """They are spaced by the back-off, and the calls after its end get the error."""
    source = Holding(clock, left=150)
    async with TokenCache(source, clock=clock, attempts=1) as cache:
        for _ in range(50):
            assert (await cache.get()).value == "held"
        await source.asked()
        source.fail(OSError("down"))
        await settle()
        for _ in range(50):
            assert (await cache.get()).value == "held"
        assert len(source.requests) == 1
        assert isinstance(cache.status().last_error, TokenUnavailableError)
        clock.advance(150 - 7.4)
        source.has = None
        error = await failed(cache, source, OSError("still down"))
    assert isinstance(error, TokenUnavailableError)


@pytest.mark.parametrize("left", [225, None], ids=["far-from-its-end", "without-an-end"])
async def test_another_token_is_left_to_the_fetch(clock: FakeClock, left: float | None) -> None:
    """Which returns it without a request, and may look further."""
    source = Holding(clock, left)
    async with TokenCache(source, clock=clock) as cache:
        assert (await fill(cache, source, "fetched")).value == "fetched"


async def test_any_usable_token_ends_a_back_off(clock: FakeClock) -> None:
    """Another cache has refreshed the same credential meanwhile."""
    source = Holding(clock, left=3600)
    came, source.has = source.has, None
    async with TokenCache(source, clock=clock, attempts=1) as cache:
        await failed(cache, source, OSError("down"))
        with pytest.raises(TokenUnavailableError, match="down"):
            await cache.get()
        source.has = came
        assert await cache.get() is came


async def test_a_refused_token_is_not_served_again(clock: FakeClock) -> None:
    """The source may have it still. It is of unknown age, so its refusal is taken for what it is."""
    source = Holding(clock, left=150)
    async with TokenCache(source, clock=clock, attempts=1) as cache:
        held = await cache.get()
        await source.asked()
        source.fail(OSError("down"))
        await settle()
        assert cache.reject(held)
        with pytest.raises(TokenUnavailableError):
            await cache.get()
        clock.advance(1)
        waiting = asyncio.create_task(cache.get())
        await source.asked()
        assert source.requests[-1].unwanted is held
        source.answer("new")
        assert (await waiting).value == "new"


@pytest.mark.parametrize(
    "has",
    [
        pytest.param(lambda now: None, id="none"),
        pytest.param(lambda now: "text", id="a-str"),
        pytest.param(lambda now: Token("over", expires_at=now), id="over"),
        pytest.param(lambda now: Token("", expires_at=now + 150), id="empty"),
    ],
)
async def test_what_is_no_usable_token_is_passed_by(clock: FakeClock, has: Any) -> None:
    """The fetch decides, as if the source had said nothing."""
    source = Holding(clock, left=150)
    source.has = has(clock.time())
    async with TokenCache(source, clock=clock) as cache:
        assert (await fill(cache, source, "fetched")).value == "fetched"


async def test_a_crowd_asks_the_source_once_what_it_has(clock: FakeClock) -> None:
    """The first caller does, before it starts the refresh that all wait for."""
    asked = 0

    class Counting(GatedSource):
        def current_token(self, request: TokenRequest) -> Token | None:
            nonlocal asked
            asked += 1
            return None

    source = Counting(clock)
    async with TokenCache(source, clock=clock) as cache:
        waiting = [asyncio.create_task(cache.get()) for _ in range(100)]
        await source.asked()
        source.answer("new")
        await asyncio.gather(*waiting)
    assert asked == 1


async def test_a_source_that_raises_when_it_is_asked_is_passed_by(clock: FakeClock) -> None:
    """Its fetch will tell what is wrong with it."""

    class Broken(GatedSource):
        def current_token(self, request: TokenRequest) -> Token | None:
            raise KeyError("a bug")

    source = Broken(clock)
    async with TokenCache(source, clock=clock) as cache:
        assert (await fill(cache, source, "fetched")).value == "fetched"


async def test_a_token_that_is_served_so_is_said_once(clock: FakeClock) -> None:
    """As any stale one."""
    source = Holding(clock, left=150)
    async with TokenCache(source, clock=clock) as cache:
        heard: list[Any] = []
        cache.subscribe(heard.append)
        assert [await cache.get() for _ in range(3)] == [source.has] * 3
        assert heard == [StaleServed(at=clock.time(), expires_at=clock.time() + 150)]
        await source.asked()
        source.answer("new")
        await settle()


async def test_a_source_for_all_loops_says_what_its_source_has(clock: FakeClock) -> None:
    """That of a channel that outlives a loop."""
    source = Holding(clock, left=150)
    async with TokenCache(TokensAcrossLoops(source), clock=clock) as cache:
        assert await cache.get() is source.has
        await source.asked()
        source.answer("new")
        await settle()


# google-auth's credentials


def login(authority: Authority, *, left: float, **changes: Any) -> Any:
    """Return a user's credentials with a token for as many seconds."""
    info = authority.user_info()
    expiry = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=left)
    given = {name: info[name] for name in ("refresh_token", "token_uri", "client_id", "client_secret")}
    arguments = {"token": authority.issue_access_token(), "expiry": expiry, **given, **changes}
    return Credentials(**arguments)  # type: ignore[no-untyped-call]  # google-auth has no types


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(lambda authority: authority.fail(503, times=None), id="503"),
        pytest.param(lambda authority: authority.fail(400, {"error": "invalid_grant"}, times=None), id="400"),
        pytest.param(lambda authority: authority.reset_connections(times=None), id="reset"),
        pytest.param(lambda authority: authority.hold(), id="hanging"),
    ],
)
@pytest.mark.parametrize("headers", ["one", "two"])
async def test_the_token_of_a_login_whose_refresh_fails_is_served(
    authority: Authority, echo_server: EchoServer, trouble: Any, headers: str
) -> None:
    """It has 150 s left, so that google-auth would wait for a new one. A fixed token may stand beside it."""
    trouble(authority)
    credentials = login(authority, left=150)
    usable = f"Bearer {credentials.token}"
    both = {"authorization": credentials, "proxy-authorization": static_token("fixed")}
    async with connection(echo_server, credentials if headers == "one" else both) as stub:
        for _ in range(25):
            assert await stub.UnaryUnary(b"x", timeout=10) == b"x"
        await asyncio.gather(*(stub.UnaryUnary(b"x", timeout=10) for _ in range(25)))
        authority.behave()
    assert [call.values("authorization") == (usable,) for call in echo_server.calls] == [True] * 50


async def test_the_id_token_of_a_login_is_served_as_well(authority: Authority) -> None:
    """An earlier channel has fetched it, and it is near its end."""
    authority.token_lifetime = 100
    source = id_token(credentials=login(authority, left=-1))
    async with TokenCache(source, audience="https://any") as cache:
        first = await cache.get()
    authority.fail(503, times=None)
    async with TokenCache(source, audience="https://any") as cache:
        assert await cache.get() == first


@pytest.mark.parametrize(
    "changes",
    [pytest.param({"expiry": None}, id="of-unknown-age"), pytest.param({"token": None}, id="none")],
)
async def test_a_token_of_unknown_age_is_not_served(authority: Authority, changes: dict[str, Any]) -> None:
    """`with_quota_project()` drops the expiry of a user's token: it may be over."""
    authority.fail(400, {"error": "invalid_grant"}, times=None)
    source = as_token_source(login(authority, left=150, **changes))
    async with TokenCache(source) as cache:
        for _ in range(2):  # the second time within the back-off
            with pytest.raises(TokenRefusedError):
                await cache.get()
