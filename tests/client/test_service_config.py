"""gRPC's service config: what is merged, what is refused, and that gRPC does what it says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import ConfigurationError, connect, insecure_authorized_channel, static_token
from aio_authgrpc._client.service_config import MAX_CONNECTIONS, with_service_config
from aio_authgrpc.testing import EchoServer, EchoStub
from tests.support.limited_server import limited_server

SERVICE = "aio_authgrpc.testing.Echo"
TOKEN = static_token("token")
RETRY: dict[str, Any] = {
    "maxAttempts": 3,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.01s",
    "backoffMultiplier": 1,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
OPTION = "grpc.service_config"


def for_all(**method_config: Any) -> dict[str, Any]:
    return {"methodConfig": [{"name": [{}], **method_config}]}


def retrying(**changes: Any) -> dict[str, Any]:
    return for_all(retryPolicy={**RETRY, **changes})


def named(*names: dict[str, str]) -> dict[str, Any]:
    return {"methodConfig": [{"name": list(names), "timeout": "5s"}]}


def merged(options: Any = (), config: Any = None, max_connections: int | None = None) -> Any:
    """Return the service config of the channel arguments."""
    found = [value for name, value in with_service_config(options, config, max_connections) if name == OPTION]
    assert len(found) < 2
    return json.loads(str(found[0])) if found else None


def scaled(limit: int) -> dict[str, Any]:
    return {"connectionScaling": {"maxConnectionsPerSubchannel": limit}}


# What is merged


def test_connections_scale_by_default() -> None:
    """And as far as the argument says."""
    assert merged() == scaled(MAX_CONNECTIONS)
    assert merged(max_connections=3) == scaled(3)


def test_one_connection_is_what_grpc_does_by_itself() -> None:
    """Nothing is said about it."""
    assert merged(max_connections=1) is None
    assert merged(config=retrying(), max_connections=1) == retrying()


def test_a_config_keeps_what_it_says() -> None:
    """The scaling comes beside it, unless it has one."""
    assert merged(config=retrying(), max_connections=2) == {**retrying(), **scaled(2)}
    assert merged(config=scaled(5)) == scaled(5)


def test_a_config_among_the_options_is_merged_and_not_checked() -> None:
    """Of several, gRPC reads the first; it may know more fields than are known here."""
    theirs = {"methodConfigs": []}
    options = [(OPTION, json.dumps(theirs)), ("grpc.keepalive_time_ms", 1), (OPTION, "{}")]
    assert merged(options) == {**theirs, **scaled(MAX_CONNECTIONS)}
    assert ("grpc.keepalive_time_ms", 1) in with_service_config(options, None, None)


@pytest.mark.parametrize("text", ["{", "[]", 5, None])
def test_an_option_that_is_no_config_is_left_to_grpc(text: object) -> None:
    """It says why it is none, at the first RPC."""
    options = [(OPTION, text)]
    assert with_service_config(options, None, None) == options


def test_more_than_ten_connections_need_an_option_of_grpc() -> None:
    """It would take ten for them."""
    assert ("grpc.max_connections_per_subchannel_cap", 12) in with_service_config((), None, 12)
    assert ("grpc.max_connections_per_subchannel_cap", 12) in with_service_config((), scaled(12), None)
    assert len(with_service_config((), None, 10)) == 1


@pytest.mark.parametrize(
    ("options", "config", "max_connections", "field"),
    [
        pytest.param([(OPTION, "{}")], {}, None, "service_config", id="two-configs"),
        pytest.param([(OPTION, json.dumps(scaled(2)))], None, 2, "max_connections", id="an-option"),
        pytest.param((), scaled(2), 2, "max_connections", id="a-config"),
    ],
)
def test_what_is_said_twice_is_refused(
    options: Any, config: Any, max_connections: int | None, field: str
) -> None:
    """One of them would be ignored."""
    with pytest.raises(ConfigurationError, match="Leave out one of them") as caught:
        with_service_config(options, config, max_connections)
    assert caught.value.field == field


def test_a_config_that_is_changed_later_changes_nothing() -> None:
    """It was copied at the call."""
    config = named({"service": SERVICE})
    connection = connect("localhost:1", EchoStub, credentials=TOKEN, plaintext=True, service_config=config)
    config["methodConfig"][0]["name"][0]["service"] = "another"
    assert connection._settings.service_config == named({"service": SERVICE})


# What is refused

POLICY = "methodConfig[0].retryPolicy"


@pytest.mark.parametrize(
    ("config", "field", "says"),
    [
        ({"methodConfigs": []}, "methodConfigs", "Did you mean 'methodConfig'"),
        ({"method_config": []}, "method_config", "Did you mean 'methodConfig'"),
        (for_all(retrypolicy=RETRY), "methodConfig[0].retrypolicy", "Did you mean 'retryPolicy'"),
        (retrying(maxAttempt=3), f"{POLICY}.maxAttempt", "Did you mean 'maxAttempts'"),
        (named({"services": SERVICE}), "methodConfig[0].name[0].services", "Did you mean 'service'"),
        (retrying(maxAttempts=1), f"{POLICY}.maxAttempts", "from 2 to 5"),
        (retrying(maxAttempts=6), f"{POLICY}.maxAttempts", "from 2 to 5"),
        (retrying(maxAttempts="3"), f"{POLICY}.maxAttempts", "expected int"),
        (retrying(initialBackoff="10ms"), f"{POLICY}.initialBackoff", '"0.5s"'),
        (retrying(initialBackoff=0.1), f"{POLICY}.initialBackoff", '"0.5s"'),
        (retrying(initialBackoff="0.001s"), f"{POLICY}.initialBackoff", "hang with a pause below 0.005s"),
        (retrying(maxBackoff="0s"), f"{POLICY}.maxBackoff", '"0.5s"'),
        (retrying(backoffMultiplier=0), f"{POLICY}.backoffMultiplier", "0.001"),
        (retrying(backoffMultiplier=float("1e300")), f"{POLICY}.backoffMultiplier", "0.001"),
        (retrying(retryableStatusCodes=[]), f"{POLICY}.retryableStatusCodes", "not empty"),
        (
            retrying(retryableStatusCodes=["UNAVAILABLE_"]),
            f"{POLICY}.retryableStatusCodes[0]",
            "Did you mean 'UNAVAILABLE'",
        ),
        (
            retrying(retryableStatusCodes=["unavailable"]),
            f"{POLICY}.retryableStatusCodes[0]",
            "Did you mean 'UNAVAILABLE'",
        ),
        (retrying(retryableStatusCodes=[14]), f"{POLICY}.retryableStatusCodes[0]", "Write the name"),
        (for_all(retryPolicy={"maxAttempts": 3}), POLICY, "it has no initialBackoff"),
        (retrying(perAttemptRecvTimeout="1s"), f"{POLICY}.perAttemptRecvTimeout", "enable_hedging"),
        (for_all(hedgingPolicy={"maxAttempts": 3}), "methodConfig[0].hedgingPolicy", "no hedging"),
        (for_all(timeout="5"), "methodConfig[0].timeout", '"0.5s"'),
        (for_all(timeout="2.9s"), "methodConfig[0].timeout", "pass timeout= to each call"),
        (for_all(waitForReady="yes"), "methodConfig[0].waitForReady", "expected bool"),
        (for_all(maxRequestMessageBytes=-1), "methodConfig[0].maxRequestMessageBytes", "from 0"),
        ({"methodConfig": [{"timeout": "5s"}]}, "methodConfig[0]", "it has no name"),
        (named(), "methodConfig[0].name", "not empty"),
        ({"methodConfig": {}}, "methodConfig", "a list"),
        ({"methodConfig": [5]}, "methodConfig[0]", "expected Mapping"),
        (named({"method": "UnaryUnary"}), "methodConfig[0].name[0]", "without its service"),
        (named({"service": f"/{SERVICE}"}), "methodConfig[0].name[0].service", "slash"),
        (named({"service": SERVICE}, {"service": SERVICE}), "methodConfig[0].name[1]", "the same name"),
        ({"loadBalancingConfig": []}, "loadBalancingConfig", "not empty"),
        ({"loadBalancingConfig": [{"a": {}, "b": {}}]}, "loadBalancingConfig[0]", "2 policies"),
        ({"retryThrottling": {"maxTokens": 0, "tokenRatio": 1}}, "retryThrottling.maxTokens", "from 1"),
        ({"retryThrottling": {"maxTokens": 10}}, "retryThrottling", "it has no tokenRatio"),
        ({"healthCheckConfig": {"service": ""}}, "healthCheckConfig.service", "'serviceName'"),
        (scaled(0), "connectionScaling.maxConnectionsPerSubchannel", "from 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_grpc_would_ignore_or_refuse_later_is_refused_at_the_call(
    config: dict[str, Any], field: str, says: str
) -> None:
    """The field is named by its path, with what to do."""
    with pytest.raises(ConfigurationError) as caught:
        connect("localhost:1", EchoStub, credentials=TOKEN, plaintext=True, service_config=config)
    assert caught.value.field == f"service_config.{field}"
    assert says in str(caught.value)


@pytest.mark.parametrize("config", ["{}", 5, {"loadBalancingConfig": [{"x": {1j}}]}, {"a": float("nan")}])
def test_what_is_no_json_is_refused(config: Any) -> None:
    """A text is for the options."""
    with pytest.raises(ConfigurationError) as caught:
        connect("localhost:1", EchoStub, credentials=TOKEN, plaintext=True, service_config=config)
    assert caught.value.field == "service_config"


def test_a_time_for_each_attempt_needs_an_option_of_grpc() -> None:
    """With it gRPC reads the field."""
    options = [("grpc.experimental.enable_hedging", 1)]
    config = retrying(perAttemptRecvTimeout="1s")
    assert merged(options, config, 1) == config


@pytest.mark.parametrize(
    ("name", "field", "says"),
    [
        ({"service": SERVICE, "method": "UnaryUnari"}, "method", "Did you mean 'UnaryUnary'"),
        ({"service": SERVICE, "method": "Other"}, "method", "It is one of StreamStream, StreamUnary"),
        ({"service": "aio_authgrpc.testing.Ecko"}, "service", f"Did you mean '{SERVICE}'"),
    ],
)
async def test_a_name_that_no_stub_has_is_refused_on_opening(
    name: dict[str, str], field: str, says: str
) -> None:
    """Because gRPC would apply it to nothing."""
    connection = connect(
        "localhost:1", EchoStub, credentials=TOKEN, plaintext=True, service_config=named(name)
    )
    with pytest.raises(ConfigurationError) as caught:
        await connection.__aenter__()
    assert caught.value.field == f"service_config.methodConfig[0].name[0].{field}"
    assert says in str(caught.value)


async def test_a_service_of_a_stub_that_asks_later_is_let_pass() -> None:
    """It cannot be known; a method of a known service can."""
    config = named({"service": "another.Service", "method": "Do"}, {})

    def late(channel: grpc.aio.Channel) -> grpc.aio.Channel:
        return channel

    arguments: Any = {"credentials": TOKEN, "plaintext": True, "service_config": config}
    async with connect("localhost:1", late, EchoStub, **arguments):
        pass
    async with connect("localhost:1", **arguments):
        pass


async def test_what_grpc_itself_refuses_is_an_error_on_opening() -> None:
    """In its words: a load balancer that it does not have."""
    config = {"loadBalancingConfig": [{"round_robbin": {}}]}
    connection = connect("localhost:1", EchoStub, credentials=TOKEN, plaintext=True, service_config=config)
    with pytest.raises(ConfigurationError, match="round_robbin") as caught:
        await connection.__aenter__()
    assert caught.value.field == "service_config"


# What gRPC does with it


async def test_a_retry_policy_makes_attempts() -> None:
    """Three, as it says."""
    async with EchoServer(tls=False) as server:
        server.refuse(times=2, code=grpc.StatusCode.UNAVAILABLE)
        async with server.connect(EchoStub, service_config=retrying()) as stub:
            assert await stub.UnaryUnary(b"x") == b"x"
        assert len(server.calls) == 3


async def test_the_shortest_timeout_leaves_a_call_time() -> None:
    """A held call answers within it, and ends when it is over; one of another method is not concerned."""
    config = {"methodConfig": [{"name": [{"service": SERVICE, "method": "UnaryUnary"}], "timeout": "3s"}]}
    async with EchoServer(tls=False) as server, server.connect(EchoStub, service_config=config) as stub:
        with server.hold(times=1, method="UnaryUnary") as gate:
            call = stub.UnaryUnary(b"x")
            await gate.arrived.wait()
        assert await call == b"x"
        with server.hold(method="UnaryUnary"), pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UnaryUnary(b"x")
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert [message async for message in stub.UnaryStream(b"x")] == [b"x"] * 3


async def test_grpc_takes_the_first_of_two_options() -> None:
    """What is merged, and what overrides, is made for that."""
    options = [(OPTION, json.dumps(for_all(maxRequestMessageBytes=size))) for size in (1, 9)]
    async with EchoServer(tls=False) as server, grpc.aio.insecure_channel(server.target, options) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match=r"larger than max \(2 vs. 1\)"):
            await EchoStub(channel).UnaryUnary(b"xx")


async def burst(target: str, **arguments: Any) -> None:
    """Make a call, and then fifty at once."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with connect(
        target, EchoStub, credentials=TOKEN, plaintext=True, options=options, **arguments
    ) as stub:
        await stub.UnaryUnary(b"x")
        await asyncio.gather(*(stub.UnaryUnary(b"x") for _ in range(50)))


@pytest.mark.parametrize(
    ("arguments", "most"), [({}, MAX_CONNECTIONS), ({"max_connections": 2}, 2), ({"max_connections": 1}, 1)]
)
async def test_calls_above_the_limit_of_streams_open_connections(
    arguments: dict[str, Any], most: int
) -> None:
    """As many as are allowed at most; more than one where that is allowed."""
    async with limited_server(2) as server:
        await burst(server.target, **arguments)
    assert min(2, most) <= len(server.peers) <= most


async def test_calls_below_the_limit_of_streams_share_a_connection() -> None:
    """A quiet user has one, whatever is allowed."""
    async with limited_server(100) as server:
        await burst(server.target)
    assert len(server.peers) == 1


async def test_the_seeds_functions_scale_as_well() -> None:
    """By the default; a service config among their options is merged."""
    options = [("grpc.use_local_subchannel_pool", 1), (OPTION, json.dumps(retrying()))]
    async with limited_server(2) as server:
        async with insecure_authorized_channel(TOKEN, server.target, options=options) as channel:
            stub = EchoStub(channel)
            await stub.UnaryUnary(b"x")
            await asyncio.gather(*(stub.UnaryUnary(b"x") for _ in range(50)))
    assert len(server.peers) > 1
