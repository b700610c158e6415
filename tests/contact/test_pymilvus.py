"""pymilvus on our channel: it appends an interceptor that sends the identifier of its session."""

from __future__ import annotations

from typing import Any

from pymilvus.client.async_grpc_handler import AsyncGrpcHandler
from pymilvus.grpc_gen import milvus_pb2

from aio_authgrpc import connect
from aio_authgrpc.testing import Authority

from .fake_cloud import FakeCloud, Rpc

MILVUS = (
    Rpc(
        path="/milvus.proto.milvus.MilvusService/Connect",
        request=milvus_pb2.ConnectRequest,
        response=milvus_pb2.ConnectResponse,
        answer=lambda _: [milvus_pb2.ConnectResponse(identifier=42)],
    ),
    Rpc(
        path="/milvus.proto.milvus.MilvusService/ShowCollections",
        request=milvus_pb2.ShowCollectionsRequest,
        response=milvus_pb2.ShowCollectionsResponse,
        answer=lambda _: [milvus_pb2.ShowCollectionsResponse(collection_names=["books"])],
    ),
)


async def test_the_identifier_of_a_session_arrives_beside_the_token(
    authority: Authority, source: Any
) -> None:
    """Once, and from its first call on."""
    async with (
        FakeCloud(authority, MILVUS) as milvus,
        connect(milvus.target, credentials=source, ssl_credentials=milvus.ssl_credentials) as channel,
    ):
        handler = AsyncGrpcHandler(channel=channel)
        await handler.ensure_channel_ready()
        assert await handler.list_collections() == ["books"]
        assert await handler.list_collections() == ["books"]
    assert [call.values("identifier") for call in milvus.recorded] == [(), ("42",), ("42",)]
    assert [len(values) for values in milvus.bearers()] == [1, 1, 1]
