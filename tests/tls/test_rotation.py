"""Certificates that change while a channel is used: new RPCs on a new connection, running ones on the old."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from aio_authgrpc import AuthorizedChannel, SslCredentials, client_certificate_files, connect, static_token
from aio_authgrpc._channels.rotating import RotatingChannel
from aio_authgrpc._tls.credentials import tls_source
from aio_authgrpc._tls.settings import TlsSettings
from aio_authgrpc.errors import ChannelClosedError, ClientCertificateError
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock
from aio_authgrpc.tokens import TokenCache

TOKEN = static_token("abc")
SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN


@dataclass
class Rotation:
    """A RotatingChannel to the `mutual_server`, whose interval the test lets pass."""

    files: Any
    clock: FakeClock
    made: list[grpc.aio.Channel] = field(default_factory=list)
    channel: RotatingChannel[TlsSettings] = field(init=False)

    async def open(self) -> None:
        callback = client_certificate_files(self.files.cert, self.files.key)
        roots = self.files.server.ca_pem
        source = tls_source(SslCredentials(root_certificates=roots, client_certificate=callback))
        self.channel = RotatingChannel(
            self.make, await source.read(), source.read, interval=600, clock=self.clock
        )
        await self.clock.wait_for_sleepers()

    def make(self, settings: TlsSettings) -> grpc.aio.Channel:
        channel = grpc.aio.secure_channel(self.files.server.target, settings.channel_credentials())
        self.made.append(channel)
        return channel

    async def interval_passes(self) -> None:
        """Let the files be read again; return when that is over."""
        self.clock.advance(600)
        await self.clock.wait_for_sleepers()

    async def rotate(self, name: str) -> None:
        self.files.issue(name)
        await self.interval_passes()

    async def shut_down(self, channel: grpc.aio.Channel) -> None:
        async with asyncio.timeout(10):
            while channel.get_state() is not SHUTDOWN:  # noqa: ASYNC110 - a closed channel reports no change
                await asyncio.sleep(0)


@pytest.fixture
async def rotation(client_files: Any, fake_clock: FakeClock) -> AsyncIterator[Rotation]:
    rotation = Rotation(files=client_files, clock=fake_clock)
    await rotation.open()
    yield rotation
    await rotation.channel.close()


def names(server: EchoServer) -> list[str]:
    return [name for call in server.calls for name in call.client_names]


async def test_new_rpcs_use_the_new_certificate_on_a_new_connection(
    arity: Any, rotation: Rotation, mutual_server: EchoServer
) -> None:
    """By the same stub."""
    stub = EchoStub(rotation.channel)
    for name in ("second@example.com", "third@example.com"):
        assert await arity.finish(arity.begin(stub)) == arity.responses
        await rotation.rotate(name)
    await arity.finish(arity.begin(stub))
    assert names(mutual_server) == ["first@example.com", "second@example.com", "third@example.com"]
    assert len({call.peer for call in mutual_server.calls}) == 3


async def test_rpcs_under_way_end_on_the_old_connection(
    arity: Any, rotation: Rotation, mutual_server: EchoServer
) -> None:
    """Which is closed after the last of them, and not before."""
    stub = EchoStub(rotation.channel)
    with mutual_server.hold(times=2) as gate:
        calls = [asyncio.ensure_future(arity.finish(arity.begin(stub))) for _ in range(2)]
        await gate.wait_for(2)
        await rotation.rotate("second@example.com")
        await arity.finish(arity.begin(stub))
        assert rotation.made[0].get_state() is grpc.ChannelConnectivity.READY
    assert await asyncio.gather(*calls) == [arity.responses] * 2
    await rotation.shut_down(rotation.made[0])
    assert names(mutual_server) == ["first@example.com"] * 2 + ["second@example.com"]


async def test_a_channel_without_rpcs_under_way_is_closed_at_once(rotation: Rotation) -> None:
    """It may never have been used."""
    await rotation.rotate("second@example.com")
    await rotation.shut_down(rotation.made[0])
    assert rotation.made[1].get_state() is grpc.ChannelConnectivity.IDLE


async def test_a_connection_in_use_is_replaced_by_one_under_way(
    rotation: Rotation, mutual_server: EchoServer
) -> None:
    """The next RPC need not wait for the handshake."""
    await EchoStub(rotation.channel).UnaryUnary(b"x")
    await rotation.rotate("second@example.com")
    async with asyncio.timeout(10):
        replacement = rotation.made[1]
        while (state := replacement.get_state()) is not grpc.ChannelConnectivity.READY:
            await replacement.wait_for_state_change(state)
    assert len(mutual_server.calls) == 1  # no RPC made it connect


async def test_unchanged_certificates_change_nothing(rotation: Rotation) -> None:
    """Whatever the files' times say."""
    rotation.files.cert.touch()
    await rotation.interval_passes()
    assert len(rotation.made) == 1


