"""What is written instead of `async with connect(...)`: each way says what to write."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any

import pytest

from aio_authgrpc import connect, secure_authorized_channel, static_token
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
