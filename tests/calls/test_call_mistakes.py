"""Mistakes with a channel, a stub's method or a call: refused at once, with what to write instead."""

from __future__ import annotations

import gc
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, ConfigurationError, connect, static_token
from aio_authgrpc.testing import EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda: grpc.insecure_channel("localhost:1"), "a synchronous channel", id="synchronous"),
        pytest.param(lambda: "localhost:1", "not str", id="target"),
        pytest.param(lambda: None, "not NoneType", id="none"),
        pytest.param(lambda: grpc.aio.Channel, "not ABCMeta", id="class"),
        pytest.param(
            lambda: connect("localhost:1", credentials=static_token("t")), "not Connection", id="connect"
        ),
    ],
)
async def test_what_is_no_channel_of_grpc_aio_is_refused(cache: TokenCache, make: Any, says: str) -> None:
    """A synchronous one would block the event loop, at the first RPC."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        AuthorizedChannel(make(), cache)
    assert caught.value.field == "channel"
    assert "grpc.aio.secure_channel(...)" in caught.value.hint


async def test_a_source_in_the_place_of_a_cache_is_refused() -> None:
    """The hint has the line that makes one of the other."""
    async with grpc.aio.insecure_channel("localhost:1") as channel:
        with pytest.raises(ConfigurationError, match="expected a TokenCache, not FixedTokenSource") as caught:
            AuthorizedChannel(channel, static_token("t"))  # type: ignore[arg-type]  # the mistake
    assert caught.value.field == "auth"
    assert "TokenCache(source)" in caught.value.hint


@pytest.mark.parametrize("name", ["future", "with_call"])
async def test_a_method_of_synchronous_stubs_is_refused(arity: Any, stub: EchoStub, name: str) -> None:
    """It says how the same is written here, and sends nothing."""
    method: Any = getattr(stub, arity.method)
    with pytest.raises(ConfigurationError, match="only the methods of synchronous stubs") as caught:
        getattr(method, name)(b"x", timeout=10)
    assert caught.value.field == name
    assert "await call" in caught.value.hint


@pytest.mark.parametrize("method", ["UnaryStream", "StreamStream"])
async def test_iterating_without_async_says_what_to_write(stub: EchoStub, method: str) -> None:
    """As a synchronous stub's responses are iterated."""
    begin: Any = getattr(stub, method)
    call = begin(b"x") if method == "UnaryStream" else begin()
    with pytest.raises(TypeError, match="'async for response in call'"):
        for _ in call:
            pytest.fail("there was a response")
    call.cancel()


async def test_a_key_in_upper_case_is_refused_at_the_call(
    arity: Any, stub: EchoStub, echo_server: EchoServer
) -> None:
    """In gRPC's words it is "Failed execute_batch", when the call is awaited."""
    with pytest.raises(ConfigurationError, match="'X-Team' is not in lower case") as caught:
        arity.begin(stub, metadata=(("x-a", "b"), ("X-Team", "blue")))
    assert caught.value.field == "metadata"
    assert caught.value.hint == "Write 'x-team'."
    assert echo_server.calls == []


async def test_a_channel_that_was_never_closed_says_how(cache: TokenCache) -> None:
    """The warning is all that its user sees."""
    inner = grpc.aio.insecure_channel("localhost:1")
    forgotten = [AuthorizedChannel(inner, cache)]
    gc.collect()
    with pytest.warns(ResourceWarning, match="await its close"):
        forgotten.clear()
    await inner.close()
