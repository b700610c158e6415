"""For every type, a server cannot tell this package's RPCs from those with google-auth's plugin."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import google.auth.credentials
import google.auth.environment_vars
import google.auth.transport.grpc
import google.auth.transport.requests
import grpc
import pytest
import requests

from aio_authgrpc import AiohttpRequest, connect
from aio_authgrpc.testing import EchoServer, EchoStub, RecordedCall

from .clients import boundaries_looked_up
from .configurations import (
    Configuration,
    Make,
    World,
    compute_engine_access_token,
    external_account_file,
    external_account_impersonating,
    impersonated,
    service_account_grant,
    service_account_of,
)
from .normalization import normalized_value

METHOD = "/aio_authgrpc.testing.Echo/UnaryUnary"

# Not google-auth's: gRPC's name and version.
IGNORED_METADATA = {"user-agent"}
# Older google-auth cannot switch its metrics off, so google-api-core's users sent them.
SUPPRESSED = {"suppress_metrics_header": True}
if (
    "suppress_metrics_header"
    not in inspect.signature(google.auth.transport.grpc.AuthMetadataPlugin).parameters
):
    SUPPRESSED.clear()
    IGNORED_METADATA.add("x-goog-api-client")


async def called_with_google_auth(credentials: Any, *servers: EchoServer, rpcs: int = 1) -> None:
    """Call each server, as google-api-core does: its plugin on a sync channel, without metrics."""
    with requests.Session() as session:
        request = google.auth.transport.requests.Request(session)
        for server in servers:
            plugin = google.auth.transport.grpc.AuthMetadataPlugin(
                credentials, request, default_host=server.target, **SUPPRESSED
            )
            call_credentials = grpc.metadata_call_credentials(plugin)
            channel_credentials = grpc.composite_channel_credentials(server.ssl_credentials, call_credentials)
            with grpc.secure_channel(server.target, channel_credentials) as channel:
                for _ in range(rpcs):
                    await asyncio.to_thread(channel.unary_unary(METHOD), b"x", timeout=10)
                    await boundaries_looked_up()


async def called_with_us(
    credentials: Any, http: AiohttpRequest, *servers: EchoServer, rpcs: int = 1, audience: str | None = None
) -> None:
    """Call each server through a channel of this package."""
    for server in servers:
        async with connect(
            server.target,
            EchoStub,
            credentials=credentials,
            ssl_credentials=server.ssl_credentials,
            request=http,
            audience=audience,
        ) as stub:
            for _ in range(rpcs):
                await stub.UnaryUnary(b"x", timeout=10)
                await boundaries_looked_up()


def normalized_metadata(call: RecordedCall) -> list[tuple[str, Any]]:
    """Return the received metadata, repeated keys included."""
    return sorted(
        (key, normalized_value(value)) for key, value in call.metadata if key not in IGNORED_METADATA
    )


async def made(world: World, make: Callable[[World, Any], Any]) -> Any:
    """Make a credential in a thread: its construction may block."""
    with requests.Session() as session:
        return await asyncio.to_thread(make, world, google.auth.transport.requests.Request(session))


async def test_every_type_puts_on_the_wire_what_google_auths_plugin_does(
    world: World, http: AiohttpRequest, echo_server: EchoServer, each_configuration: Configuration
) -> None:
    """The same headers, each once."""
    await called_with_google_auth(await made(world, each_configuration.make), echo_server)
    await called_with_us(await made(world, each_configuration.make), http, echo_server)
    theirs, ours = echo_server.calls
    assert normalized_metadata(ours) == normalized_metadata(theirs)


async def test_what_is_compared_is_not_empty(
    world: World, http: AiohttpRequest, echo_server: EchoServer
) -> None:
    """The test above can fail."""
    await called_with_us(service_account_of(world, quota_project_id="payer"), http, echo_server)
    (call,) = echo_server.calls
    keys = [key for key, _ in normalized_metadata(call)]
    assert keys == ["authorization", "x-goog-user-project"]


# Where google-auth is wrong, or late


async def test_one_credential_on_two_hosts_has_the_audience_of_each(
    world: World, http: AiohttpRequest, echo_server: EchoServer
) -> None:
    """google-auth changes the credential for its first host, and sends that token to the second."""
    async with EchoServer() as other:
        await called_with_google_auth(service_account_of(world), echo_server, other)
        await called_with_us(service_account_of(world), http, echo_server, other)
        calls = [*echo_server.calls, *other.calls]
    first, second = f"https://{echo_server.target}/", f"https://{other.target}/"
    assert [audience_of(call) for call in calls] == [first, first, first, second]


KNOWS_BOUNDARIES = pytest.mark.skipif(
    not hasattr(google.auth.credentials, "CredentialsWithRegionalAccessBoundary"),
    reason="this google-auth does not know of regional access boundaries",
)
# Since 2.63 google-auth looks boundaries up only where this variable is true; before, always.
BOUNDARY_SWITCH = "GOOGLE_SDK_EXPERIMENTAL_PYTHON_REGIONAL_ACCESS_BOUNDARY_LOOKUP_ENABLED"
HAS_BOUNDARY_SWITCH = pytest.mark.skipif(
    not hasattr(google.auth.environment_vars, BOUNDARY_SWITCH),
    reason="this google-auth looks boundaries up always, or never",
)
BOUNDED: list[Make] = [
    service_account_grant,
    compute_engine_access_token,
    impersonated,
    external_account_file,
    external_account_impersonating,
]


@pytest.fixture
def boundaries_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let google-auth look boundaries up."""
    monkeypatch.setenv(BOUNDARY_SWITCH, "true")


