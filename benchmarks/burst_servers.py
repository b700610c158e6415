"""The servers of `burst.py`: grpcio's, Go's and Envoy, each in a process of its own on 127.0.0.1."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from aio_authgrpc.testing.envoy.admin import EnvoyAdmin
from aio_authgrpc.testing.envoy.process import EnvoyNotFoundError, EnvoyProcess, find_envoy

_HERE = Path(__file__).parent
_GO_SERVER = _HERE / "go_server" / "server"
_TYPES = "type.googleapis.com/envoy.extensions"
_START_TIMEOUT = 20.0
_LISTENER = "h2c"

UNLIMITED = 2**31 - 1
"""As many streams as HTTP/2 can count."""

Json = dict[str, Any]


@asynccontextmanager
async def _printing_its_port(*command: str) -> AsyncIterator[int]:
    """Run a server that prints its port, and ends with its standard input."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT))
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _START_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()


def of_grpcio(streams: int, seconds: float) -> AbstractAsyncContextManager[int]:
    """Run grpcio's server."""
    script = str(_HERE / "serve_burst.py")
    return _printing_its_port(sys.executable, script, str(streams), str(seconds))


def of_go(streams: int, seconds: float) -> AbstractAsyncContextManager[int]:
    """Run Go's server, which is built by hand."""
    return _printing_its_port(str(_GO_SERVER), f"-streams={streams}", f"-delay={seconds}s")


@asynccontextmanager
async def of_envoy(streams: int, seconds: float) -> AsyncIterator[int]:
    """Run Envoy in front of a grpcio server without a limit."""
    async with of_grpcio(UNLIMITED, seconds) as upstream:
        with tempfile.TemporaryDirectory() as directory:
            envoy = EnvoyProcess(Path(directory))
            try:
                await envoy.start(find_envoy(), json.dumps(_configuration(streams, upstream)))
                async with EnvoyAdmin(envoy) as admin:
                    ports = await admin.ports_when_ready(_START_TIMEOUT)
                yield ports[_LISTENER]
            finally:
                await envoy.aclose()


def available() -> dict[str, Callable[[int, float], AbstractAsyncContextManager[int]]]:
    """Return the servers that are installed, by name."""
    servers: dict[str, Callable[[int, float], AbstractAsyncContextManager[int]]] = {"grpcio": of_grpcio}
    if _GO_SERVER.exists():
        servers["go"] = of_go
    try:
        find_envoy()
    except EnvoyNotFoundError:
        return servers
    return {**servers, "envoy": of_envoy}


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _configuration(streams: int, upstream: int) -> Json:
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": _LISTENER,
        "codec_type": "HTTP2",
        "http2_protocol_options": {"max_concurrent_streams": streams},
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "upstream",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}}
        ],
    }
    chain = {"filters": [{"name": "manager", "typed_config": manager}]}
    # By default Envoy refuses calls beyond 1024 at a time.
    many = {"priority": "DEFAULT", "max_requests": 1_000_000, "max_pending_requests": 1_000_000}
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [many]},
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    listener = {"name": _LISTENER, "address": _address(0), "filter_chains": [chain]}
    return {
        "admin": {"address": _address(0)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }
