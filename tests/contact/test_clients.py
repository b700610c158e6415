"""Async google-cloud clients on our channel: every kind of RPC, retries, errors, one identity a call."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import google.auth
import grpc
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials

import aio_authgrpc.gapic
from aio_authgrpc import AuthRpcError, channel_factory, connect, service_account
from aio_authgrpc.testing import Authority

from .fake_cloud import FakeCloud
from .services import LOOKUP, PULL, RUN_QUERY, USES, WRITE_OBJECT, Use

# The clients with which each kind of RPC is refused.
ARITIES = (LOOKUP, RUN_QUERY, WRITE_OBJECT, PULL)


def by_gapic(use: Use, cloud: FakeCloud, source: Any) -> AbstractAsyncContextManager[Any]:
    return aio_authgrpc.gapic.client(
        use.client,
        credentials=source,
        client_options={"api_endpoint": cloud.target},
        ssl_credentials=cloud.ssl_credentials,
    )


def by_connect(use: Use, cloud: FakeCloud, source: Any) -> AbstractAsyncContextManager[Any]:
    transport = use.client.get_transport_class("grpc_asyncio")
    return connect(
        cloud.target,
        lambda channel: use.client(transport=transport(channel=channel)),
        credentials=source,
        ssl_credentials=cloud.ssl_credentials,
    )


@asynccontextmanager
async def by_factory(use: Use, cloud: FakeCloud, source: Any) -> AsyncGenerator[Any]:
    factory = channel_factory(source, ssl_credentials=cloud.ssl_credentials)
    transport = use.client.get_transport_class("grpc_asyncio")
    client = use.client(
        transport=partial(transport, channel=factory),
        client_options={"api_endpoint": cloud.target},
        # Given a function, and no credentials, the client would look up default ones for it.
        credentials=AnonymousCredentials(),
    )
    async with client:
        yield client


@pytest.fixture(params=[by_gapic, by_connect, by_factory], ids=["gapic.client", "connect", "channel_factory"])
def opened(request: pytest.FixtureRequest, no_blocking_call_on_the_loop: Any) -> Any:
    """Give each way to open a client."""
    if request.param is by_connect:
        # The function makes the client on the loop, and google-auth asks the file system whether there
        # are certificates of a workload. Nothing else may block.
        stat = no_blocking_call_on_the_loop.functions["os.stat"]
        stat.can_block_in("google/auth/transport/_mtls_helper.py", {"_get_cert_config_path"})
        stat.can_block_in("google/auth/_agent_identity_utils.py", {"_is_certificate_file_ready"})
    return request.param


@pytest.fixture(params=USES, ids=lambda use: use.name)
def use(request: pytest.FixtureRequest) -> Use:
    """Give each RPC."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped


@pytest.fixture(params=ARITIES, ids=lambda use: use.rpcs[0].arity)
def kind(request: pytest.FixtureRequest) -> Use:
    """Give an RPC of each arity."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped


async def test_an_rpc_works_without_a_token_at_hand_and_with_one(
    use: Use, opened: Any, cloud: FakeCloud, source: Any, authority: Authority
) -> None:
    """Each call carries one identity, and all of them one token."""
    async with opened(use, cloud, source) as client:
        assert await use.run(client) == use.says
        assert await use.run(client) == use.says
    bearers = cloud.bearers()
    assert len(bearers) >= 2 * len(use.rpcs)
    assert {len(values) for values in bearers} == {1}
    assert authority.token_requests == 1
    assert cloud.refused == 0


async def test_a_call_that_was_unavailable_is_retried_by_the_client(
    opened: Any, cloud: FakeCloud, source: Any
) -> None:
    """By its own default retry: a new call, with one identity."""
    cloud.refuse(grpc.StatusCode.UNAVAILABLE)
    async with opened(LOOKUP, cloud, source) as client:
        assert await LOOKUP.run(client) == LOOKUP.says
    assert [len(values) for values in cloud.bearers()] == [1, 1]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, exceptions.ServiceUnavailable),
        (grpc.StatusCode.UNAUTHENTICATED, exceptions.Unauthenticated),
        (grpc.StatusCode.NOT_FOUND, exceptions.NotFound),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
async def test_a_refusal_of_the_server_is_the_clients_error(
    kind: Use, code: grpc.StatusCode, error: type[Exception], cloud: FakeCloud, source: Any
) -> None:
    """google-api-core's class for the status, in every arity, and in its words."""
    async with by_gapic(kind, cloud, source) as client:
        cloud.refuse(code)
        with pytest.raises(error, match="the test ordered a refusal"):
            await kind.run(client, retry=None)
    assert {len(values) for values in cloud.bearers()} == {1}


@pytest.mark.parametrize("cold", [True, False], ids=["cold", "fresh"])
async def test_a_deadline_is_the_clients_error(
    kind: Use, cold: bool, cloud: FakeCloud, source: Any, authority: Authority
) -> None:
    """Whether the call waits for its token or for its answer."""
    async with by_gapic(kind, cloud, source) as client:
        if not cold:
            await kind.run(client)
        gate = authority.hold() if cold else cloud.hold()
        with gate, pytest.raises(exceptions.DeadlineExceeded):
            await kind.run(client, timeout=0.2, retry=None)
    assert len(cloud.recorded) == (0 if cold else 2)


@pytest.mark.parametrize(
    ("fault", "error"),
    [("revoke", exceptions.Unauthenticated), ("fail", exceptions.ServiceUnavailable)],
    ids=["refused", "out-of-order"],
)
async def test_a_token_that_is_not_given_is_the_clients_error(
    kind: Use, fault: str, error: type[Exception], cloud: FakeCloud, authority: Authority
) -> None:
    """The token endpoint refuses, or is out of order: no call is made, and the error has our words."""
    info = await authority.service_account_info()
    if fault == "revoke":
        authority.revoke(info["client_email"])
    else:
        authority.fail(503, times=None)
    async with by_gapic(kind, cloud, service_account(info, scopes=["a-scope"])) as client:
        with pytest.raises(error) as caught:
            await kind.run(client, retry=None)
    assert isinstance(caught.value.__cause__, AuthRpcError)
    assert cloud.recorded == []


# Nothing is looked up while a client is made


@contextmanager
def calls_of(function: Any) -> Iterator[list[str]]:
    """Record the threads that call a Python function, without a change to it."""
    found: list[str] = []

    def look(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code is function.__code__:
            found.append(threading.current_thread().name)

    before = sys.getprofile()
    threading.setprofile(look)
    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


async def test_default_credentials_are_not_looked_up_by_the_client(
    use: Use, opened: Any, cloud: FakeCloud, source: Any
) -> None:
    """`google.auth.default` blocks for seconds: it is called 0 times, on the loop and in every thread."""
    with calls_of(google.auth.default) as calls:
        async with opened(use, cloud, source) as client:
            assert await use.run(client) == use.says
    assert calls == []


def test_the_recorder_of_calls_sees_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")
    with (
        calls_of(google.auth.default) as calls,
        pytest.raises(google.auth.exceptions.DefaultCredentialsError),
    ):
        google.auth.default()
    assert len(calls) == 1
