"""The guard of the test servers: its verdicts, and the keys that it fetches. `tests/envoy` asks Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.testing import JWKS_PATH, Authority, BookstoreServer, FakeClock
from aio_authgrpc.testing.guard.keys import RemoteKeys
from aio_authgrpc.testing.guard.refusal import RefusedError
from aio_authgrpc.testing.guard.token import read_jwt
from tests.support.jwt_forge import FORGED, HEADER_JSON, NO_KEY, PAYLOAD_JSON, Forge, answers, encoded
from tests.support.jwt_variants import FAMILIES

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
FETCH_FAILED = "Jwks remote fetch is failed"


@pytest.mark.parametrize("family", FAMILIES)
async def test_guard_gives_the_verdict_of_the_table(authority: Authority, family: str) -> None:
    """What the table says of Envoy 1.40 holds for the guard."""
    variants = list(FAMILIES[family]())
    async with (
        BookstoreServer(authority, audience="https://bookstore.example.com", tls=False) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        found = await answers(channel, variants, Forge(authority=authority, audience=server.audience))
    expected = {variant.name: variant.answer for variant in variants}
    assert {name: (found[name], expected[name]) for name in found if found[name] != expected[name]} == {}


@pytest.mark.parametrize(("open_", "close"), [("[", "]"), ('{"a":', "}"), ("[", "")])
@pytest.mark.parametrize("section", ["header", "payload"])
def test_token_of_any_depth_is_refused_like_one_of_101_levels(section: str, open_: str, close: str) -> None:
    """Reading it needs no more of the stack. A call has no room for it; a key server's answer has."""
    deep = f'{{"alg": "RS256", "x": {open_ * 100_000}1{close * 100_000}}}'
    sections = {"header": '{"alg": "RS256"}', "payload": "{}"} | {section: deep}
    with pytest.raises(RefusedError) as refused:
        read_jwt(f"{encoded(sections['header'])}.{encoded(sections['payload'])}.AAAA")
    assert refused.value.details == {"header": HEADER_JSON, "payload": PAYLOAD_JSON}[section]


# Keys


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def authority(clock: FakeClock, request: pytest.FixtureRequest) -> AsyncIterator[Authority]:
    """Give an authority with the clock; the table's tokens are made with the machine's."""
    of_the_table = "family" in request.fixturenames
    async with Authority(clock=None if of_the_table else clock) as authority:
        yield authority


@pytest.fixture
async def server(authority: Authority, clock: FakeClock) -> AsyncIterator[BookstoreServer]:
    async with BookstoreServer(authority, clock=clock, tls=False) as server:
        yield server


@pytest.fixture
async def bookstore(server: BookstoreServer) -> AsyncIterator[BookstoreStub]:
    async with grpc.aio.insecure_channel(server.target) as channel:
        yield BookstoreStub(channel)


def begin(bookstore: BookstoreStub, token: str) -> Any:
    return bookstore.ListShelves(Empty(), metadata=(("authorization", f"Bearer {token}"),), timeout=10)


async def details(bookstore: BookstoreStub, token: str) -> str | None:
    """Return the details of the answer to a call with a token; "" is those of OK."""
    return await begin(bookstore, token).details()  # type: ignore[no-any-return]  # a call of the stub


def key_requests(authority: Authority) -> int:
    return sum(request.path == JWKS_PATH for request in authority.requests)


async def unknown_key(authority: Authority, number: int = 0) -> str:
    """Return a token with a key id that nobody publishes."""
    return authority.issue_access_token(key=await authority.foreign_key(key_id=f"unknown-{number}"))


async def test_unknown_key_ids_fetch_the_keys_once(authority: Authority, bookstore: BookstoreStub) -> None:
    """However many forged tokens come, each with an id of its own, and known keys go on being accepted."""
    for number in range(5):
        assert await details(bookstore, await unknown_key(authority, number)) == NO_KEY
    assert await details(bookstore, authority.issue_access_token()) == ""
    assert key_requests(authority) == 1


async def test_known_keys_are_asked_for_again_once_for_unknown_ids(
    authority: Authority, bookstore: BookstoreStub
) -> None:
    """Keys that are kept may be old: the first unknown id fetches them."""
    assert await details(bookstore, authority.issue_access_token()) == ""
    for number in range(5):
        assert await details(bookstore, await unknown_key(authority, number)) == NO_KEY
    assert key_requests(authority) == 2


async def test_unknown_key_id_fetches_again_after_the_window(
    authority: Authority, bookstore: BookstoreStub, clock: FakeClock
) -> None:
    """Half a minute later the key may have been published."""
    await details(bookstore, await unknown_key(authority))
    clock.advance(29)
    await details(bookstore, await unknown_key(authority))
    assert key_requests(authority) == 1
    clock.advance(1)
    await details(bookstore, await unknown_key(authority))
    assert key_requests(authority) == 2


