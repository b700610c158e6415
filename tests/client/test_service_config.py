"""gRPC's service config: what is merged, what is refused, and that gRPC does what it says."""

from __future__ import annotations

import asyncio
import json
from types import MappingProxyType
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import (
    ConfigurationError,
    channel_factory,
    connect,
    insecure_authorized_channel,
    static_token,
)
from aio_authgrpc._client.service_config import MAX_CONNECTIONS, with_service_config
from aio_authgrpc._client.service_config_fields import ATTEMPT_TIMEOUT, BALANCERS, left_to_grpc
from aio_authgrpc.bookstore import BookstoreStub
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
OUTLIER = "outlier_detection_experimental"
HEDGING = "grpc.experimental.enable_hedging"
WITHOUT_CODES = {name: value for name, value in RETRY.items() if name != "retryableStatusCodes"}


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


def balanced(*balancers: dict[str, Any]) -> dict[str, Any]:
    return {"loadBalancingConfig": list(balancers)}


def health(**others: Any) -> dict[str, Any]:
    return {"healthCheckConfig": {"serviceName": "a"}, **others}


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
        (retrying(maxAttempts=6), f"{POLICY}.maxAttempts", "from 2 to 5. gRPC makes 5 at most."),
        (retrying(maxAttempts="6"), f"{POLICY}.maxAttempts", "from 2 to 5"),
        (retrying(maxAttempts="three"), f"{POLICY}.maxAttempts", "expected int, not str"),
        (retrying(maxAttempts=True), f"{POLICY}.maxAttempts", "expected int, not bool"),
        (retrying(backoffMultiplier=0.3), f"{POLICY}.backoffMultiplier", "hang below 0.005 s"),
        (retrying(retryableStatusCodes=["OK"]), f"{POLICY}.retryableStatusCodes[0]", "succeeded"),
        (retrying(retryableStatusCodes=None), POLICY, "it has no retryableStatusCodes"),
        (for_all(), "methodConfig[0]", "nothing for them"),
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
        ({"methodConfig": {}}, "methodConfig", "expected list, not dict"),
        ({"methodConfig": [5]}, "methodConfig[0]", "expected dict, not int"),
        (named({"method": "UnaryUnary"}), "methodConfig[0].name[0]", "without its service"),
        (named({"service": f"/{SERVICE}"}), "methodConfig[0].name[0].service", "slash"),
        (named({"service": SERVICE}, {"service": SERVICE}), "methodConfig[0].name[1]", "the same name"),
        ({"loadBalancingConfig": []}, "loadBalancingConfig", "not empty"),
        ({"loadBalancingConfig": [{"a": {}, "b": {}}]}, "loadBalancingConfig[0]", "2 policies"),
        ({"retryThrottling": {"maxTokens": 0, "tokenRatio": 1}}, "retryThrottling.maxTokens", "from 1"),
        ({"retryThrottling": {"maxTokens": 10}}, "retryThrottling", "it has no tokenRatio"),
        ({"healthCheckConfig": {"service": ""}}, "healthCheckConfig.service", "'serviceName'"),
        (health(), "healthCheckConfig", "no health checks with pick_first"),
        (health(loadBalancingPolicy="PICK_FIRST"), "healthCheckConfig", "round_robin"),
        (health(**balanced({"pick_first": {}})), "healthCheckConfig", "round_robin"),
        (scaled(0), "connectionScaling.maxConnectionsPerSubchannel", "from 1"),
        (scaled(2**31), "connectionScaling.maxConnectionsPerSubchannel", "to 2147483647"),
        (
            balanced({"pick_first": {"shuffleAddresslist": True}}),
            "loadBalancingConfig[0].pick_first.shuffleAddresslist",
            "Did you mean 'shuffleAddressList'",
        ),
        (
            balanced({OUTLIER: {"childPolicy": [{"round_robin": {"x": 1}}]}}),
            f"loadBalancingConfig[0].{OUTLIER}.childPolicy[0].round_robin.x",
            "would ignore it",
        ),
        (
            balanced({OUTLIER: {"successRateEjection": {"limit": 1}}}),
            f"loadBalancingConfig[0].{OUTLIER}.successRateEjection.limit",
            "would ignore it",
        ),
        (
            balanced({"round_robbin": {}}, {"pick_first": {}}),
            "loadBalancingConfig[0].round_robbin",
            "Did you mean 'round_robin'",
        ),
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


