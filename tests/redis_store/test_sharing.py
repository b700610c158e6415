"""One token for several stores, each of which stands for a process with a client of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from aio_authgrpc import Token, TokenRequest, static_token, token_source
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc._tokens.across_loops import TokensAcrossLoops
from aio_authgrpc.errors import TokenUnavailableError
from aio_authgrpc.testing import ScriptedTokens
from aio_authgrpc.tokens import TokenCache, TokenState

from .conftest import KEY, OTHER_KEY, MakeStore, WatchedClock, advance_until

Asked = Callable[..., TokenRequest]

# Seconds. The time for which a lease is held at most, on Redis's own clock: a test does not wait for more.
SHORT = 0.2


def shared(make: MakeStore, source: Any, *keys: bytes, identity: str = "orders", **arguments: Any) -> Any:
    """Return the shared source of a new process."""
    return make(*keys, **arguments).share(source, identity=identity)


async def test_the_second_process_gets_the_first_ones_token(make_store: MakeStore, asked: Asked) -> None:
    """It makes no token request."""
    first, second = ScriptedTokens("a-token"), ScriptedTokens("another")
    await shared(make_store, first).fetch(asked())
    token = await shared(make_store, second).fetch(asked())
    assert token.value == "a-token"
    assert second.fetches == 0


async def test_all_of_a_token_comes_back(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """Its scheme and its metadata are sent, too, and its end is known."""
    token = Token(
        "a-token",
        scheme="DPoP",
        metadata=(("x-goog-user-project", "p"),),
        expires_at=fake_clock.time() + 600,
    )
    await shared(make_store, ScriptedTokens(token)).fetch(asked())
    found = await shared(make_store, ScriptedTokens("another")).fetch(asked())
    assert found.replace(expires_at=token.expires_at) == token
    assert found.expires_at == pytest.approx(token.expires_at, abs=5)


@pytest.mark.parametrize(
    ("other", "request_changes"),
    [
        pytest.param({"identity": "billing"}, {}, id="identity"),
        pytest.param({}, {"audience": "https://billing.example.com"}, id="audience"),
    ],
)
async def test_another_identity_or_audience_has_another_token(
    make_store: MakeStore, asked: Asked, other: dict[str, Any], request_changes: dict[str, Any]
) -> None:
    """No identity is replaced by another one."""
    await shared(make_store, ScriptedTokens("a-token")).fetch(asked())
    token = await shared(make_store, ScriptedTokens("another"), **other).fetch(asked(**request_changes))
    assert token.value == "another"


async def test_a_process_waits_for_the_one_that_asks(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """The second one looks again, and makes no request."""
    first, second = ScriptedTokens("a-token"), ScriptedTokens("another")
    gate = first.hold()
    asking = asyncio.create_task(shared(make_store, first).fetch(asked()))
    await gate.arrived.wait()
    waiting = asyncio.create_task(shared(make_store, second).fetch(asked()))
    await fake_clock.waiting.wait()
    gate.release()
    await asking
    fake_clock.advance(0.02)
    assert (await waiting).value == "a-token"
    assert second.fetches == 0


async def test_a_failed_request_lets_another_process_ask(make_store: MakeStore, asked: Asked) -> None:
    """The lease is given back at once."""
    failing = ScriptedTokens("a-token")
    failing.fail(TokenUnavailableError("not now"))
    with pytest.raises(TokenUnavailableError):
        await shared(make_store, failing).fetch(asked())
    assert (await shared(make_store, ScriptedTokens("another")).fetch(asked())).value == "another"


async def test_a_cancelled_request_lets_another_process_ask(make_store: MakeStore, asked: Asked) -> None:
    """The lease is given back at once."""
    source = ScriptedTokens("a-token")
    with source.hold() as gate:
        fetching = asyncio.create_task(shared(make_store, source).fetch(asked()))
        await gate.arrived.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert (await shared(make_store, ScriptedTokens("another")).fetch(asked())).value == "another"


async def test_a_cancelled_wait_leaves_the_other_process_alone(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """Its token arrives for all who come later."""
    first, third = ScriptedTokens("a-token"), ScriptedTokens("another")
    gate = first.hold()
    asking = asyncio.create_task(shared(make_store, first).fetch(asked()))
    await gate.arrived.wait()
    waiting = asyncio.create_task(shared(make_store, ScriptedTokens()).fetch(asked()))
    await fake_clock.waiting.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.release()
    await asking
    assert (await shared(make_store, third).fetch(asked())).value == "a-token"


async def test_a_wait_that_takes_too_long_ends_with_a_request(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """A process that was stopped while it has the lease delays the others by 2.5 times the lease at most."""
    first, second = ScriptedTokens("a-token"), ScriptedTokens("another")
    with first.hold() as gate:
        asking = asyncio.create_task(shared(make_store, first, lease=60.0).fetch(asked()))
        await gate.arrived.wait()
        waiting = asyncio.create_task(shared(make_store, second, lease=5.0).fetch(asked()))
        await fake_clock.waiting.wait()
        fake_clock.advance(12.5)
        assert (await waiting).value == "another"
    await asking


async def test_one_process_takes_over_when_a_lease_ends(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any], fake_clock: WatchedClock
) -> None:
    """The others wait on, for its token."""
    late, second = ScriptedTokens("late"), ScriptedTokens("second")
    limits = {"lease": 100.0, "timeout": 3600.0}
    with late.hold() as gate:
        asking = asyncio.create_task(shared(make_store, late, **limits).fetch(asked()))
        await gate.arrived.wait()
        processes = [shared(make_store, second, **limits) for _ in range(8)]
        waiting = asyncio.gather(*(process.fetch(asked()) for process in processes))
        await fake_clock.waiting.wait()
        fake_clock.advance(100.0)
        redis = connect_redis()
        await redis.delete(*await redis.keys("*:lease"))
        await advance_until(waiting, fake_clock)
        assert {token.value for token in waiting.result()} == {"second"}
        assert second.fetches == 1
    await asking


async def test_a_token_with_a_far_end_is_stored_for_a_day(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Redis refuses a time that it cannot hold."""
    far = Token("far", expires_at=float(sys.maxsize))
    assert await shared(make_store, ScriptedTokens(far)).fetch(asked()) == far
    redis = connect_redis()
    (name,) = await redis.keys("*")
    assert 0 < await redis.pttl(name) <= 86_400_000
    assert (await shared(make_store, ScriptedTokens("another")).fetch(asked())).value == "far"
    assert caplog.text == ""


