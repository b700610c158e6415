"""SslCredentials, and the channel without TLS arguments: the certificate of this workload or device."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import google.auth.transport.mtls
import pytest
from google.auth.exceptions import MutualTLSChannelError

from aio_authgrpc import ConfigurationError, SslCredentials, connect, secure_authorized_channel, static_token
from aio_authgrpc._tls.default_certificate import DefaultCertificateLookup
from aio_authgrpc.errors import ClientCertificateError
from aio_authgrpc.testing import EchoServer, EchoStub

TOKEN = static_token("abc")
PRINTS_FILES = "import sys, pathlib; print(*(pathlib.Path(p).read_text() for p in sys.argv[1:]), sep='')"


@pytest.fixture
def device(home: Path, client_files: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Give what makes this machine a device with endpoint verification, whose provider command is this."""

    def make(*command: object) -> Path:
        metadata = home / ".secureConnect" / "context_aware_metadata.json"
        metadata.parent.mkdir(exist_ok=True)
        words = command or (sys.executable, "-c", PRINTS_FILES, client_files.cert, client_files.key)
        metadata.write_text(json.dumps({"cert_provider_command": [str(word) for word in words]}))
        monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
        return metadata

    return make


@pytest.fixture
def workload(client_files: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this machine a workload with a certificate; give its configuration."""
    path = client_files.directory / "certificate_config.json"
    client_files.configure(path)
    monkeypatch.setenv("GOOGLE_API_CERTIFICATE_CONFIG", str(path))
    return path  # type: ignore[no-any-return]  # conftest's class is not imported


async def names_seen(server: EchoServer) -> tuple[str, ...]:
    """Call the server, which demands a certificate, with no TLS argument but its authority."""
    tls = SslCredentials(root_certificates=server.ca_pem)
    async with connect(server.target, EchoStub, credentials=TOKEN, ssl_credentials=tls) as stub:
        await stub.UnaryUnary(b"x", timeout=10)
    return server.calls[-1].client_names


@pytest.mark.parametrize("name", ["is_mtls", "ssl_credentials", "use_mtls_endpoint"])
def test_before_they_are_loaded_they_say_so(name: str) -> None:
    """One clear error for each property."""
    with pytest.raises(ConfigurationError, match=r"await SslCredentials\(\)"):
        getattr(SslCredentials(), name)


@pytest.mark.parametrize(
    "load", [SslCredentials.load, lambda credentials: credentials], ids=["load", "await"]
)
async def test_a_machine_without_a_certificate_has_regular_tls(load: Any) -> None:
    """Awaited themselves, or their load()."""
    credentials = await load(SslCredentials())
    assert (credentials.is_mtls, repr(credentials)) == (False, "<SslCredentials, is_mtls: False>")


async def test_a_workload_has_mutual_tls(workload: Path) -> None:
    """GOOGLE_API_CERTIFICATE_CONFIG names its files."""
    assert (await SslCredentials()).is_mtls


async def test_a_channel_without_tls_arguments_has_the_workloads_certificate(
    workload: Path, mutual_server: EchoServer
) -> None:
    """Option 4."""
    assert await names_seen(mutual_server) == ("first@example.com",)


@pytest.mark.parametrize("named", [None, "{}", "~/elsewhere"])
async def test_gclouds_own_configuration_is_found(
    home: Path, client_files: Any, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    """In its directory, which may be elsewhere."""
    directory = home / ".config" / "gcloud"
    if named is not None:
        directory = home / "elsewhere"
        monkeypatch.setenv("CLOUDSDK_CONFIG", named.format(directory))
    client_files.configure(directory / "certificate_config.json")
    assert (await SslCredentials()).is_mtls


async def test_a_gke_workloads_bundle_is_found(client_files: Any) -> None:
    """Certificates and key in one file, where there is no configuration."""
    bundle = client_files.directory / "bundle.pem"
    bundle.write_bytes(client_files.key.read_bytes() + client_files.cert.read_bytes())
    found = await asyncio.to_thread(DefaultCertificateLookup(gke_bundle=bundle).run)
    assert found is not None
    assert (found.in_files, b"PRIVATE KEY" in found.pair[1]) == (True, True)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_gke_workloads_bundle_that_is_half_written_is_refused(client_files: Any, kept: float) -> None:
    """The key stands first, and the second of two certificates is not there yet, or in part."""
    bundle, chain = client_files.directory / "bundle.pem", client_files.cert.read_bytes()
    bundle.write_bytes(client_files.key.read_bytes() + chain + chain[: int(len(chain) * kept)])
    with pytest.raises(ClientCertificateError, match=r"bundle\.pem holds part of a PEM block"):
        DefaultCertificateLookup(gke_bundle=bundle).run()


async def test_a_device_has_mutual_tls(device: Callable[..., Path], mutual_server: EchoServer) -> None:
    """Its provider command returns the certificate and the key; the command is not run on the loop."""
    device()
    assert await names_seen(mutual_server) == ("first@example.com",)


async def test_a_device_has_regular_tls_unless_the_environment_says_true(
    device: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in google-auth: unset is not enough, and its command is not run."""
    device("/no/such/command")
    monkeypatch.delenv("GOOGLE_API_USE_CLIENT_CERTIFICATE")
    assert not (await SslCredentials()).is_mtls


@pytest.mark.parametrize("variable", ["GOOGLE_API_USE", "CLOUDSDK_CONTEXT_AWARE_USE"])
async def test_the_environment_turns_it_off(
    workload: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Then nothing is read, not even what is broken."""
    workload.write_text("not JSON")
    monkeypatch.setenv(f"{variable}_CLIENT_CERTIFICATE", "false")
    assert not (await SslCredentials()).is_mtls


async def test_loading_again_reads_nothing(workload: Path) -> None:
    """What was loaded stays."""
    credentials = await SslCredentials()
    workload.write_text("not JSON")
    assert (await credentials.load()).is_mtls


async def test_a_channel_takes_the_object_and_loads_it(workload: Path, mutual_server: EchoServer) -> None:
    """google-auth's documentation passes the object; here that works, loaded or not."""
    credentials = SslCredentials()
    async with secure_authorized_channel(TOKEN, None, mutual_server.target, ssl_credentials=credentials):
        assert credentials.is_mtls


@pytest.mark.parametrize(
    ("value", "expected"), [(None, True), ("auto", True), ("always", True), ("Never", False)]
)
async def test_the_environment_chooses_the_endpoint(
    workload: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, expected: bool
) -> None:
    """Unless it says nothing: then the certificate does."""
    if value is not None:
        monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", value)
    assert (await SslCredentials()).use_mtls_endpoint is expected


async def test_an_endpoint_mode_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """google-auth's."""
    monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", "sometimes")
    credentials = await SslCredentials()
    with pytest.raises(MutualTLSChannelError, match="sometimes") as caught:
        _ = credentials.use_mtls_endpoint
    assert caught.value.__cause__ is not None


# Beside google-auth


def in_home(files: Any, home: Path) -> None:
    files.configure(home / ".config" / "gcloud" / "certificate_config.json")


def without_workload(files: Any, home: Path) -> None:
    in_home(files, home)
    path = home / ".config" / "gcloud" / "certificate_config.json"
    path.write_text(json.dumps({"cert_configs": {"ecp": {}}}))


@pytest.mark.skipif(
    not hasattr(google.auth.transport.mtls, "should_use_client_cert"), reason="google-auth came to it later"
)
@pytest.mark.parametrize("use", [None, "", "true", "TRUE", "false", "yes"])
@pytest.mark.parametrize("prepare", [lambda files, home: None, in_home, without_workload])
async def test_google_auth_decides_the_same(
    home: Path, client_files: Any, monkeypatch: pytest.MonkeyPatch, use: str | None, prepare: Any
) -> None:
    """Whether there is mutual TLS, wherever google-auth has no gap."""
    from google.auth.transport import grpc as google_grpc

    prepare(client_files, home)
    if use is not None:
        monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", use)
    theirs = await asyncio.to_thread(lambda: google_grpc.SslCredentials().is_mtls)
    assert (await SslCredentials()).is_mtls is theirs


# What cannot be used


def write(path: Path, content: object) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))


