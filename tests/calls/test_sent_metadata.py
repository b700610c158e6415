"""The metadata that gRPC is given: read once, or changed by an interceptor below the token."""

from __future__ import annotations

import copy
from typing import Any

import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel
from aio_authgrpc._calls.sent_metadata import SentMetadata, new_metadata
from aio_authgrpc.testing import EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache

PAIRS = (("authorization", "Bearer secret"), ("x-one", "1"), ("x-one", "2"))


def sent() -> SentMetadata:
    metadata = new_metadata(SentMetadata)
    metadata.pairs = PAIRS
    return metadata


def test_it_is_read_as_it_was_given() -> None:
    """In order, with as many pairs, and without a dictionary."""
    metadata = sent()
    assert (tuple(metadata), len(metadata), bool(metadata)) == (PAIRS, 3, True)
    assert vars(metadata) == {"pairs": PAIRS}


@pytest.mark.parametrize(
    "change",
    [
        lambda metadata: metadata.add("x-two", "3"),
        lambda metadata: metadata.set_all("x-one", ["9"]),
        lambda metadata: metadata.delete_all("x-one"),
        lambda metadata: metadata.__setitem__("x-one", "4"),
        lambda metadata: metadata.__delitem__("x-one"),
        lambda metadata: metadata.get_all("x-one").append("5"),
    ],
)
def test_it_can_be_changed_as_grpcs_own(change: Any) -> None:
    """What is read afterwards is what gRPC's class has after the same change."""
    metadata, plain = sent(), grpc.aio.Metadata(*PAIRS)
    change(metadata)
    change(plain)
    assert (tuple(metadata), len(metadata)) == (tuple(plain), len(plain))
    assert metadata == tuple(plain)


@pytest.mark.parametrize(
    "ask",
    [
        lambda metadata: metadata["x-one"],
        lambda metadata: metadata.get("x-none"),
        lambda metadata: metadata.get_all("x-one"),
        lambda metadata: "x-one" in metadata,
        lambda metadata: list(metadata.keys()),
        lambda metadata: list(metadata.items()),
        lambda metadata: list(metadata.values()),
        lambda metadata: (*metadata, ("x-two", "3")),
        lambda metadata: metadata == grpc.aio.Metadata(*PAIRS),
        lambda metadata: tuple(copy.copy(metadata)),
        lambda metadata: tuple(copy.deepcopy(metadata)),
    ],
)
def test_it_answers_as_grpcs_own(ask: Any) -> None:
    """By key as well."""
    assert ask(sent()) == ask(grpc.aio.Metadata(*PAIRS))


def test_it_shows_no_token() -> None:
    """In a traceback with values, say."""
    assert repr(sent()) == "<SentMetadata with authorization, x-one, x-one>"


def test_it_has_no_attributes_that_grpcs_own_lacks() -> None:
    """A question for one does not make the dictionary again and again."""
    metadata = sent()
    with pytest.raises(AttributeError, match="no_such"):
        _ = metadata.no_such
    assert vars(metadata) == {"pairs": PAIRS}


class Adding(grpc.aio.UnaryUnaryClientInterceptor):
    """An interceptor below the token that changes the metadata in place, as Sentry's does."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        client_call_details.metadata.add("x-trace", request.decode())
        return await continuation(client_call_details, request)


async def test_what_an_interceptor_adds_to_one_call_stays_with_it(
    echo_server: EchoServer, cache: TokenCache
) -> None:
    """Each call has metadata of its own, though the token is one."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials, interceptors=[Adding()])
    async with AuthorizedChannel(inner, cache) as channel:
        for trace in (b"1", b"2"):
            await EchoStub(channel).UnaryUnary(trace)
    traces = [[value for key, value in call.metadata if key == "x-trace"] for call in echo_server.calls]
    assert traces == [["1"], ["2"]]