async def test_a_lease_ends_by_itself(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any]
) -> None:
    """A process that died holds up nobody for longer."""
    dead = ScriptedTokens()
    with dead.hold() as gate:
        asking = asyncio.create_task(shared(make_store, dead, lease=SHORT).fetch(asked()))
        await gate.arrived.wait()
        redis = connect_redis()
        (lease,) = await redis.keys("*:lease")
        assert 0 < await redis.pttl(lease) <= SHORT * 1000
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_late_token_does_not_replace_a_newer_one(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any]
) -> None:
    """The process was stopped, lost its lease, and came back after another one had stored its token."""
    late = ScriptedTokens("late")
    gate = late.hold()
    asking = asyncio.create_task(shared(make_store, late).fetch(asked()))
    await gate.arrived.wait()
    redis = connect_redis()
    await redis.delete(*await redis.keys("*:lease"))  # as when its time is over, or a failover loses it
    await shared(make_store, ScriptedTokens("newer")).fetch(asked())
    gate.release()
    assert (await asking).value == "late"
    assert (await shared(make_store, ScriptedTokens("another")).fetch(asked())).value == "newer"


async def test_a_late_process_does_not_end_the_lease_of_another(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any]
) -> None:
    """Neither by its token nor by its failure."""
    late, newer = ScriptedTokens(), ScriptedTokens("newer")
    late_gate, newer_gate = late.hold(), newer.hold()
    asking = asyncio.create_task(shared(make_store, late).fetch(asked()))
    await late_gate.arrived.wait()
    redis = connect_redis()
    await redis.delete(*await redis.keys("*:lease"))
    asking_too = asyncio.create_task(shared(make_store, newer).fetch(asked()))
    await newer_gate.arrived.wait()
    late_gate.release()
    await asking
    assert len(await redis.keys("*:lease")) == 1
    newer_gate.release()
    await asking_too
    assert (await shared(make_store, ScriptedTokens("another")).fetch(asked())).value == "newer"


