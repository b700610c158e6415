"""ScriptedTokens: a token source that does what the test orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from aio_authgrpc import AiohttpRequest, Token, TokenRequest, TokenSource
from aio_authgrpc.testing import ScriptedTokens


@pytest.fixture
async def request_at_100() -> AsyncIterator[TokenRequest]:
    async with AiohttpRequest() as http:
        yield TokenRequest(http=http, audience="https://host", time=100)


async def values(source: ScriptedTokens, request: TokenRequest, count: int) -> list[str]:
    return [(await source.fetch(request)).value for _ in range(count)]


def test_it_is_a_token_source() -> None:
    """`connect` and `TokenCache` take it as it is."""
    assert isinstance(ScriptedTokens(), TokenSource)


async def test_tokens_are_numbered_by_their_fetch(request_at_100: TokenRequest) -> None:
    """Two tokens can be told apart."""
    assert await values(ScriptedTokens(), request_at_100, 2) == ["token-1", "token-2"]


@pytest.mark.parametrize(("lifetime", "expires_at"), [(3600, 3700), (-5, 95), (None, None)])
async def test_a_token_lives_from_the_time_of_its_request(
    request_at_100: TokenRequest, lifetime: float | None, expires_at: float | None
) -> None:
    """A `FakeClock` dates it; None never expires."""
    assert (await ScriptedTokens(lifetime=lifetime).fetch(request_at_100)).expires_at == expires_at


async def test_the_lifetime_can_change_between_fetches(request_at_100: TokenRequest) -> None:
    """As a token endpoint's can."""
    source = ScriptedTokens("abc")
    await source.fetch(request_at_100)
    source.lifetime = 1
    assert (await source.fetch(request_at_100)).expires_at == 101


async def test_given_tokens_come_in_order_and_the_last_one_stays(request_at_100: TokenRequest) -> None:
    """A `Token` is returned as it is, with its own end."""
    token = Token("two", expires_at=7, scheme="")
    source = ScriptedTokens("one", token)
    assert (await source.fetch(request_at_100)).value == "one"
    assert await source.fetch(request_at_100) is token
    assert await source.fetch(request_at_100) is token


async def test_a_failure_is_raised_as_often_as_ordered(request_at_100: TokenRequest) -> None:
    """Once by default; the fetch counts."""
    source = ScriptedTokens()
    source.fail(OSError("down"))
    with pytest.raises(OSError, match="down"):
        await source.fetch(request_at_100)
    assert await values(source, request_at_100, 1) == ["token-2"]


async def test_a_failed_fetch_uses_no_given_token_up(request_at_100: TokenRequest) -> None:
    """It waits for the next fetch."""
    source = ScriptedTokens("one", "two")
    source.fail(OSError("down"))
    with pytest.raises(OSError, match="down"):
        await source.fetch(request_at_100)
    assert await values(source, request_at_100, 2) == ["one", "two"]


async def test_failures_come_in_the_order_of_their_ordering(request_at_100: TokenRequest) -> None:
    """Each as often as it was ordered, until `behave()`."""
    source, seen = ScriptedTokens(), list[str]()
    source.fail(OSError("first"), times=2)
    source.fail(OSError("then"), times=None)
    for _ in range(4):
        with pytest.raises(OSError, match=r"first|then") as caught:
            await source.fetch(request_at_100)
        seen.append(str(caught.value))
    source.behave()
    assert seen == ["first", "first", "then", "then"]
    assert await values(source, request_at_100, 1) == ["token-5"]


async def test_a_held_fetch_waits_for_the_gate(request_at_100: TokenRequest) -> None:
    """And counts while it waits."""
    source = ScriptedTokens()
    with source.hold() as gate:
        fetching = asyncio.create_task(source.fetch(request_at_100))
        await gate.arrived.wait()
        assert source.requests == [request_at_100]
        assert not fetching.done()
    assert (await fetching).value == "token-1"


async def test_a_failure_ordered_while_a_fetch_is_held_is_its_outcome(request_at_100: TokenRequest) -> None:
    """The gate comes first, so a test can decide while it waits."""
    source = ScriptedTokens()
    with source.hold(times=1) as gate:
        fetching = asyncio.create_task(source.fetch(request_at_100))
        await gate.arrived.wait()
        source.fail(OSError("down"))
    with pytest.raises(OSError, match="down"):
        await fetching
    assert await values(source, request_at_100, 1) == ["token-2"]


async def test_behave_releases_every_gate(request_at_100: TokenRequest) -> None:
    """Both that are waited at, and for the fetches to come."""
    source = ScriptedTokens()
    gates = [source.hold(), source.hold()]
    fetching = asyncio.create_task(source.fetch(request_at_100))
    await gates[0].arrived.wait()
    source.behave()
    assert (await fetching).value == "token-1"
    assert await values(source, request_at_100, 1) == ["token-2"]


async def test_a_cancelled_fetch_leaves_the_gate(request_at_100: TokenRequest) -> None:
    """Its request stays recorded."""
    source = ScriptedTokens()
    gate = source.hold()
    fetching = asyncio.create_task(source.fetch(request_at_100))
    await gate.arrived.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert gate.waiting == 0
    assert source.fetches == 1


@pytest.mark.parametrize("times", [0, -1])
def test_no_times_is_refused(times: int) -> None:
    """As for the servers' orders."""
    with pytest.raises(ValueError, match="times must be 1 or more"):
        ScriptedTokens().fail(OSError("down"), times=times)
