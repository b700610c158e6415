"""Logins whose refresh tokens rotate: the provider revokes a login whose refresh token comes twice."""

from __future__ import annotations

import asyncio

import pytest

from aio_authgrpc import AuthRpcError
from aio_authgrpc.errors import ChannelClosedError
from aio_authgrpc.testing import EchoServer
from tests.support.one_login import WAYS, Way, connection

from .conftest import Provider

ROUNDS = 50

pytestmark = pytest.mark.timeout(60)  # a process, and 50 logins


@pytest.mark.parametrize("way", WAYS)
async def test_two_caches_over_one_login_refresh_it_once(
    provider: Provider, echo_server: EchoServer, way: Way
) -> None:
    """No login is revoked: each sends its refresh token once, and both caches use what came back."""
    answered_before, revoked_before = await provider.counts()
    failures: list[AuthRpcError] = []
    for _ in range(ROUNDS):
        try:
            await way(echo_server, await provider.login())
        except AuthRpcError as error:
            failures.append(error)
    answered, revoked = await provider.counts()
    assert revoked - revoked_before == 0
    assert failures == []
    assert answered - answered_before == ROUNDS


async def test_closing_in_the_middle_of_a_refresh_keeps_the_login(
    provider: Provider, echo_server: EchoServer
) -> None:
    """The request was sent, and its answer has the only refresh token that is still good."""
    _, revoked_before = await provider.counts()
    login = await provider.login()
    opened = connection(echo_server, login)
    stub = await opened.__aenter__()
    events = opened.auth.events()
    await provider.hold()
    call = stub.UnaryUnary(b"x")
    await provider.held()
    closing = asyncio.create_task(opened.__aexit__(None, None, None))
    async for _ in events:
        pass  # they end with the token cache, which waits for the answer from then on
    await provider.release()
    await closing
    with pytest.raises(ChannelClosedError):
        await call
    login.token = None  # as after an hour: another token needs the refresh token that came back
    async with opened as stub:
        assert await stub.UnaryUnary(b"x") == b"x"
    assert (await provider.counts())[1] == revoked_before
