"""What somebody sees, and can do, who has the store and not the key."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from google.oauth2.credentials import Credentials

from aio_authgrpc import AiohttpRequest, ConfigurationError, Token, TokenRequest, static_token
from aio_authgrpc.redis.client import Found
from aio_authgrpc.testing import Authority, RedisServer, ScriptedTokens

from .conftest import KEY, OTHER_KEY, MakeStore, WatchedClock

Asked = Callable[..., TokenRequest]

IDENTITY = "orders@project.iam.gserviceaccount.com"


async def everything_in(redis: Any, server: RedisServer) -> bytes:
    """Return all keys and values of the store as it answers, and its file."""
    found = b""
    for name in await redis.keys("*"):
        kind = await redis.type(name)
        found += name + (b"".join((await redis.hgetall(name)).values()) if kind == b"hash" else b"")
        found += await redis.dump(name)
    await redis.save()
    return bytes(found + server.dump.read_bytes())


@pytest.mark.parametrize("metadata", [(), (("x-serverless-authorization", "Bearer second-token"),)])
async def test_a_dump_shows_neither_token_nor_identity(
    make_store: MakeStore,
    connect_redis: Callable[..., Any],
    redis_server: RedisServer,
    asked: Asked,
    fake_clock: WatchedClock,
    metadata: Any,
) -> None:
    """Nor the audience, nor the key."""
    token = Token("first-token", metadata=metadata, expires_at=fake_clock.time() + 3600)
    source = make_store(KEY).share(ScriptedTokens(token), identity=IDENTITY)
    await source.fetch(asked())
    found = await everything_in(connect_redis(), redis_server)
    assert len(found) > 500
    for secret in (b"first-token", b"second-token", b"orders", b"gserviceaccount", b"example.com", KEY):
        assert secret not in found


async def test_a_dump_can_show_what_is_looked_for(
    connect_redis: Callable[..., Any], redis_server: RedisServer
) -> None:
    """The search above finds what is there."""
    redis = connect_redis()
    await redis.hset("a", "value", "first-token")
    assert (await everything_in(redis, redis_server)).count(b"first-token") > 1


async def test_a_refresh_token_is_not_stored(
    make_store: MakeStore, connect_redis: Callable[..., Any], redis_server: RedisServer, authority: Authority
) -> None:
    """Nor a client secret: the login stays where it is."""
    info = authority.user_info()
    login: Any = Credentials.from_authorized_user_info(info)  # type: ignore[no-untyped-call]  # google-auth has no types
    source = make_store().share(login.with_token_uri(authority.token_uri), identity="someone")
    async with AiohttpRequest() as http:
        await source.fetch(TokenRequest(http=http, audience="", time=time.time()))
    found = await everything_in(connect_redis(), redis_server)
    assert len(found) > 100
    for name in ("refresh_token", "client_secret", "client_id"):
        assert info[name].encode() not in found


async def test_values_that_were_swapped_are_refused(
    make_store: MakeStore, connect_redis: Callable[..., Any], asked: Asked
) -> None:
    """A value opens under its own name alone: nobody is given another one's token."""
    redis = connect_redis()
    await make_store().share(ScriptedTokens("mine"), identity="mine").fetch(asked())
    (mine,) = await redis.keys("*")
    await make_store().share(ScriptedTokens("yours"), identity="yours").fetch(asked())
    (yours,) = set(await redis.keys("*")) - {mine}
    await redis.restore(mine, 3_600_000, await redis.dump(yours), replace=True)
    token = await make_store().share(ScriptedTokens("another"), identity="mine").fetch(asked())
    assert token.value == "another"


async def test_equal_identities_have_other_names_under_another_key(
    make_store: MakeStore, connect_redis: Callable[..., Any], asked: Asked
) -> None:
    """A name tells nothing to those who guess the identity."""
    for key in (KEY, OTHER_KEY):
        await make_store(key).share(ScriptedTokens("a-token"), identity=IDENTITY).fetch(asked())
    assert len(await connect_redis().keys("*")) == 2


async def test_the_length_of_a_value_tells_little(
    make_store: MakeStore, connect_redis: Callable[..., Any], asked: Asked
) -> None:
    """Values are padded."""
    for value in ("a", "a" * 50):
        await make_store().share(ScriptedTokens(value), identity=value).fetch(asked())
    redis = connect_redis()
    assert len({await redis.hstrlen(name, "value") for name in await redis.keys("*")}) == 1


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        pytest.param({"keys": [b"short"]}, "keys", "32 bytes, and one of 5", id="short"),
        pytest.param({"keys": [bytes(33)]}, "keys", "32 bytes, and one of 33", id="long"),
        pytest.param({"keys": ["x" * 32]}, "keys", "expected bytes, not str", id="text"),
        pytest.param({"keys": bytes(32)}, "keys", "expected a list of keys, not bytes", id="no-list"),
        pytest.param({"keys": []}, "keys", "there is none", id="none"),
        pytest.param({"timeout": 0}, "timeout", "not a positive number", id="timeout"),
        pytest.param({"lease": -1}, "lease", "not a positive number", id="lease"),
        pytest.param({"lease": 0.0004}, "lease", "not within 0.1 and 3600", id="short-lease"),
        pytest.param({"lease": 1e300}, "lease", "not within 0.1 and 3600", id="long-lease"),
        pytest.param({"rng": 5}, "rng", "expected Random or None, not int", id="rng"),
        pytest.param({"clock": time}, "clock", "expected a Clock, not module", id="clock"),
        pytest.param({"prefix": "a{b}"}, "prefix", "brace", id="prefix"),
        pytest.param({"client": "redis://localhost"}, "client", r"not builtins\.str", id="client"),
        pytest.param(
            {"client": type("Redis", (), {"eval": print})}, "client", r"not builtins\.type", id="class"
        ),
        pytest.param({"client": "synchronous"}, "client", r"not redis\.client\.Redis", id="synchronous"),
    ],
)
def test_a_mistake_names_its_argument(arguments: dict[str, Any], field: str, words: str) -> None:
    """The error is raised where the store is made, and shows no key."""
    import redis.asyncio

    from aio_authgrpc.redis import SharedTokenStore

    given = {"client": redis.asyncio.Redis(), "keys": [KEY], **arguments}
    if given["client"] == "synchronous":
        given["client"] = redis.Redis()
    with pytest.raises(ConfigurationError, match=words) as caught:
        SharedTokenStore(given.pop("client"), **given)
    assert caught.value.field == field
    assert "x" * 32 not in str(caught.value)


@pytest.mark.parametrize(
    ("credentials", "identity", "field"),
    [
        pytest.param(ScriptedTokens(), "", "identity", id="empty"),
        pytest.param(ScriptedTokens(), None, "identity", id="none"),
        pytest.param("a-token", "orders", "credentials", id="credentials"),
    ],
)
async def test_what_cannot_be_shared_is_refused(
    make_store: MakeStore, credentials: Any, identity: Any, field: str
) -> None:
    """Where it was written."""
    with pytest.raises(ConfigurationError) as caught:
        make_store().share(credentials, identity=identity)
    assert caught.value.field == field


@pytest.mark.parametrize("is_mapping", [False, True])
async def test_shared_credentials_are_not_shared_again(make_store: MakeStore, is_mapping: bool) -> None:
    """The outer name would stand for whatever the inner one is."""
    store = make_store()
    inner = store.share(ScriptedTokens(), identity="inner")
    with pytest.raises(ConfigurationError, match="shared already"):
        store.share({"authorization": inner} if is_mapping else inner, identity="outer")


def test_a_source_shows_its_identity_and_no_key(make_store: Any) -> None:
    """Its `repr` is for people who debug."""
    source = make_store().share(static_token("secret"), identity="orders")
    assert repr(source) == "<SharedTokens of static_token(...) as 'orders'>"


def test_what_was_found_is_kept_out_of_sight() -> None:
    """A value is encrypted, and still nothing for a log."""
    assert "sealed" not in repr(Found(fence="1", value="sealed-token", seconds=60.0))
