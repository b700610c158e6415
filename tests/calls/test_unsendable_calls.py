"""Calls that gRPC cannot send: it gives them no end of its own, and nothing of ours may keep them."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, ConfigurationError
from aio_authgrpc.testing import EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache
from tests.support.arity import Arity


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (("x-id", "a\nb"), "'x-id' is not printable ASCII"),
        (("x-id", "na\u00efve"), "'x-id' is not printable ASCII"),
        (("x-id", b"\xff"), "'x-id' is not printable ASCII"),
        (("x id", "a"), "cannot send the key 'x id'"),
        (("", "a"), "cannot send the key ''"),
        (("x-id", 5), "'x-id' is of type int"),
        (("x-id", None), "'x-id' is of type NoneType"),
    ],
)
async def test_metadata_that_cannot_be_sent_is_an_error_at_the_call(
    arity: Arity, stub: EchoStub, cache: TokenCache, pair: Any, said: str
) -> None:
    """A request's id that a user has sent, say."""
    await cache.get()
    with pytest.raises(ConfigurationError, match=said):
        arity.begin(stub, metadata=(pair,))


@pytest.mark.parametrize(
    "pair", [("x-id", ""), ("x-id", " ~"), ("x-id", b"text"), ("x-data-bin", b"\x00\xff"), ("x_a.b-c9", "1")]
)
async def test_metadata_that_can_be_sent_is(
    arity: Arity, stub: EchoStub, cache: TokenCache, echo_server: EchoServer, pair: Any
) -> None:
    """Whatever gRPC carries."""
    await cache.get()
    await arity.finish(arity.begin(stub, metadata=(pair,)))
    key, value = pair
    expected = value.decode() if isinstance(value, bytes) and not key.endswith("-bin") else value
    assert (key, expected) in [tuple(entry) for entry in echo_server.calls[0].metadata]


@pytest.mark.parametrize("method", ["UnaryUnary", "UnaryStream"])
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
async def test_a_request_of_the_wrong_type_is_no_call_under_way(
    stub: EchoStub, channel: AuthorizedChannel, cache: TokenCache, method: str, warm: bool
) -> None:
    """Closing does not use up its grace for it."""
    if warm:
        await cache.get()
    call: Any = getattr(stub, method)(object())
    with pytest.raises(TypeError):
        await (call if method == "UnaryUnary" else anext(aiter(call)))
    assert call.done()
    await channel.close(grace=3600)


async def test_a_mistake_of_a_reader_ends_no_call(stub: EchoStub, cache: TokenCache) -> None:
    """The other style of reading is refused, and the call goes on."""
    await cache.get()
    call: Any = stub.UnaryStream(b"x")
    responses = aiter(call)
    with pytest.raises(grpc.aio.UsageError):
        await call.read()
    assert await anext(responses) == b"x"
