"""What is written instead of `async with connect(...)`: each way says what to write."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import ConfigurationError, connect, secure_authorized_channel, static_token
from aio_authgrpc.testing import EchoStub

TOKEN = static_token("abc")


def connection() -> Any:
    return connect("localhost:1", EchoStub, credentials=TOKEN)


def test_a_method_of_the_connection_says_where_the_stub_is() -> None:
    """It names the method."""
    with pytest.raises(
        AttributeError, match=r"async with connect\(\.\.\.\) as stub.*'stub\.UnaryUnary'"
    ) as caught:
        connection().UnaryUnary(b"x")
    assert caught.value.name == "UnaryUnary"


async def test_an_awaited_connection_says_that_it_is_entered() -> None:
    """Unlike `secure_authorized_channel`, which may be awaited."""
    with pytest.raises(TypeError, match=r"'async with connect\(\.\.\.\) as stub'"):
        await connection()


@pytest.mark.parametrize("make", [connection, lambda: secure_authorized_channel(TOKEN, None, "localhost:1")])
def test_with_says_that_it_is_async_with(make: Any) -> None:
    """Also in an ExitStack."""
    with pytest.raises(TypeError, match="'async with' instead of 'with'"):
        with make():
            pytest.fail("it was entered")
    with ExitStack() as stack, pytest.raises(TypeError, match="'async with' instead of 'with'"):
        stack.enter_context(make())


def test_a_connection_has_no_attribute_that_it_does_not_have() -> None:
    """For code that asks, and for `copy`, which is refused in words of its own."""
    assert not hasattr(connection(), "UnaryUnary")
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.copy(connection())


class Bookstore:
    """What grpc generates beside the stub: a class of functions that make one synchronous call each."""

    @staticmethod
    def ListShelves(request: object, target: str) -> None:
        pass


async def test_what_is_taken_for_a_stub_class_is_named() -> None:
    """With what to pass instead: the class of synchronous functions, and a stub that is made already."""
    async with grpc.aio.insecure_channel("localhost:1") as channel:
        stub: Any = EchoStub(channel)
    for given, says in ((Bookstore, "Bookstore is"), (stub, "an instance of EchoStub is")):
        with pytest.raises(ConfigurationError, match=f"{says} not a stub class") as caught:
            connect("localhost:1", given, credentials=TOKEN)
        assert "...Stub class itself" in caught.value.hint