def test_null_in_what_is_required_is_not_there() -> None:
    """As in the JSON of protocol buffers."""
    with pytest.raises(ConfigurationError, match="it has no maxAttempts"):
        connect("localhost:1", credentials=TOKEN, service_config=retrying(maxAttempts=None))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ([("grpc.enable_retries", 0)], "retryPolicy"),
        ([("grpc.minimal_stack", 1)], "retryPolicy"),
        ([("grpc.minimal_stack", 1)], "maxRequestMessageBytes"),
        ([(HEDGING, 0)], f"retryPolicy.{ATTEMPT_TIMEOUT}"),
        ([(HEDGING, 0), (HEDGING, 1)], f"retryPolicy.{ATTEMPT_TIMEOUT}"),
    ],
)
def test_what_an_option_turns_off_is_refused(options: Any, field: str) -> None:
    """The first of an option counts."""
    name = field.partition(".")[0]
    value = {**RETRY, ATTEMPT_TIMEOUT: "1s"} if name == "retryPolicy" else 1
    with pytest.raises(ConfigurationError, match="gRPC ignores it with") as caught:
        with_service_config(options, for_all(**{name: value}), None)
    assert caught.value.field == f"service_config.methodConfig[0].{field}"


@pytest.mark.parametrize("config", [[], "{}"])
def test_the_type_of_a_config_is_called_what_a_user_writes(config: Any) -> None:
    """A Mapping is most often a dict."""
    with pytest.raises(ConfigurationError, match="expected dict or None"):
        connect("localhost:1", credentials=TOKEN, service_config=config)


@pytest.mark.parametrize("limit", [2**31, 10**30])
def test_a_number_of_connections_that_no_option_can_hold_is_refused(limit: int) -> None:
    """Of an int of C."""
    with pytest.raises(ConfigurationError, match="more than 2147483647") as caught:
        connect("localhost:1", credentials=TOKEN, max_connections=limit)
    assert caught.value.field == "max_connections"
    options = with_service_config([(OPTION, json.dumps(scaled(limit)))], None, None)
    assert ("grpc.max_connections_per_subchannel_cap", 2**31 - 1) in options


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({"methodConfig": []}, ()),
        ({"methodConfig": None, "loadBalancingConfig": None}, ()),
        (for_all(timeout=None, waitForReady=True), ()),
        ({"healthCheckConfig": {}, "connectionScaling": {}}, ()),
        (health(loadBalancingPolicy="round_robin"), [("grpc.inhibit_health_checking", 1)]),
        (health(), [("grpc.lb_policy_name", "round_robin"), ("grpc.inhibit_health_checking", 1)]),
        (for_all(maxRequestMessageBytes="1024"), ()),
        (retrying(maxAttempts="5", backoffMultiplier="0.9"), ()),
        (retrying(), [("grpc.enable_retries", 1), ("grpc.minimal_stack", 0)]),
        (retrying(**{ATTEMPT_TIMEOUT: "1s"}), [(HEDGING, 1), (HEDGING, 0)]),
        (for_all(retryPolicy={**WITHOUT_CODES, ATTEMPT_TIMEOUT: "1s"}), [(HEDGING, 1)]),
        ({"retryThrottling": {"maxTokens": 2**32 - 1, "tokenRatio": "0.1"}}, ()),
        (scaled(2**31 - 1), ()),
        ({"connectionScaling": {"maxConnectionsPerSubchannel": "12"}}, ()),
        ({"methodConfig": [*retrying()["methodConfig"], {"name": [{"service": SERVICE}]}]}, ()),
        (MappingProxyType({"methodConfig": (MappingProxyType({"name": ({},), "waitForReady": True}),)}), ()),
        (balanced({OUTLIER: {"interval": "1s", "childPolicy": [{"weighted_round_robin": {}}]}}), ()),
        (balanced({"round_robin": {}}, {"of_another_language": {"a": 1}}), ()),
    ],
    ids=str,
)
async def test_what_grpc_takes_is_let_pass(config: Any, options: Any) -> None:
    """And a call goes through."""
    async with EchoServer(tls=False) as server:
        async with server.connect(EchoStub, service_config=config, options=options) as stub:
            assert await stub.UnaryUnary(b"x") == b"x"


def test_a_number_as_text_counts_for_the_option_of_many_connections() -> None:
    """It is what gRPC reads."""
    config = {"connectionScaling": {"maxConnectionsPerSubchannel": "12"}}
    assert ("grpc.max_connections_per_subchannel_cap", 12) in with_service_config((), config, None)


