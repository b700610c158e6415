"""Refreshes at a real token endpoint: what is tried again, what is asked once, how long it is left alone."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import random
import time
from collections.abc import Callable
from typing import Any

import google.auth.transport.grpc
import google.auth.transport.requests
import google.oauth2.service_account
import grpc
import grpc.aio
import pytest

from aio_authgrpc import AiohttpRequest, AuthorizedChannel, AuthRpcError, Token, service_account
from aio_authgrpc._tokens.events import RefreshFailed, RefreshStarted, TokenEvent
from aio_authgrpc._tokens.freshness import backoff_window
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError
from aio_authgrpc.testing import Authority, EchoServer, EchoStub, FakeClock
from aio_authgrpc.tokens import TokenCache, TokenState

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock that starts at the machine's time: google-auth dates its tokens by that."""
    return FakeClock(time.time())


@pytest.fixture
async def cache(authority: Authority, clock: FakeClock):  # type: ignore[no-untyped-def]  # a fixture
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    async with TokenCache(source, clock=clock, rng=random.Random(1)) as cache:
        yield cache


async def refreshed(cache: TokenCache, clock: FakeClock) -> tuple[Token | AuthRpcError, list[float]]:
    """Return what `get()` returns or raises, and the pauses that the clock was moved through."""
    getting, pauses = asyncio.ensure_future(cache.get()), list[float]()
    while not getting.done():
        sleeping = asyncio.ensure_future(clock.wait_for_sleepers())
        await asyncio.wait({getting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        sleeping.cancel()
        if clock.next_wake_up is not None:
            pauses.append(clock.next_wake_up)
            clock.advance(clock.next_wake_up)
    error = getting.exception()
    assert error is None or isinstance(error, AuthRpcError)
    return (getting.result() if error is None else error), pauses


# What is worth a retry

TROUBLE: dict[str, Callable[[Authority, int | None], None]] = {
    "reset": lambda authority, times: authority.reset_connections(times=times),
    **{
        str(status): lambda authority, times, status=status: authority.fail(status, times=times)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        for status in (408, 429, 500, 502, 503, 504)
    },
}


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_trouble_is_tried_again_within_the_refresh(
    authority: Authority, cache: TokenCache, clock: FakeClock, trouble: str
) -> None:
    """The caller waits a little longer and gets its token."""
    TROUBLE[trouble](authority, 2)
    outcome, pauses = await refreshed(cache, clock)
    assert isinstance(outcome, Token)
    assert authority.token_requests == 3
    first, second = pauses
    assert 0 < first <= 0.2
    assert 0 < second <= 0.4


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_trouble_that_stays_is_tried_as_often_as_allowed(
    authority: Authority, cache: TokenCache, clock: FakeClock, trouble: str
) -> None:
    """Three requests; then the back-off holds, however many callers come."""
    TROUBLE[trouble](authority, None)
    outcome, _ = await refreshed(cache, clock)
    assert isinstance(outcome, TokenUnavailableError)
    assert outcome.code() is grpc.StatusCode.UNAVAILABLE
    assert outcome.retryable
    await asyncio.gather(*(cache.get() for _ in range(50)), return_exceptions=True)
    assert authority.token_requests == 3


async def test_a_refused_connection_is_tried_as_often_as_allowed(clock: FakeClock) -> None:
    """The server has gone: two pauses, so three attempts."""
    async with Authority() as authority:
        info = await authority.service_account_info()
    async with TokenCache(service_account(info, scopes=SCOPES), clock=clock) as cache:
        outcome, pauses = await refreshed(cache, clock)
    assert isinstance(outcome, TokenUnavailableError)
    assert len(pauses) == 2


async def test_a_request_that_is_out_of_time_is_tried_again(authority: Authority, clock: FakeClock) -> None:
    """The transport has a time-out of its own; the server holds the first request."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    authority.hold(times=1)
    async with AiohttpRequest(timeout=0.25) as http, TokenCache(source, request=http, clock=clock) as cache:
        outcome, pauses = await refreshed(cache, clock)
    assert isinstance(outcome, Token)
    assert authority.token_requests == 2
    assert len(pauses) == 1


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_attempts_are_counted(authority: Authority, clock: FakeClock, attempts: int) -> None:
    """`attempts` is the number of requests."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    authority.fail(503, times=None)
    async with TokenCache(source, clock=clock, attempts=attempts) as cache:
        outcome, pauses = await refreshed(cache, clock)
    assert isinstance(outcome, TokenUnavailableError)
    assert authority.token_requests == attempts
    assert len(pauses) == attempts - 1


async def test_a_refresh_ends_with_its_budget(authority: Authority, clock: FakeClock) -> None:
    """Attempts that are left do not lengthen it."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    with authority.hold():
        async with TokenCache(source, clock=clock, refresh_timeout=0.1) as cache:
            with pytest.raises(TokenUnavailableError, match=r"no token within 0\.1 s"):
                await cache.get()
    assert authority.token_requests <= 1


# What is asked once


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refusal_is_asked_for_once(
    authority: Authority, cache: TokenCache, clock: FakeClock, status: int
) -> None:
    """The same request would be refused again."""
    authority.fail(status, {"error": "access_denied"}, times=None)
    outcome, pauses = await refreshed(cache, clock)
    assert isinstance(outcome, TokenRefusedError)
    assert not outcome.retryable
    assert authority.token_requests == 1
    assert pauses == []


async def test_a_bad_key_is_asked_for_once(authority: Authority, clock: FakeClock) -> None:
    """The endpoint refuses its signature."""
    info = await authority.service_account_info()
    other = await authority.service_account_info("other@project.iam.gserviceaccount.com")
    source = service_account(info | {"private_key": other["private_key"]}, scopes=SCOPES)
    async with TokenCache(source, clock=clock) as cache:
        outcome, pauses = await refreshed(cache, clock)
    assert isinstance(outcome, TokenRefusedError)
    assert authority.token_requests == 1
    assert pauses == []


async def test_an_invalid_grant_is_asked_for_once_in_each_backoff_window(
    authority: Authority, cache: TokenCache, clock: FakeClock
) -> None:
    """However many callers come. The error is UNAUTHENTICATED, not retryable, and says what to do."""
    authority.revoke("tester@project.iam.gserviceaccount.com")
    for window in range(1, 4):
        outcomes = await asyncio.gather(*(cache.get() for _ in range(100)), return_exceptions=True)
        late = await asyncio.gather(*(cache.get() for _ in range(100)), return_exceptions=True)
        for error in outcomes + late:
            assert isinstance(error, TokenRefusedError)
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert not error.retryable
            assert "revoked" in error.hint
        assert authority.token_requests == window
        clock.advance(backoff_window(window))


# Retry-After


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("header", "pause"), [("0", 0.0), ("2", 2.0), ("5", 5.0)])
async def test_a_short_retry_after_is_waited_for_within_the_refresh(
    authority: Authority, cache: TokenCache, clock: FakeClock, status: int, header: str, pause: float
) -> None:
    """The pause is exactly that long."""
    authority.fail(status, headers={"Retry-After": header})
    outcome, pauses = await refreshed(cache, clock)
    assert isinstance(outcome, Token)
    assert authority.token_requests == 2
    assert pauses == pytest.approx([pause] if pause else [])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("6", 6.0), ("120", 120.0), ("300", 300.0), ("301", 300.0), ("999999999999", 300.0)],
)
async def test_a_long_retry_after_is_the_backoff(
    authority: Authority, cache: TokenCache, clock: FakeClock, header: str, seconds: float
) -> None:
    """Callers fail at once, and the endpoint is left alone, for 5 min at most."""
    authority.fail(503, headers={"Retry-After": header})
    outcome, pauses = await refreshed(cache, clock)
    assert isinstance(outcome, TokenUnavailableError)
    left = (cache.status().next_attempt_at or 0.0) - clock.time()
    assert pauses == []
    assert left == pytest.approx(seconds)
    clock.advance(seconds - 0.1)
    with pytest.raises(TokenUnavailableError):
        await cache.get()
    assert authority.token_requests == 1
    clock.advance(0.2)
    assert isinstance(await cache.get(), Token)


@pytest.mark.parametrize(("seconds", "requests"), [(3, 2), (60, 1)])
async def test_a_retry_after_may_be_a_date(
    authority: Authority, cache: TokenCache, clock: FakeClock, seconds: int, requests: int
) -> None:
    """It counts from the response's `Date`: the server's clock may be wrong."""
    date = datetime.datetime(2031, 5, 4, 3, 2, 1, tzinfo=datetime.UTC)
    until = date + datetime.timedelta(seconds=seconds)
    dates = {"Date": date, "Retry-After": until}
    headers = {name: email.utils.format_datetime(value, usegmt=True) for name, value in dates.items()}
    authority.fail(503, headers=headers)
    _, pauses = await refreshed(cache, clock)
    assert authority.token_requests == requests
    waited = pauses[0] if pauses else (cache.status().next_attempt_at or 0.0) - clock.time()
    assert waited == pytest.approx(seconds)


# An endpoint that is down while the token is good


class Refreshes:
    """The refreshes of a cache: when each began, and when the next one may begin."""

    def __init__(self, cache: TokenCache) -> None:
        self.began: list[float] = []
        self.next_attempts: list[float] = []
        self._changed = asyncio.Event()
        cache.subscribe(self._happened)

    def _happened(self, event: TokenEvent) -> None:
        if isinstance(event, RefreshStarted):
            self.began.append(event.at)
        if isinstance(event, RefreshFailed):
            self.next_attempts.append(event.next_attempt_at)
            self._changed.set()

    async def ended(self) -> None:
        """Let a refresh that was started begin, and wait for its end."""
        await asyncio.sleep(0)
        while len(self.began) > len(self.next_attempts):
            self._changed.clear()
            await self._changed.wait()


async def test_an_endpoint_down_for_the_whole_stale_window_fails_no_call(
    authority: Authority, echo_server: EchoServer, clock: FakeClock
) -> None:
    """With a call every 5 s. The refreshes are spaced by the back-off."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with (
        TokenCache(source, clock=clock, attempts=1, rng=random.Random(1)) as cache,
        AuthorizedChannel(inner, cache) as channel,
    ):
        await cache.get()
        authority.reset_connections(times=None)
        refreshes, stub, calls = Refreshes(cache), EchoStub(channel), 0
        clock.advance(3600 - 230)
        while cache.status().state is not TokenState.EXPIRED:
            assert await stub.UnaryUnary(b"x") == b"x"
            calls += 1
            await refreshes.ended()
            clock.advance(5)
    assert len(echo_server.calls) == calls >= 40
    assert 5 <= len(refreshes.began) == authority.token_requests - 1 < 40
    for began, allowed in zip(refreshes.began[1:], refreshes.next_attempts, strict=False):
        assert began >= allowed


async def test_google_auths_plugin_fails_calls_while_the_token_is_good(
    authority: Authority, echo_server: EchoServer
) -> None:
    """The contrast: 200 s before the token's end, with the endpoint down, its calls fail."""
    make = google.oauth2.service_account.Credentials.from_service_account_info
    info = await authority.service_account_info()
    credentials: Any = await asyncio.to_thread(make, info, scopes=SCOPES)
    request = google.auth.transport.requests.Request()
    await asyncio.to_thread(credentials.refresh, request)
    authority.reset_connections(times=None)
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    credentials.expiry = now + datetime.timedelta(seconds=200)
    plugin = google.auth.transport.grpc.AuthMetadataPlugin(credentials, request)  # type: ignore[no-untyped-call]  # google-auth has no types
    both = grpc.composite_channel_credentials(
        echo_server.ssl_credentials, grpc.metadata_call_credentials(plugin)
    )
    async with grpc.aio.secure_channel(echo_server.target, both) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="metadata from plugin failed") as caught:
            await EchoStub(channel).UnaryUnary(b"x")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert echo_server.calls == []
    request.session.close()