PAIR = {"cert_path": "/no/such/cert", "key_path": "/no/such/key"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("{not JSON", "certificate_config.json is not JSON", id="no-json"),
        pytest.param("", "certificate_config.json is empty", id="empty"),
        pytest.param("[" * 200_000, "certificate_config.json is not JSON", id="deep"),
        pytest.param([], "no JSON object", id="no-object"),
        pytest.param({}, "no cert_configs", id="no-configs"),
        pytest.param({"cert_configs": {"workload": {}}}, "without cert_path or key_path", id="no-paths"),
        pytest.param(
            {"cert_configs": {"workload": {"cert_path": 1, "key_path": 2}}}, "without", id="numbers"
        ),
        pytest.param({"cert_configs": {"workload": PAIR}}, "/no/such/cert cannot be read", id="no-cert"),
    ],
)
@pytest.mark.parametrize("use", [None, "true"])
async def test_a_configuration_that_cannot_be_used_is_an_error(
    workload: Path, monkeypatch: pytest.MonkeyPatch, use: str | None, content: object, message: str
) -> None:
    """google-auth goes on without a certificate for some of them; here each has the error and its cause."""
    write(workload, content)
    if use is not None:
        monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", use)
    with pytest.raises(MutualTLSChannelError, match=message) as caught:
        await SslCredentials()
    assert isinstance(caught.value, ClientCertificateError)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "variable", ["GOOGLE_API_CERTIFICATE_CONFIG", "CLOUDSDK_CONTEXT_AWARE_CERTIFICATE_CONFIG_FILE_PATH"]
)
async def test_a_configuration_that_is_named_and_missing_is_an_error(
    monkeypatch: pytest.MonkeyPatch, variable: str, listener: Any
) -> None:
    """google-auth connects without a certificate; here the server sees no byte."""
    monkeypatch.setenv(variable, "/no/such/config.json")
    with pytest.raises(MutualTLSChannelError, match=r"/no/such/config\.json cannot be read") as caught:
        await secure_authorized_channel(TOKEN, None, listener.target)
    assert isinstance(caught.value, ClientCertificateError)
    assert caught.value.field == variable
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert listener.connections == 0


