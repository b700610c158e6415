"""Clients that make their channels themselves, with gapic.credentials(): one identity a call, one token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.cloud import firestore, secretmanager_v1
from google.cloud.bigtable.data import BigtableDataClientAsync, ReadRowsQuery
from google.cloud.storage.asyncio.async_grpc_client import AsyncGrpcClient

import aio_authgrpc.gapic
from aio_authgrpc import service_account
from aio_authgrpc.gapic import CachedCredentials
from aio_authgrpc.testing import Authority

from .fake_cloud import FakeCloud, on_a_loop_of_its_own
from .services import ACCESS, RPCS


async def bigtable(shared: CachedCredentials, options: ClientOptions) -> object:
    client = BigtableDataClientAsync(project="p", credentials=shared, client_options=options)
    async with client, client.get_table("i", "t") as table:
        return [row.row_key for row in await table.read_rows(ReadRowsQuery())]


async def storage(shared: CachedCredentials, options: ClientOptions) -> object:
    client = AsyncGrpcClient(credentials=shared, client_options=options, attempt_direct_path=False)
    try:
        return (await client.get_object("b", "o")).name
    finally:
        await client.grpc_client.transport.close()


async def documents(shared: CachedCredentials, options: ClientOptions) -> object:
    client = firestore.AsyncClient(project="p", credentials=shared, client_options=options)
    try:
        return (await client.collection("c").document("d").get()).id
    finally:
        await client._firestore_api.transport.close()


def access(shared: CachedCredentials, options: ClientOptions) -> object:
    with secretmanager_v1.SecretManagerServiceClient(credentials=shared, client_options=options) as client:
        return client.access_secret_version(name="projects/p/secrets/s/versions/latest").payload.data


async def in_sync(shared: CachedCredentials, options: ClientOptions) -> object:
    return await asyncio.to_thread(access, shared, options)


@pytest.fixture
async def cloud(authority: Authority) -> AsyncIterator[FakeCloud]:
    async with on_a_loop_of_its_own(FakeCloud(authority, RPCS)) as cloud:
        yield cloud


@pytest.mark.parametrize(
    ("use", "says"),
    [(bigtable, [b"key"]), (storage, "o"), (documents, "d"), (in_sync, b"the payload")],
    ids=["bigtable", "storage", "firestore", "synchronous"],
)
async def test_a_client_works_with_one_identity_a_call_and_one_token(
    use: Callable[..., Awaitable[object]], says: object, cloud: FakeCloud, source: Any, authority: Authority
) -> None:
    """And a client on a channel of ours has the same token."""
    options = ClientOptions(api_endpoint=cloud.target)
    async with (
        aio_authgrpc.gapic.credentials(source) as shared,
        aio_authgrpc.gapic.client(ACCESS.client, credentials=source, client_options=options) as secrets,
    ):
        for _ in range(2):
            assert await use(shared, options) == says
        assert await ACCESS.run(secrets) == ACCESS.says
    assert {*cloud.bearers()} == {cloud.bearers()[0]}
    assert len(cloud.bearers()[0]) == 1
    assert authority.token_requests == 1


async def test_a_synchronous_call_on_the_loops_own_thread_is_served_what_is_at_hand(
    cloud: FakeCloud, source: Any, authority: Authority
) -> None:
    """It blocks the loop, which could fetch no token meanwhile."""
    options = ClientOptions(api_endpoint=cloud.target)
    async with aio_authgrpc.gapic.credentials(source) as shared:
        assert await asyncio.to_thread(access, shared, options) == b"the payload"
        assert access(shared, options) == b"the payload"
    assert [len(values) for values in cloud.bearers()] == [1, 1]


async def test_a_token_that_is_refused_is_unavailable_to_a_client_of_its_own_channel(
    cloud: FakeCloud, authority: Authority
) -> None:
    """Whatever a plugin raises is UNAVAILABLE to gRPC; the text says what it was."""
    info = await authority.service_account_info()
    authority.revoke(info["client_email"])
    options = ClientOptions(api_endpoint=cloud.target)

    def refused(shared: CachedCredentials) -> None:
        with secretmanager_v1.SecretManagerServiceClient(
            credentials=shared, client_options=options
        ) as client:
            client.access_secret_version(name="projects/p/secrets/s/versions/latest", retry=None, timeout=10)

    async with aio_authgrpc.gapic.credentials(service_account(info, scopes=["a-scope"])) as shared:
        with pytest.raises(exceptions.ServiceUnavailable, match="UNAUTHENTICATED"):
            await asyncio.to_thread(refused, shared)
    assert cloud.recorded == []