async def test_half_of_a_change_leaves_everything_as_it_is(
    rotation: Rotation, mutual_server: EchoServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The certificate was written and its key not yet: logged once, and complete the next time."""
    chain, key = mutual_server.issue_client_certificate("second@example.com")
    rotation.files.cert.write_bytes(chain)
    await rotation.interval_passes()
    await rotation.interval_passes()
    assert caplog.text.count("could not be read again") == 1
    rotation.files.key.write_bytes(key)
    await rotation.interval_passes()
    await EchoStub(rotation.channel).UnaryUnary(b"x")
    assert names(mutual_server) == ["second@example.com"]


async def test_rpcs_under_way_on_the_old_channel_end_when_all_is_closed(
    rotation: Rotation, mutual_server: EchoServer
) -> None:
    """Cancelled, as those on the new one."""
    stub = EchoStub(rotation.channel)
    gate = mutual_server.hold()
    old = stub.UnaryUnary(b"x")
    await gate.wait_for(1)
    await rotation.rotate("second@example.com")
    new = stub.UnaryUnary(b"x")
    await gate.wait_for(2)
    await rotation.channel.close()
    outcomes = await asyncio.gather(old, new, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
    assert {channel.get_state() for channel in rotation.made} == {SHUTDOWN}


async def test_closing_with_grace_lets_rpcs_on_both_channels_finish(
    rotation: Rotation, mutual_server: EchoServer
) -> None:
    """The grace is for all of them."""
    stub = EchoStub(rotation.channel)
    with mutual_server.hold() as gate:
        calls = [stub.UnaryUnary(b"old")]
        await gate.wait_for(1)
        await rotation.rotate("second@example.com")
        calls.append(stub.UnaryUnary(b"new"))
        await gate.wait_for(2)
        closing = asyncio.ensure_future(rotation.channel.close(grace=10))
        await asyncio.sleep(0)
    await closing
    assert await asyncio.gather(*calls) == [b"old", b"new"]


async def test_its_state_can_be_watched_across_a_change(
    rotation: Rotation, mutual_server: EchoServer
) -> None:
    """A watcher hears of the new channel's state, also while the old one has an RPC under way."""
    with mutual_server.hold() as gate:
        call = EchoStub(rotation.channel).UnaryUnary(b"x")
        await gate.wait_for(1)
        ready = grpc.ChannelConnectivity.READY
        watching = asyncio.ensure_future(rotation.channel.wait_for_state_change(ready))
        await asyncio.sleep(0)
        await rotation.rotate("second@example.com")
        async with asyncio.timeout(10):
            await watching
            await rotation.channel.channel_ready()
    assert await call == b"x"


async def test_a_callback_that_is_cancelled_from_inside_does_not_end_the_readings(
    rotation: Rotation, fake_clock: FakeClock
) -> None:
    """Nor does one that fails."""
    outcomes: list[Any] = [asyncio.CancelledError(), OSError("no card"), 2]

    async def read() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return int(outcome)

    made: list[int] = []

    def make(number: int) -> grpc.aio.Channel:
        made.append(number)
        return grpc.aio.insecure_channel("localhost:1")

    async with RotatingChannel(make, 1, read, interval=600, clock=fake_clock):
        for _ in range(3):
            await fake_clock.wait_for_sleepers(2)
            fake_clock.advance(600)
        await fake_clock.wait_for_sleepers(2)
    assert made == [1, 2]


OF_THE_CALLER: ContextVar[str] = ContextVar("of_the_caller", default="nothing")


async def test_a_reading_has_nothing_of_the_context_in_which_the_channel_was_opened(
    fake_clock: FakeClock,
) -> None:
    """The readings go on for as long as the channel is open: a request's trace or identity would, too."""
    seen: list[str] = []

    async def read() -> int:
        seen.append(OF_THE_CALLER.get())
        return 1

    def make(_: int) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel("localhost:1")

    OF_THE_CALLER.set("a request")
    async with RotatingChannel(make, 1, read, interval=600, clock=fake_clock):
        await fake_clock.wait_for_sleepers()
        fake_clock.advance(600)
        await fake_clock.wait_for_sleepers()
    assert seen == ["nothing"]


async def test_closing_during_a_reading_ends_it(fake_clock: FakeClock) -> None:
    """And makes no channel any more."""
    reading = asyncio.Event()

    async def read() -> int:
        reading.set()
        await asyncio.Event().wait()
        return 2

    made: list[int] = []

    def make(number: int) -> grpc.aio.Channel:
        made.append(number)
        return grpc.aio.insecure_channel("localhost:1")

    channel = RotatingChannel(make, 1, read, interval=600, clock=fake_clock)
    await fake_clock.wait_for_sleepers()
    fake_clock.advance(600)
    await reading.wait()
    await channel.close()
    await channel.close()
    assert made == [1]


async def test_settings_that_come_after_the_close_make_no_channel(fake_clock: FakeClock) -> None:
    """A user's function may suppress its cancellation, and return new certificates."""
    reading = asyncio.Event()

    async def read() -> int:
        reading.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return 2

    made: list[int] = []

    def make(number: int) -> grpc.aio.Channel:
        made.append(number)
        return grpc.aio.insecure_channel("localhost:1")

    channel = RotatingChannel(make, 1, read, interval=600, clock=fake_clock)
    await fake_clock.wait_for_sleepers()
    fake_clock.advance(600)
    await reading.wait()
    await channel.close()
    assert channel._timer.done()
    assert made == [1]


async def test_a_channel_that_was_dropped_unclosed_is_read_no_more(fake_clock: FakeClock) -> None:
    """Its callback would be asked for as long as the application runs."""

    async def read() -> int:
        raise AssertionError

    def make(_: int) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel("localhost:1")

    channel = RotatingChannel(make, 1, read, interval=600, clock=fake_clock)
    timer = channel._timer
    await fake_clock.wait_for_sleepers()
    del channel
    gc.collect()
    async with asyncio.timeout(10):
        await asyncio.wait({timer})
    assert timer.cancelled()


async def test_an_authorized_channel_over_it_sends_tokens_on_both(
    rotation: Rotation, mutual_server: EchoServer, cache: TokenCache
) -> None:
    """One token for all connections."""
    async with AuthorizedChannel(rotation.channel, cache) as channel:
        stub = EchoStub(channel)
        await stub.UnaryUnary(b"x")
        await rotation.rotate("second@example.com")
        await stub.UnaryUnary(b"x")
    assert [call.values("authorization") for call in mutual_server.calls] == [("Bearer token-1",)] * 2


@pytest.fixture
async def refused(rotation: Rotation, client_files: Any) -> Rotation:
    """Give a rotation whose first certificate the server does not take."""
    stranger = trustme.CA().issue_cert("stranger@example.com")
    chain = b"".join(link.bytes() for link in stranger.cert_chain_pems)
    pair = (chain, stranger.private_key_pem.bytes())
    settings = TlsSettings(root_certificates=client_files.server.ca_pem, pair=pair)
    rotation.channel._replace(settings)
    return rotation


async def test_an_rpc_that_waits_for_its_connection_follows_the_certificate(
    arity: Any, refused: Rotation, mutual_server: EchoServer, cache: TokenCache
) -> None:
    """With the token at hand or not; the one that no server takes would keep it until its deadline."""
    channel = AuthorizedChannel(refused.channel, cache)
    outcomes = []
    for _ in range(2):
        call = arity.begin(EchoStub(channel), wait_for_ready=True, timeout=15)
        outcomes.append(asyncio.ensure_future(arity.finish(call)))
        await cache.get()
    await refused.channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
    await refused.rotate("second@example.com")
    assert await asyncio.gather(*outcomes) == [arity.responses] * 2
    assert names(mutual_server) == ["second@example.com"] * 2
    await channel.close()


async def test_an_rpc_that_waits_for_its_connection_ends_at_its_deadline(
    arity: Any, refused: Rotation, cache: TokenCache
) -> None:
    """And says for what it waited; nothing waits on."""
    async with AuthorizedChannel(refused.channel, cache) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await arity.finish(arity.begin(EchoStub(channel), wait_for_ready=True, timeout=0.2))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "waited for its connection" in str(caught.value.details())


async def test_an_rpc_that_waits_for_its_connection_can_be_cancelled(
    refused: Rotation, cache: TokenCache
) -> None:
    """Alone: another one waits on, until the channel is closed."""
    async with AuthorizedChannel(refused.channel, cache) as channel:
        calls = [EchoStub(channel).UnaryUnary(b"x", wait_for_ready=True) for _ in range(2)]
        await asyncio.sleep(0)
        calls[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        assert not calls[1].done()
    with pytest.raises(ChannelClosedError):
        await calls[1]


# By connect()


async def test_traffic_goes_on_while_certificates_change(
    client_files: Any, mutual_server: EchoServer
) -> None:
    """Five certificates take turns under calls that go on all the time; none fails."""
    async with connect(
        mutual_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=SslCredentials(
            client_certificate=client_certificate_files(client_files.cert, client_files.key),
            root_certificates=mutual_server.ca_pem,
            refresh_interval=0.01,
        ),
    ) as stub:
        for number in range(5):
            client_files.issue(f"client-{number}@example.com")
            while f"client-{number}@example.com" not in names(mutual_server):
                await asyncio.gather(*(stub.UnaryUnary(b"x", timeout=10) for _ in range(10)))
    assert len(set(names(mutual_server))) >= 5


async def test_a_callback_is_asked_again(client_files: Any, mutual_server: EchoServer) -> None:
    """A function of the user's."""
    asked: list[str] = []

    async def callback() -> tuple[bytes, bytes]:
        asked.append(f"client-{len(asked)}@example.com")
        return mutual_server.issue_client_certificate(asked[-1])

    async with connect(
        mutual_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=SslCredentials(
            client_certificate=callback, root_certificates=mutual_server.ca_pem, refresh_interval=0.01
        ),
    ) as stub:
        while len(set(names(mutual_server))) < 3:
            await stub.UnaryUnary(b"x", timeout=10)
    assert names(mutual_server)[0] == asked[0] == "client-0@example.com"


async def test_a_callback_that_exits_at_a_later_reading_changes_nothing(
    client_files: Any, mutual_server: EchoServer
) -> None:
    """Neither the application ends nor the readings do."""
    readings = [sys.exit, client_certificate_files(client_files.cert, client_files.key)]
    source = tls_source(SslCredentials(client_certificate=lambda: readings.pop(0)()))  # noqa: PLW0108 - another one each time
    with pytest.raises(ClientCertificateError, match="SystemExit"):
        await source.read()
    assert (await source.read()).pair is not None


async def test_a_workloads_files_are_read_again(
    client_files: Any, mutual_server: EchoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the application default certificate, with no TLS argument."""
    client_files.configure(tmp_path / "config.json")
    monkeypatch.setenv("GOOGLE_API_CERTIFICATE_CONFIG", str(tmp_path / "config.json"))
    async with connect(
        mutual_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=SslCredentials(root_certificates=mutual_server.ca_pem, refresh_interval=0.01),
    ) as stub:
        client_files.issue("second@example.com")
        while "second@example.com" not in names(mutual_server):
            await stub.UnaryUnary(b"x", timeout=10)


async def test_a_workloads_configuration_that_is_away_for_a_moment_changes_nothing(
    client_files: Any, home: Path
) -> None:
    """It may be written in two steps; a channel never drops its certificate."""
    config = home / ".config" / "gcloud" / "certificate_config.json"
    client_files.configure(config)
    source = tls_source(SslCredentials())
    first = await source.read()
    config.rename(home / "away")
    with pytest.raises(ClientCertificateError, match="have disappeared"):
        await source.read()
    assert source.refresh_interval is not None
    (home / "away").rename(config)
    assert first.pair is not None
    assert await source.read() == first


async def test_a_workload_does_not_become_a_device(
    client_files: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are away for a moment. The provider command is not run: it returns another identity."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    config = home / ".config" / "gcloud" / "certificate_config.json"
    client_files.configure(config)
    source = tls_source(SslCredentials())
    await source.read()
    config.unlink()
    metadata = home / ".secureConnect" / "context_aware_metadata.json"
    metadata.parent.mkdir()
    metadata.write_text(json.dumps({"cert_provider_command": ["touch", str(home / "was-run")]}))
    with pytest.raises(ClientCertificateError, match="have disappeared"):
        await source.read()
    assert not (home / "was-run").exists()


async def test_root_certificates_are_read_again(echo_server: EchoServer, tmp_path: Path) -> None:
    """A server whose authority is added to the file is trusted from then on."""
    path = tmp_path / "roots.pem"
    path.write_bytes(trustme.CA().cert_pem.bytes())
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=SslCredentials(root_certificates=path, refresh_interval=0.01),
    ) as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="CERTIFICATE_VERIFY_FAILED"):
            await stub.UnaryUnary(b"x", timeout=10)
        path.write_bytes(echo_server.ca_pem)
        async with asyncio.timeout(10):
            while not echo_server.calls:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await stub.UnaryUnary(b"x", timeout=10)


@pytest.mark.parametrize(
    "settings",
    [{"refresh_interval": None}, {"client_certificate": None}],
    ids=["never", "nothing-in-files"],
)
async def test_what_cannot_change_has_no_timer(
    client_files: Any, mutual_server: EchoServer, settings: dict[str, Any]
) -> None:
    """And its calls go straight to the one channel."""
    files = client_certificate_files(client_files.cert, client_files.key)
    tls = SslCredentials(
        **{"root_certificates": mutual_server.ca_pem, "client_certificate": files, **settings}
    )
    async with connect("localhost:1", EchoStub, credentials=TOKEN, ssl_credentials=tls):
        assert "aio_authgrpc certificates" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_a_late_failure_of_an_opening_leaves_no_timer(
    client_files: Any, mutual_server: EchoServer
) -> None:
    """The connections were made by then: they are closed."""

    class Failing:
        def channel(self, target: str, auth: TokenCache, *, traced: bool) -> Any:
            assert "aio_authgrpc certificates" in {task.get_name() for task in asyncio.all_tasks()}
            raise RuntimeError("the application's telemetry")

    files = client_certificate_files(client_files.cert, client_files.key)
    tls = SslCredentials(root_certificates=mutual_server.ca_pem, client_certificate=files)
    with pytest.raises(RuntimeError, match="the application's telemetry") as caught:
        async with connect(
            "localhost:1", EchoStub, credentials=TOKEN, ssl_credentials=tls, telemetry=Failing()
        ):
            pytest.fail("it was opened")
    assert "aio_authgrpc certificates" not in {task.get_name() for task in asyncio.all_tasks()}
    del caught  # its frames held the channel until here


async def test_channels_of_one_object_share_a_reading(client_files: Any, mutual_server: EchoServer) -> None:
    """Two that open at once ask for the certificate once; each follows the next one."""
    asked: list[str] = []

    async def certificate() -> tuple[bytes, bytes]:
        asked.append("asked")
        await asyncio.sleep(0)
        return mutual_server.issue_client_certificate()

    tls = SslCredentials(root_certificates=mutual_server.ca_pem, client_certificate=certificate)
    connections = [
        connect(mutual_server.target, EchoStub, credentials=TOKEN, ssl_credentials=tls) for _ in range(2)
    ]
    await asyncio.gather(*(connection.__aenter__() for connection in connections))
    timers = [task for task in asyncio.all_tasks() if task.get_name() == "aio_authgrpc certificates"]
    for connection in connections:
        await connection.__aexit__(None, None, None)
    assert asked == ["asked"]
    assert len(timers) == 2


@pytest.mark.parametrize(("refresh_interval", "readings"), [(None, 1), (600.0, 4)], ids=["never", "later"])
async def test_a_certificate_that_is_never_read_again_is_that_of_the_loading(
    client_files: Any, mutual_server: EchoServer, refresh_interval: float | None, readings: int
) -> None:
    """Else each channel is opened with what is there by then."""
    read = 0

    def callback() -> tuple[bytes, bytes]:
        nonlocal read
        read += 1
        return client_files.cert.read_bytes(), client_files.key.read_bytes()

    credentials = await SslCredentials(
        root_certificates=mutual_server.ca_pem, client_certificate=callback, refresh_interval=refresh_interval
    )
    for _ in range(3):
        async with connect(
            mutual_server.target, EchoStub, credentials=static_token("t"), ssl_credentials=credentials
        ) as stub:
            await stub.UnaryUnary(b"x")
    assert read == readings