@KNOWS_BOUNDARIES
@pytest.mark.usefixtures("boundaries_are_on")
@pytest.mark.parametrize("make", BOUNDED, ids=lambda make: make.__name__)
async def test_a_regional_access_boundary_goes_to_googles_apis_with_the_first_call(
    make: Make, world: World, http: AiohttpRequest, echo_server: EchoServer
) -> None:
    """google-auth looks it up behind the first RPC, and sends it with the next."""
    world.cloud.apis.encoded_locations = "0xA30"
    await called_with_google_auth(await made(world, make), echo_server, rpcs=2)
    await called_with_us(
        await made(world, make), http, echo_server, rpcs=2, audience="https://library.googleapis.com"
    )
    locations = [call.values("x-allowed-locations") for call in echo_server.calls]
    assert locations == [(), ("0xA30",), ("0xA30",), ("0xA30",)]


@KNOWS_BOUNDARIES
@pytest.mark.usefixtures("boundaries_are_on")
@pytest.mark.parametrize("audience", [None, "https://bookstore.a.run.app", "https://us.rep.googleapis.com"])
async def test_a_regional_access_boundary_goes_to_no_other_host(
    audience: str | None, world: World, http: AiohttpRequest, echo_server: EchoServer
) -> None:
    """They do not read it: google-auth's look-up for them is a wasted request."""
    world.cloud.apis.encoded_locations = "0xA30"
    credentials = await made(world, service_account_grant)
    await called_with_us(credentials, http, echo_server, rpcs=2, audience=audience)
    assert [call.values("x-allowed-locations") for call in echo_server.calls] == [(), ()]
    assert not [request for request in world.cloud.requests if "allowedLocations" in request.path]


@KNOWS_BOUNDARIES
@pytest.mark.usefixtures("boundaries_are_on")
@pytest.mark.parametrize("make", BOUNDED, ids=lambda make: make.__name__)
@pytest.mark.parametrize("audience", [None, "https://bookstore.a.run.app", "https://us.rep.googleapis.com"])
async def test_a_boundary_that_another_channel_has_looked_up_goes_to_no_other_host(
    make: Make, audience: str | None, world: World, http: AiohttpRequest, echo_server: EchoServer
) -> None:
    """One credential serves two channels, and knows its boundary from the first."""
    world.cloud.apis.encoded_locations = "0xA30"
    credentials = await made(world, make)
    await called_with_us(credentials, http, echo_server, audience="https://library.googleapis.com")
    await called_with_us(credentials, http, echo_server, audience=audience)
    assert [call.values("x-allowed-locations") for call in echo_server.calls] == [("0xA30",), ()]


@KNOWS_BOUNDARIES
@pytest.mark.usefixtures("boundaries_are_on")
async def test_a_boundary_that_cannot_be_looked_up_harms_no_call(
    world: World, http: AiohttpRequest, echo_server: EchoServer
) -> None:
    """The look-up answers 404."""
    credentials = await made(world, service_account_grant)
    audience = "https://library.googleapis.com"
    await called_with_us(credentials, http, echo_server, audience=audience)
    assert echo_server.calls[0].values("x-allowed-locations") == ()
    assert [request for request in world.cloud.requests if "allowedLocations" in request.path]


@HAS_BOUNDARY_SWITCH
@pytest.mark.parametrize("make", BOUNDED, ids=lambda make: make.__name__)
async def test_a_boundary_that_is_switched_off_costs_no_request(
    make: Make, world: World, http: AiohttpRequest, echo_server: EchoServer
) -> None:
    """Neither the look-up nor the question for the universe that comes before it."""
    world.cloud.apis.encoded_locations = "0xA30"
    credentials = await made(world, make)
    world.cloud.requests.clear()
    await called_with_us(credentials, http, echo_server, audience="https://library.googleapis.com")
    assert echo_server.calls[0].values("x-allowed-locations") == ()
    asked = [request.path for request in world.cloud.requests]
    assert not [path for path in asked if "allowedLocations" in path or "universe" in path]


def audience_of(call: RecordedCall) -> str:
    (value,) = call.values("authorization")
    *_, claims = normalized_value(value)
    return str(claims["aud"])