async def test_an_unwanted_token_does_not_come_back(make_store: MakeStore, asked: Asked) -> None:
    """A server refused it: one process replaces it, and the others get the new one."""
    source = ScriptedTokens("refused", "new")
    process = shared(make_store, source)
    refused = await process.fetch(asked())
    await process.fetch(asked(unwanted=refused))
    other = shared(make_store, ScriptedTokens("another"))
    assert (await other.fetch(asked(unwanted=refused))).value == "new"


async def test_a_token_that_was_unwanted_once_stays_so(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any]
) -> None:
    """A failover brings back what the store held before."""
    redis = connect_redis()
    process = shared(make_store, ScriptedTokens("refused", "new", "newest"))
    refused = await process.fetch(asked())
    (name,) = await redis.keys("*:token")
    before = await redis.dump(name)
    new = await process.fetch(asked(unwanted=refused))
    await redis.restore(name, 3_600_000, before, replace=True)
    assert (await process.fetch(asked(unwanted=new))).value == "newest"


async def test_a_token_without_an_end_is_not_stored(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any]
) -> None:
    """Nothing would ever take it away."""
    await shared(make_store, ScriptedTokens("a-token", lifetime=None)).fetch(asked())
    assert await connect_redis().keys("*:token") == []


async def test_processes_whose_tokens_have_no_end_do_not_wait_for_each_other(
    make_store: MakeStore, asked: Asked
) -> None:
    """Each would wait for a token that never comes."""
    await shared(make_store, ScriptedTokens(lifetime=None)).fetch(asked())
    asks = ScriptedTokens(lifetime=None)
    with asks.hold() as gate:
        asking = asyncio.create_task(shared(make_store, asks).fetch(asked()))
        await gate.arrived.wait()
        third = await shared(make_store, ScriptedTokens(lifetime=None)).fetch(asked())
        assert third.value == "token-1"
    await asking