KEYS = [
    (balancer, key)
    for balancer, fields in BALANCERS.items()
    for key, check in (fields or {}).items()
    if check is left_to_grpc and key != "requestHashHeader"  # which gRPC reads by a switch of the environment
]


@pytest.mark.parametrize(("balancer", "key"), KEYS)
async def test_grpc_reads_the_fields_of_balancers(balancer: str, key: str) -> None:
    """So that none of them is let pass and ignored: it refuses their values on opening."""
    config = balanced({balancer: {key: [[]]}})
    connection = connect("localhost:1", credentials=TOKEN, plaintext=True, service_config=config)
    with pytest.raises(ConfigurationError, match=rf"field:{key}(\[0\])? error:is not a") as caught:
        await connection.__aenter__()
    assert caught.value.field == "service_config"


@pytest.mark.parametrize(
    ("name", "field", "says"),
    [
        ({"service": SERVICE, "method": "UnaryUnari"}, "method", "Did you mean 'UnaryUnary'"),
        ({"service": SERVICE, "method": "Other"}, "method", "It is one of StreamStream, StreamUnary"),
        ({"service": "aio_authgrpc.testing.Ecko"}, "service", f"Did you mean '{SERVICE}'"),
        ({"service": "no.Such"}, "service", "Pass connect() its stub, too, if there is one."),
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


class PartlyLater:
    """Asks for a method when it is made, and for another one later."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.UnaryUnary: Any = channel.unary_unary(f"/{SERVICE}/UnaryUnary")

    def later(self) -> Any:
        return self._channel.unary_unary(f"/{SERVICE}/Later")


def no_stub(channel: grpc.aio.Channel) -> grpc.aio.Channel:
    return channel


LATER = named({"service": SERVICE, "method": "Later"}, {"service": "another.Service", "method": "Do"}, {})


@pytest.mark.parametrize("stubs", [[], [no_stub], [PartlyLater], [PartlyLater, no_stub]])
async def test_what_may_be_asked_for_later_is_let_pass(stubs: Any) -> None:
    """It cannot be known."""
    connection = connect("localhost:1", *stubs, credentials=TOKEN, plaintext=True, service_config=LATER)
    async with connection:
        assert connection.channel.get_state() is grpc.ChannelConnectivity.IDLE


async def test_a_stub_that_asks_at_once_tells_all_methods() -> None:
    """Beside one that asks later, too."""
    stubs: Any = [PartlyLater, EchoStub]
    connection = connect("localhost:1", *stubs, credentials=TOKEN, plaintext=True, service_config=LATER)
    with pytest.raises(ConfigurationError, match="has no method 'Later'"):
        await connection.__aenter__()


BOOKSTORE = "endpoints.examples.bookstore.Bookstore"
MISSPELT = named({"service": BOOKSTORE, "method": "ListShelfs"})


class OneShelf:
    """Asks for one of the methods of its service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.GetShelf: Any = channel.unary_unary(f"/{BOOKSTORE}/GetShelf")

    def later(self) -> None: ...


async def test_the_methods_of_an_imported_service_are_known() -> None:
    """As a stub for the connection's channel may use it, or another part of the same stub."""
    config = named({"service": BOOKSTORE, "method": "ListShelves"})
    arguments: Any = {"credentials": TOKEN, "plaintext": True}
    async with connect("localhost:1", EchoStub, OneShelf, service_config=config, **arguments):
        pass
    async with connect("localhost:1", EchoStub, service_config=config, **arguments):
        pass
    with pytest.raises(ConfigurationError, match="Did you mean 'ListShelves'"):
        await connect("localhost:1", EchoStub, service_config=MISSPELT, **arguments).__aenter__()


@pytest.mark.parametrize("stub", [BookstoreStub, OneShelf])
def test_a_lazy_channel_refuses_a_misspelt_method_when_its_service_is_used(stub: Any) -> None:
    """Where the stub is made, not at the call; other services are not concerned."""
    channel = channel_factory(TOKEN, service_config=MISSPELT)("localhost:1")
    EchoStub(channel)
    with pytest.raises(ConfigurationError, match="Did you mean 'ListShelves'") as caught:
        stub(channel)
    assert caught.value.field == "service_config.methodConfig[0].name[0].method"


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