async def test_each_rotation_is_followed_at_once(authority: Authority, bookstore: BookstoreStub) -> None:
    """A look-up that brings the key starts no window."""
    for _ in range(3):
        assert await details(bookstore, authority.issue_access_token()) == ""
        await authority.rotate_keys(keep_old=False)
    assert key_requests(authority) == 3


async def test_forgotten_keys_end_the_window(
    authority: Authority, server: BookstoreServer, bookstore: BookstoreStub
) -> None:
    """A test that rotates right after a forged token says so."""
    await details(bookstore, await unknown_key(authority))
    await authority.rotate_keys(keep_old=False)
    assert await details(bookstore, authority.issue_access_token()) == NO_KEY
    server.forget_keys()
    assert await details(bookstore, authority.issue_access_token()) == ""


async def test_known_key_id_of_another_key_fetches_nothing(
    authority: Authority, bookstore: BookstoreStub
) -> None:
    """The signature is wrong, and another look-up would bring the same key."""
    for _ in range(3):
        forged = authority.issue_access_token(key=await authority.foreign_key())
        assert await details(bookstore, forged) == FORGED
    assert key_requests(authority) == 1


@pytest.fixture
async def keys(clock: FakeClock) -> AsyncIterator[RemoteKeys]:
    keys = RemoteKeys(clock=clock)
    yield keys
    await keys.aclose()


def ask(keys: RemoteKeys, authority: Authority, token: str) -> asyncio.Task[None]:
    return asyncio.create_task(keys.check_signature(read_jwt(token), authority.jwks_url))


async def test_calls_at_the_same_time_share_a_request(authority: Authority, keys: RemoteKeys) -> None:
    """It serves the calls that came meanwhile, good tokens and forged ones."""
    with authority.hold(path=JWKS_PATH) as gate:
        forged = [ask(keys, authority, await unknown_key(authority, number)) for number in range(10)]
        good = [ask(keys, authority, authority.issue_access_token()) for _ in range(10)]
        await gate.arrived.wait()
    await asyncio.wait([*forged, *good])
    assert [str(one.exception()) for one in forged] == [NO_KEY] * 10
    assert [one.exception() for one in good] == [None] * 10
    assert key_requests(authority) == 1


async def test_request_for_keys_outlives_the_call_that_began_it(
    authority: Authority, keys: RemoteKeys
) -> None:
    """Others wait for it, too."""
    with authority.hold(path=JWKS_PATH) as gate:
        first, *others = [ask(keys, authority, authority.issue_access_token()) for _ in range(4)]
        await gate.arrived.wait()
        first.cancel()
        await asyncio.wait([first])
    assert await asyncio.gather(*others) == [None] * 3
    assert first.cancelled()
    assert key_requests(authority) == 1


async def test_failed_request_refuses_those_who_wait_and_no_one_else(
    authority: Authority, keys: RemoteKeys
) -> None:
    """The next call asks again."""
    authority.fail(times=1, path=JWKS_PATH)
    with authority.hold(path=JWKS_PATH) as gate:
        calls = [ask(keys, authority, authority.issue_access_token()) for _ in range(3)]
        await gate.arrived.wait()
    await asyncio.wait(calls)
    assert [str(call.exception()) for call in calls] == [FETCH_FAILED] * 3
    await ask(keys, authority, authority.issue_access_token())
    assert key_requests(authority) == 2


@pytest.mark.parametrize(
    "document",
    [
        f'{{"keys": {"[" * 100_000}{"]" * 100_000}}}',
        "[]",
        '{"keys": [{"kty": "RSA", "kid": "1", "n": 1, "e": []}]}',
        '{"1": "no certificate"}',
    ],
    ids=["deep", "list", "no-key", "no-certificate"],
)
async def test_document_that_holds_no_keys_refuses_the_call(
    authority: Authority, bookstore: BookstoreStub, document: str
) -> None:
    """The server goes on, and the next call asks again."""
    authority.fail(200, document, path=JWKS_PATH)
    call = begin(bookstore, authority.issue_access_token())
    assert (await call.code(), await call.details()) == (UNAUTHENTICATED, FETCH_FAILED)
    assert await details(bookstore, authority.issue_access_token()) == ""


async def test_closing_ends_a_request_for_keys(
    authority: Authority, server: BookstoreServer, bookstore: BookstoreStub
) -> None:
    """A key server that does not answer does not keep the server open."""
    with authority.hold(path=JWKS_PATH) as gate:
        call = begin(bookstore, authority.issue_access_token())
        await gate.arrived.wait()
        await server.aclose()
        assert await call.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("keys of")]