async def test_a_store_is_asked_again_once_tokens_have_an_end(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Until then it is left alone, and the log says so once."""
    redis = connect_redis()
    source = ScriptedTokens(Token("1"), Token("2"), Token("3", expires_at=asked().time + 3600), "4")
    process = shared(make_store, source)
    await process.fetch(asked())
    await redis.delete(*await redis.keys("*"))
    await process.fetch(asked())
    assert await redis.keys("*") == []
    await process.fetch(asked())
    await process.fetch(asked())
    assert len(await redis.keys("*:token")) == 1
    assert caplog.text.count("have no end") == 1


async def test_a_token_vanishes_with_its_end(
    make_store: MakeStore, asked: Asked, connect_redis: Callable[..., Any]
) -> None:
    """The store forgets it by itself."""
    await shared(make_store, ScriptedTokens("a-token", lifetime=600)).fetch(asked())
    redis = connect_redis()
    (name,) = await redis.keys("*")
    assert 0 < await redis.pttl(name) <= 600_000


async def test_a_stale_token_serves_a_new_process_and_is_replaced_once(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """The call is served at once; of two processes, one refreshes in the background."""
    sources = [ScriptedTokens("old", "new"), ScriptedTokens("another")]
    first, second = (shared(make_store, source) for source in sources)
    await first.fetch(asked())
    fake_clock.advance(3600 - 200)
    stale = await second.fetch(asked())
    assert stale.value == "old"
    assert (await first.fetch(asked(unwanted=stale))).value == "new"
    assert (await second.fetch(asked(unwanted=stale))).value == "new"
    assert [source.fetches for source in sources] == [2, 0]


async def test_a_stale_token_does_not_replace_another_stale_one(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """A process that was served without the store has a stale token of its own."""
    await shared(make_store, ScriptedTokens("old")).fetch(asked())
    fake_clock.advance(3600 - 200)
    process = shared(make_store, ScriptedTokens("new"))
    assert (await process.fetch(asked(unwanted=Token("own")))).value == "new"


async def test_one_name_for_two_known_identities_shares_nothing(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """A name that was copied gives nobody the tokens of another account."""

    async def orders() -> Token:
        return Token("of-orders", expires_at=fake_clock.time() + 3600)

    async def billing() -> Token:
        return Token("of-billing", expires_at=fake_clock.time() + 3600)

    values = [
        (await shared(make_store, token_source(function)).fetch(asked())).value
        for function in (orders, billing, orders)
    ]
    assert values == ["of-orders", "of-billing", "of-orders"]


async def test_an_expired_token_is_replaced(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """This machine's clock may be ahead of the store's."""
    await shared(make_store, ScriptedTokens("old")).fetch(asked())
    fake_clock.advance(3600 - 10)
    assert (await shared(make_store, ScriptedTokens("new")).fetch(asked())).value == "new"


async def test_a_clock_that_is_behind_makes_no_token_live_longer(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """The store counts the seconds that are left."""
    token = await shared(make_store, ScriptedTokens("a-token", lifetime=600)).fetch(asked())
    fake_clock.jump(-300)
    found = await shared(make_store, ScriptedTokens("another")).fetch(asked())
    assert found.value == "a-token"
    assert found.expires_at == pytest.approx((token.expires_at or 0) - 300, abs=5)


async def test_a_cache_knows_the_age_of_a_shared_token(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """A young token that is refused is refused for good; an old one is replaced, and its call sent again."""
    await shared(make_store, ScriptedTokens("old")).fetch(asked())
    fake_clock.advance(60)
    audience = asked().audience
    async with TokenCache(
        shared(make_store, ScriptedTokens("new")), audience=audience, clock=fake_clock
    ) as cache:
        old = await cache.get()
        assert old.value == "old"
        assert cache.status().state is TokenState.FRESH
        assert cache.reject(old)
        fake_clock.advance(1)  # between two refreshes
        assert (await cache.get()).value == "new"


async def test_the_age_of_a_token_is_known_among_several(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """The oldest one counts where a call carries a token for each of two headers."""
    await shared(make_store, ScriptedTokens("old")).fetch(asked())
    fake_clock.advance(60)
    both = {"authorization": shared(make_store, ScriptedTokens("new")), "x-other": static_token("fixed")}
    audience = asked().audience
    async with TokenCache(as_token_source(both), audience=audience, clock=fake_clock) as cache:
        old = await cache.get()
        assert old.value == "old"
        assert cache.reject(old)


async def test_the_age_of_a_token_is_known_across_loops(
    make_store: MakeStore, asked: Asked, fake_clock: WatchedClock
) -> None:
    """A lazy channel has a source around this one."""
    await shared(make_store, ScriptedTokens("old")).fetch(asked())
    fake_clock.advance(60)
    source = TokensAcrossLoops(shared(make_store, ScriptedTokens("new")))
    old = await source.fetch(asked())
    assert source.age_of(old, fake_clock.time()) == pytest.approx(60, abs=5)


async def test_a_new_key_reads_what_the_old_one_has_stored(make_store: MakeStore, asked: Asked) -> None:
    """The token goes over to the new key, so that the old one can be taken out."""
    await shared(make_store, ScriptedTokens("a-token"), KEY).fetch(asked())
    both = await shared(make_store, ScriptedTokens("another"), OTHER_KEY, KEY).fetch(asked())
    alone = await shared(make_store, ScriptedTokens("another"), OTHER_KEY).fetch(asked())
    assert both.value == "a-token"
    assert alone.value == "a-token"


async def test_a_process_without_the_key_gets_no_token(make_store: MakeStore, asked: Asked) -> None:
    """It fetches one for itself."""
    await shared(make_store, ScriptedTokens("a-token"), KEY).fetch(asked())
    assert (await shared(make_store, ScriptedTokens("own"), OTHER_KEY).fetch(asked())).value == "own"