@pytest.mark.parametrize(
    "place", [".config/gcloud/certificate_config.json", ".secureConnect/context_aware_metadata.json"]
)
async def test_a_directory_in_the_place_of_a_file_is_an_error(
    home: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """As in google-auth: a certificate is wanted, and something is there."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    (home / place).mkdir(parents=True)
    with pytest.raises(MutualTLSChannelError, match=f"{Path(place).name} is not a regular file"):
        await SslCredentials()


@pytest.fixture
def locked(home: Path) -> Iterator[Path]:
    """Give a directory that this process may not look into; root may look into all of them."""
    directory = home / "locked"
    directory.mkdir(mode=0o000)
    user = os.geteuid()
    os.seteuid(user or 65534)
    yield directory
    os.seteuid(user)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_directory_that_may_not_be_looked_into_is_an_error_where_a_certificate_is_wanted(
    locked: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    """It may be there. Elsewhere the directory is not for us."""
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(locked))
    if not wanted:
        assert DefaultCertificateLookup().run() is None
        return
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    with pytest.raises(MutualTLSChannelError, match=r"certificate_config\.json cannot be read \(Permission"):
        DefaultCertificateLookup().run()


async def test_a_home_that_does_not_exist_is_an_error_where_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The path is shown as it was given."""
    monkeypatch.setenv("GOOGLE_API_CERTIFICATE_CONFIG", "~no-such-user/config.json")
    with pytest.raises(MutualTLSChannelError, match=r"~no-such-user/config\.json cannot be read"):
        await SslCredentials()


async def test_default_places_that_cannot_be_looked_at_are_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as the home of another user; here its name is too long."""
    monkeypatch.setenv("CLOUDSDK_CONFIG", "x" * 5000)
    monkeypatch.setenv("HOME", "x" * 5000)
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    assert not (await SslCredentials()).is_mtls


async def test_a_workloads_key_of_another_certificate_is_an_error(workload: Path, client_files: Any) -> None:
    """Both files are named."""
    client_files.key.write_bytes(client_files.server.issue_client_certificate()[1])
    with pytest.raises(MutualTLSChannelError, match=r"client\.key is not the key of .*client\.pem"):
        await SslCredentials()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("{not JSON", "context_aware_metadata.json is not JSON", id="no-json"),
        pytest.param([], "no JSON object", id="no-object"),
        pytest.param({}, "no cert_provider_command", id="no-command"),
        pytest.param({"cert_provider_command": "a b"}, "no cert_provider_command", id="text"),
        pytest.param({"cert_provider_command": []}, "no cert_provider_command", id="no-words"),
        pytest.param({"cert_provider_command": ["/no/such"]}, "/no/such cannot be read", id="no-program"),
        pytest.param(
            {"cert_provider_command": [sys.executable, "-c", "exit(3)"]}, "ended with status 3", id="status"
        ),
        pytest.param(
            {"cert_provider_command": [sys.executable, "-c", "print('hello')"]},
            "does not hold certificates and one private key",
            id="garbage",
        ),
        pytest.param(
            {"cert_provider_command": [sys.executable, "-c", "while True: print('endless' * 1000)"]},
            "printed more than 1048576 bytes",
            id="endless",
        ),
        pytest.param(
            {"cert_provider_command": [sys.executable, "-c", "print('BEGIN PASSPHRASE')"]},
            "returned an encrypted key",
            id="encrypted",
        ),
    ],
)
async def test_a_device_whose_certificate_cannot_be_had_is_an_error(
    device: Callable[..., Path], content: object, message: str
) -> None:
    """google-auth lets other exceptions escape for some of them; here each has the error and its cause."""
    write(device(), content)
    with pytest.raises(MutualTLSChannelError, match=message) as caught:
        await SslCredentials()
    assert isinstance(caught.value, ClientCertificateError)
    assert caught.value.__cause__ is not None


class Line:
    """A connection that a provider command holds open for as long as it lives."""

    def __init__(self) -> None:
        self.port = 0
        self.opened = asyncio.Event()
        self.ended = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    def hang_up(self) -> None:
        """End it from this side."""
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.opened.set()
        await reader.read()
        writer.close()
        self.ended.set()


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    line = Line()
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    yield line
    line.hang_up()
    server.close()


HANGS = """
import os, socket, sys, time
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
if os.fork() == 0:
    time.sleep(60)
time.sleep(60)
"""


async def test_a_command_that_hangs_is_killed_with_what_it_started(
    device: Callable[..., Path], line: Line
) -> None:
    """Bounded, and an error with its cause; no process is left."""
    device(sys.executable, "-c", HANGS, line.port)
    loading = asyncio.ensure_future(SslCredentials(timeout=2.0).load())
    await line.opened.wait()
    with pytest.raises(MutualTLSChannelError, match="took more than 2 s") as caught:
        await loading
    assert isinstance(caught.value.__cause__, TimeoutError)
    await line.ended.wait()


LEAVES_A_DAEMON = """
import pathlib, subprocess, sys
port, *files = sys.argv[1:]
print(*(pathlib.Path(path).read_text() for path in files), sep="", flush=True)
daemon = f"import socket; socket.create_connection(('127.0.0.1', {port})).recv(1)"
subprocess.Popen([sys.executable, "-c", daemon], start_new_session=True)
"""


async def test_a_command_that_leaves_a_daemon_is_done_when_it_ends(
    device: Callable[..., Path], client_files: Any, line: Line
) -> None:
    """The daemon holds the command's pipe open for as long as it lives, which is longer than this test."""
    device(sys.executable, "-c", LEAVES_A_DAEMON, line.port, client_files.cert, client_files.key)
    assert (await SslCredentials(timeout=60)).is_mtls
    await line.opened.wait()
    assert not line.ended.is_set()


async def test_loading_that_is_cancelled_kills_the_command(device: Callable[..., Path], line: Line) -> None:
    """The task is cancelled at once."""
    device(sys.executable, "-c", HANGS, line.port)
    loading = asyncio.ensure_future(SslCredentials().load())
    await line.opened.wait()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    await line.ended.wait()


WAITS_ONCE = """
import pathlib, sys
with open(sys.argv[1], "a") as runs:
    runs.write("run ")
print(pathlib.Path(sys.argv[2]).read_text())  # a pipe: waits for its writer
"""


@pytest.fixture
def one_command(device: Callable[..., Path], client_files: Any, tmp_path: Path) -> tuple[Path, Path]:
    """Give a device's files: where its command notes each run, and the pipe that it prints."""
    runs, pipe = tmp_path / "runs", tmp_path / "pipe"
    os.mkfifo(pipe)
    device(sys.executable, "-c", WAITS_ONCE, runs, pipe)
    return runs, pipe


async def test_many_who_load_one_object_at_once_run_its_command_once(
    one_command: tuple[Path, Path], client_files: Any
) -> None:
    """It may ask its user for something. A cancelled caller cancels itself alone."""
    runs, pipe = one_command
    credentials = SslCredentials()
    loading = [asyncio.ensure_future(credentials.load()) for _ in range(3)]
    await asyncio.sleep(0)
    loading[0].cancel()
    both = client_files.cert.read_text() + client_files.key.read_text()
    await asyncio.to_thread(pipe.write_text, both)
    outcomes = await asyncio.gather(*loading, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, *[SslCredentials] * 2]
    assert (runs.read_text(), credentials.is_mtls) == ("run ", True)


async def test_a_failure_of_loading_is_an_exception_of_each_who_waits(
    one_command: tuple[Path, Path],
) -> None:
    """With the cause that they share; it is not remembered."""
    runs, pipe = one_command
    credentials = SslCredentials()
    for _ in range(2):
        loading = [asyncio.ensure_future(credentials.load()) for _ in range(2)]
        await asyncio.to_thread(pipe.write_text, "no certificate")
        first, second = await asyncio.gather(*loading, return_exceptions=True)
        assert isinstance(first, MutualTLSChannelError)
        assert isinstance(second, MutualTLSChannelError)
        assert first is not second
        assert first.__cause__ is second.__cause__ is not None
    assert runs.read_text() == "run run "


def test_a_look_up_that_was_cut_off_starts_no_command(device: Callable[..., Path]) -> None:
    """Its thread may start after all callers were cancelled."""
    device(sys.executable, "-c", "raise SystemExit(3)")
    lookup = DefaultCertificateLookup()
    lookup.cut_off()
    with pytest.raises(ClientCertificateError, match="was cancelled"):
        lookup.run()


class SlowStart:
    """Starts a program as a file system does that takes its time."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.processes: list[subprocess.Popen[bytes]] = []

    def __call__(self, *arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        self.begun.set()
        self.go_on.wait(10)
        self.processes.append(subprocess.Popen(*arguments, **options))
        return self.processes[0]


def test_a_look_up_is_cut_off_while_its_command_starts(device: Callable[..., Path]) -> None:
    """The loop, which does it, does not wait for the start; the command is killed when it has come."""
    device(sys.executable, "-c", "import time; time.sleep(60)")
    start, failures = SlowStart(), list[str]()
    lookup = DefaultCertificateLookup(start=start)

    def run() -> None:
        with pytest.raises(ClientCertificateError) as caught:
            lookup.run()
        failures.append(str(caught.value))

    threads = [threading.Thread(target=run), threading.Thread(target=lookup.cut_off)]
    threads[0].start()
    assert start.begun.wait(10)
    threads[1].start()
    threads[1].join(5)
    cut_off_at_once = not threads[1].is_alive()
    start.go_on.set()
    threads[0].join(10)
    assert (cut_off_at_once, start.processes[0].returncode, len(failures)) == (True, -9, 1)
