"""Targets of xDS: a real control plane over ADS says where the servers are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from aio_authgrpc import connect, static_token
from aio_authgrpc.testing import EchoServer, EchoStub

pytest.importorskip("envoy.service.discovery.v3.discovery_pb2", reason="needs the group `xds`: tox -e xds")


from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401 - makes its type known
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,  # noqa: F401 - makes its type known
)
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

TYPES = "type.googleapis.com/envoy."
ROUTER = {
    "name": "router",
    "typedConfig": {"@type": f"{TYPES}extensions.filters.http.router.v3.Router"},
}
MANAGER = {
    "@type": f"{TYPES}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "httpFilters": [ROUTER],
    "routeConfig": {
        "virtualHosts": [
            {"domains": ["*"], "routes": [{"match": {"prefix": ""}, "route": {"cluster": "echo"}}]}
        ]
    },
}


class ControlPlane(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]  # it is untyped
    """Tells of one listener, whose one cluster has these servers of this machine."""

    def __init__(self, *ports: int) -> None:
        addresses = [{"socketAddress": {"address": "127.0.0.1", "portValue": port}} for port in ports]
        endpoints = [{"endpoint": {"address": address}} for address in addresses]
        place = {"locality": {"zone": "here"}, "lbEndpoints": endpoints, "loadBalancingWeight": 1}
        eds = {"edsConfig": {"ads": {}, "resourceApiVersion": "V3"}}
        self._resources = {
            "Listener": ({"name": "echo", "apiListener": {"apiListener": MANAGER}}, listener_pb2.Listener),
            "Cluster": ({"name": "echo", "type": "EDS", "edsClusterConfig": eds}, cluster_pb2.Cluster),
            "ClusterLoadAssignment": (
                {"clusterName": "echo", "endpoints": [place]},
                endpoint_pb2.ClusterLoadAssignment,
            ),
        }

    async def StreamAggregatedResources(
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        async for request in requests:
            if request.response_nonce:
                assert not request.error_detail.message
                continue  # it was understood
            content, kind = self._resources[request.type_url.rpartition(".")[2]]
            resource: Message = ParseDict(content, kind())
            response = discovery_pb2.DiscoveryResponse(type_url=request.type_url, version_info="1", nonce="1")
            response.resources.add().Pack(resource)
            yield response


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[EchoServer]]:
    """Give two servers that a control plane knows; gRPC finds that in its environment."""
    plane = grpc.aio.server()
    async with EchoServer(tls=False) as first, EchoServer(tls=False) as second:
        service = ControlPlane(first.port, second.port)
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(service, plane)
        port = plane.add_insecure_port("127.0.0.1:0")
        await plane.start()
        server = {"server_uri": f"127.0.0.1:{port}", "channel_creds": [{"type": "insecure"}]}
        bootstrap = {"xds_servers": [{**server, "server_features": ["xds_v3"]}], "node": {"id": "test"}}
        monkeypatch.setenv("GRPC_XDS_BOOTSTRAP_CONFIG", json.dumps(bootstrap))
        yield [first, second]
        await plane.stop(None)


async def test_calls_to_an_xds_target_reach_all_of_its_servers(servers: list[EchoServer]) -> None:
    """In turn, each with its token; `plaintext=True` warns, as for any other machine."""
    with pytest.warns(UserWarning, match="in the clear"):
        connection = connect("xds:///echo", EchoStub, credentials=static_token("abc"), plaintext=True)
    async with connection as stub:
        for _ in range(10):
            assert await stub.UnaryUnary(b"x", timeout=10) == b"x"
    assert {len(server.calls) > 0 for server in servers} == {True}
    assert sum(len(server.calls) for server in servers) == 10
    values = {call.values("authorization") for server in servers for call in server.calls}
    assert values == {("Bearer abc",)}
