"""`doctor`: it names fault and next step in staged situations, and shows no secret."""

from __future__ import annotations

import dataclasses
import datetime
import email.utils
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
import trustme
from google.rpc.error_details_pb2 import ErrorInfo

from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.cli import doctor
from aio_authgrpc.cli.doctor.credential import Clocks
from aio_authgrpc.cli.doctor.handshake import group_of
from aio_authgrpc.cli.options import CallIdentityOptions, ConnectionOptions, CredentialOptions, IdentityKind
from aio_authgrpc.testing import Authority, BookstoreServer, EchoServer, GoogleCloud

from .chat_server import ChatServer
from .command import run as run_command
from .command import unusable
from .staged import (
    AheadClock,
    DatedAuthority,
    FrontEnd,
    NamedGrpcServer,
    Tunnel,
    listening,
    server_context,
    written,
)

pytestmark = pytest.mark.timeout(90)

RUN_HOST = "bookstore-xyz.a.run.app"
API_HOST = "pubsub.googleapis.com"
LIST_TOPICS = "google.pubsub.v1.Publisher/ListTopics"
PASSWORD = "the-password-of-the-proxy"
EMAIL = "tester@project.iam.gserviceaccount.com"


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the doctor is told."""

    target: str
    method: str = ""
    identity: IdentityKind = IdentityKind.AUTO
    credential: CredentialOptions = field(default_factory=CredentialOptions)
    connection: ConnectionOptions = field(default_factory=ConnectionOptions)
    # aiohttp reads the trusted authorities at its import: a process of its own reads these.
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        """The arguments of the command."""
        pairs = {
            "--identity": self.identity,
            "--credentials": self.credential.credentials,
            "--root-certificates": self.connection.root_certificates,
        }
        options = [word for name, value in pairs.items() if value for word in (name, str(value))]
        return ["doctor", self.target, *options]


@dataclass(frozen=True, kw_only=True)
class World:
    """Where situations are staged."""

    path: Path
    authority: Authority
    environment: pytest.MonkeyPatch
    stack: AsyncExitStack

    async def key(self, authority: Authority | None = None) -> Path:
        info = await (authority or self.authority).service_account_info()
        return written(self.path / "key.json", json.dumps(info))

    def ca(self, pem: bytes) -> Path:
        return written(self.path / "ca.pem", pem)

    async def tunnel(self, port: int) -> None:
        """Let every name of the internet lead to a port."""
        proxy = await self.stack.enter_async_context(listening(Tunnel(port).serve))
        self.environment.setenv("https_proxy", f"http://127.0.0.1:{proxy}")

    async def front_end(self, status: int, headers: dict[str, str], body: str) -> Situation:
        """Let Cloud Run's name lead to a front end, and call it with an ID token."""
        ca = trustme.CA()
        context = server_context(ca, RUN_HOST, "h2", "http/1.1")
        port = await self.stack.enter_async_context(listening(FrontEnd(status, headers, body).serve, context))
        await self.tunnel(port)
        return Situation(
            target=RUN_HOST,
            credential=CredentialOptions(credentials=await self.key()),
            connection=ConnectionOptions(root_certificates=self.ca(ca.cert_pem.bytes())),
        )

    async def google_api(
        self, details: str, info: ErrorInfo, *, scopes: list[str] | None = None
    ) -> Situation:
        """Let the name of an API lead to a server that refuses, and call it with an access token."""
        code = grpc.StatusCode.PERMISSION_DENIED
        server = await self.stack.enter_async_context(
            NamedGrpcServer(API_HOST, code=code, details=details, info=info)
        )
        await self.tunnel(server.port)
        return Situation(
            target=API_HOST,
            method=LIST_TOPICS,
            credential=CredentialOptions(credentials=await self.key(), scopes=scopes),
            connection=ConnectionOptions(root_certificates=self.ca(server.ca_pem)),
        )

    async def echo(self, *, tls: bool = True, mutual_tls: bool = False) -> EchoServer:
        return await self.stack.enter_async_context(EchoServer(tls=tls, mutual_tls=mutual_tls))

    async def called_echo(self, credentials: Path | None, kind: IdentityKind) -> Situation:
        """Call a server whose transport is in order, with a credential."""
        server = await self.echo()
        return Situation(
            target=server.target,
            identity=kind,
            credential=CredentialOptions(credentials=credentials),
            connection=ConnectionOptions(root_certificates=self.ca(server.ca_pem)),
        )


@pytest.fixture
async def world(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    for name in (
        "https_proxy",
        "http_proxy",
        "grpc_proxy",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "no_proxy",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    async with AsyncExitStack() as stack:
        yield World(path=tmp_path, authority=authority, environment=monkeypatch, stack=stack)


Stage: TypeAlias = Callable[[World], Any]
STAGES: dict[str, tuple[Stage, str, str]] = {}
"""For each situation: how it is staged, the fault's name, and what the next step contains."""


def situation(fault: str, next_step: str) -> Callable[[Stage], Stage]:
    def add(stage: Stage) -> Stage:
        STAGES[stage.__name__] = (stage, fault, next_step)
        return stage

    return add


# The twenty situations


@situation("no-credentials", "gcloud auth application-default login")
async def no_credentials(world: World) -> Situation:
    return await world.called_echo(None, IdentityKind.ACCESS)


@situation("malformed-credentials", "aio-authgrpc explain --credentials ")
async def malformed_file(world: World) -> Situation:
    info = await world.authority.service_account_info()
    path = written(world.path / "key.json", json.dumps(info)[:-40])
    return await world.called_echo(path, IdentityKind.ACCESS)


@situation("wrong-audience", "--audience https://localhost:")
async def wrong_audience(world: World) -> Situation:
    server = await world.stack.enter_async_context(BookstoreServer(world.authority))
    return Situation(
        target=server.target,
        credential=CredentialOptions(credentials=await world.key(), audience="https://other.example.com"),
        connection=ConnectionOptions(root_certificates=world.ca(server.ca_pem)),
    )


@situation("status-unimplemented", "--identity id -v")
async def unknown_method(world: World) -> Situation:
    staged = await world.called_echo(await world.key(), IdentityKind.ID)
    return dataclasses.replace(staged, method="aio_authgrpc.testing.Echo/Nothing")


@situation("malformed-credentials", "aio-authgrpc explain --credentials /nonexistent.json")
async def missing_file(world: World) -> Situation:
    return await world.called_echo(Path("/nonexistent.json"), IdentityKind.ACCESS)


@situation("user-credential", "--impersonate SERVICE_ACCOUNT_EMAIL")
async def user_credential_where_an_id_token_is_needed(world: World) -> Situation:
    cloud = await world.stack.enter_async_context(GoogleCloud(world.authority))
    info = world.authority.user_info() | {"token_uri": "https://oauth2.googleapis.com/token"}
    path = written(world.path / "user.json", json.dumps(info))
    staged = await world.called_echo(path, IdentityKind.ID)
    return dataclasses.replace(staged, environment=cloud.environment(world.path))


@situation("key-refused", f"gcloud iam service-accounts keys list --iam-account {EMAIL}")
async def expired_key(world: World) -> Situation:
    path = await world.key()
    info = json.loads(path.read_text())
    # Another key of the account: the one in the file is none of its keys.
    other = await world.authority.service_account_info("other@project.iam.gserviceaccount.com")
    written(path, json.dumps(info | {"private_key": other["private_key"]}))
    return await world.called_echo(path, IdentityKind.ID)


@situation("clock", "timedatectl set-ntp true")
async def clock_10_minutes_off(world: World) -> Situation:
    ahead = await world.stack.enter_async_context(DatedAuthority(clock=AheadClock(-600)))
    return await world.called_echo(await world.key(ahead), IdentityKind.ID)


@situation("unreachable", "nc -vz localhost ")
async def endpoint_unreachable(world: World) -> Situation:
    unused = world.stack.enter_context(socket.socket())
    unused.bind(("127.0.0.1", 0))  # it does not listen, and no one else gets its port
    return Situation(target=f"localhost:{unused.getsockname()[1]}")


@situation("name-not-found", "getent hosts bookstore.invalid")
async def dns_typo(world: World) -> Situation:
    return Situation(target="bookstore.invalid")


@situation("certificate-name", "--authority localhost")
async def tls_name_mismatch(world: World) -> Situation:
    server = await world.echo()
    ca = world.ca(server.ca_pem)
    return Situation(
        target=server.target,
        connection=ConnectionOptions(root_certificates=ca, authority="bookstore.example.com"),
    )


@situation("certificate-expired", "openssl x509 -dates")
async def expired_certificate(world: World) -> Situation:
    yesterday = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(days=1)
    server = await world.stack.enter_async_context(NamedGrpcServer("localhost", not_after=yesterday))
    ca = world.ca(server.ca_pem)
    return Situation(target=server.target, connection=ConnectionOptions(root_certificates=ca))


@situation("certificate-authority", "--root-certificates CA.pem")
async def private_ca(world: World) -> Situation:
    return Situation(target=(await world.echo()).target)


@situation("client-certificate", "--client-certificate CERT.pem --client-key KEY.pem")
async def client_certificate_demanded(world: World) -> Situation:
    server = await world.echo(mutual_tls=True)
    ca = world.ca(server.ca_pem)
    return Situation(target=server.target, connection=ConnectionOptions(root_certificates=ca))


@situation("plaintext-server", "--plaintext")
async def plaintext_port(world: World) -> Situation:
    return Situation(target=(await world.echo(tls=False)).target)


@situation("tls-server", "aio-authgrpc doctor localhost:")
async def plaintext_to_tls(world: World) -> Situation:
    return Situation(target=(await world.echo()).target, connection=ConnectionOptions(plaintext=True))


@situation("no-http2", "curl -sv --http2")
async def no_http2(world: World) -> Situation:
    ca = trustme.CA()
    front = FrontEnd(400, {}, "")
    context = server_context(ca, "localhost", "http/1.1")
    port = await world.stack.enter_async_context(listening(front.serve, context))
    pem = world.ca(ca.cert_pem.bytes())
    return Situation(target=f"localhost:{port}", connection=ConnectionOptions(root_certificates=pem))


@situation("proxy", "no_proxy=bookstore.example.com aio-authgrpc doctor")
async def proxy_in_the_way(world: World) -> Situation:
    port = await world.stack.enter_async_context(listening(Tunnel(None).serve))
    world.environment.setenv("https_proxy", f"http://user:{PASSWORD}@127.0.0.1:{port}")
    return Situation(target="bookstore.example.com")


@situation("iap", "--audience 123.apps.googleusercontent.com")
async def iap(world: World) -> Situation:
    headers = {
        "location": "https://accounts.google.com/o/oauth2/v2/auth?client_id=123.apps.googleusercontent.com",
        "x-goog-iap-generated-response": "true",
    }
    return await world.front_end(302, headers, "")


@situation("cloud-run-403", f"--member=serviceAccount:{EMAIL} --role=roles/run.invoker")
async def cloud_run_403(world: World) -> Situation:
    headers = {"content-type": "text/html; charset=UTF-8", "server": "Google Frontend"}
    body = "<html><h1>Error: Forbidden</h1><h2>Your client does not have permission to get URL</h2></html>"
    return await world.front_end(403, headers, body)


@situation("scope", "--scopes https://www.googleapis.com/auth/cloud-platform")
async def missing_scope(world: World) -> Situation:
    info = ErrorInfo(reason="ACCESS_TOKEN_SCOPE_INSUFFICIENT", domain="googleapis.com")
    details = "Request had insufficient authentication scopes."
    return await world.google_api(details, info, scopes=["email"])


@situation("quota-project", "gcloud auth application-default set-quota-project PROJECT")
async def quota_project(world: World) -> Situation:
    info = ErrorInfo(reason="SERVICE_DISABLED", domain="googleapis.com", metadata={"service": API_HOST})
    return await world.google_api(
        "The pubsub.googleapis.com API requires a quota project, which is not set by default.", info
    )


# More of them


@situation("cloud-run-401", "gcloud run services describe SERVICE")
async def cloud_run_401(world: World) -> Situation:
    challenge = 'Bearer error="invalid_token" error_description="The access token could not be verified"'
    headers = {"server": "Google Frontend", "www-authenticate": challenge}
    return await world.front_end(401, headers, "<html>Error: Unauthorized</html>")


@situation("cloud-run-401", f"--identity id --audience https://{RUN_HOST}")
async def access_token_for_cloud_run(world: World) -> Situation:
    staged = await world.front_end(401, {"server": "Google Frontend"}, "<html>Error: Unauthorized</html>")
    return dataclasses.replace(staged, identity=IdentityKind.ACCESS)


@situation("unavailable", "ls -l /nonexistent/socket")
async def socket_that_is_not_there(world: World) -> Situation:
    return Situation(target="unix:/nonexistent/socket", connection=ConnectionOptions(plaintext=True))


ECHOED = "eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2lnbmF0dXJl"


@situation("token-refused", "aio-authgrpc token --decode")
async def server_that_repeats_the_token(world: World) -> Situation:
    server = await world.stack.enter_async_context(
        NamedGrpcServer(
            "localhost", code=grpc.StatusCode.UNAUTHENTICATED, details=f"Bearer {ECHOED} is not good"
        )
    )
    return Situation(
        target=server.target,
        credential=CredentialOptions(credentials=await world.key()),
        connection=ConnectionOptions(root_certificates=world.ca(server.ca_pem)),
    )


@situation("no-grpc", f"curl -sv https://{RUN_HOST}/")
async def page_that_repeats_the_token(world: World) -> Situation:
    return await world.front_end(500, {}, f"<p>authorization: Bearer {ECHOED}</p>")


@situation("token-missing", "--identity id")
async def no_token_for_a_guarded_server(world: World) -> Situation:
    server = await world.stack.enter_async_context(BookstoreServer(world.authority))
    ca = world.ca(server.ca_pem)
    return Situation(target=server.target, connection=ConnectionOptions(root_certificates=ca))


@situation("quota-project", "gcloud projects add-iam-policy-binding my-project")
async def quota_project_denied(world: World) -> Situation:
    info = ErrorInfo(reason="USER_PROJECT_DENIED", metadata={"consumer": "projects/my-project"})
    return await world.google_api("Caller does not have required permission to use project.", info)


@situation("api-disabled", f"gcloud services enable {API_HOST}")
async def api_disabled(world: World) -> Situation:
    info = ErrorInfo(reason="SERVICE_DISABLED", metadata={"service": API_HOST})
    return await world.google_api("Cloud Pub/Sub API has not been used in project 1 before.", info)


@pytest.fixture
def examine(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Give the command: its exit code and its output."""

    async def examine(staged: Situation, *, as_json: bool = False) -> tuple[int, str]:
        if staged.environment:
            arguments = [*staged.arguments, *(["--json"] if as_json else [])]
            done = await run_command(*arguments, **staged.environment)
            assert done.err == ""
            return done.code, done.out
        code = await doctor.run(
            staged.target,
            method=staged.method,
            timeout=5.0,
            as_json=as_json,
            credential=staged.credential,
            identity=CallIdentityOptions(identity=staged.identity),
            connection=staged.connection,
        )
        out, err = capsys.readouterr()
        assert err == ""
        return code, out

    return examine


def secrets_in(text: str) -> list[str]:
    """Return the secrets of these tests that a text shows."""
    found = [part for part in ("eyJ", "PRIVATE KEY", PASSWORD, "client_secret") if part in text]
    return found + ([text] if redacted(text) != text else [])


@pytest.mark.parametrize("name", STAGES)
async def test_staged_fault_is_named_with_its_next_step(
    name: str, world: World, examine: Callable[..., Any]
) -> None:
    """One cause and one thing to type, the exit code 1, and no secret in the output."""
    stage, _, next_step = STAGES[name]
    code, out = await examine(await stage(world))
    *steps, cause, following = out.splitlines()
    assert code == 1
    assert cause.startswith("Cause: ")
    assert following.startswith("Next:  ")
    assert next_step in following
    assert unusable(following.removeprefix("Next:  ")) == ""
    assert len(steps) == len(doctor.STEPS)
    assert secrets_in(out) == []


@pytest.mark.parametrize("name", STAGES)
async def test_staged_fault_has_a_name_for_programs(
    name: str, world: World, examine: Callable[..., Any]
) -> None:
    """`--json` is one object, without a secret."""
    stage, fault, next_step = STAGES[name]
    _, out = await examine(await stage(world), as_json=True)
    report = json.loads(out)
    assert report["fault"] == fault
    assert next_step in report["next_step"]
    assert [step["name"] for step in report["steps"]] == list(doctor.STEPS)
    assert [step["state"] for step in report["steps"]].count("failed") == 1
    assert secrets_in(out) == []


@pytest.mark.parametrize("text", ["eyJhbGciOi", "-----BEGIN PRIVATE KEY-----", PASSWORD, "ya29.abc"])
def test_a_secret_in_an_output_would_be_seen(text: str) -> None:
    """The check above can fail."""
    assert secrets_in(f"ok token {text}") != []


# Healthy servers


async def test_healthy_server_has_no_fault(world: World, examine: Callable[..., Any]) -> None:
    """Each step is in order, and tells what it saw."""
    server = await world.stack.enter_async_context(NamedGrpcServer(RUN_HOST, code=grpc.StatusCode.OK))
    await world.tunnel(server.port)
    staged = Situation(
        target=RUN_HOST,
        credential=CredentialOptions(credentials=await world.key()),
        connection=ConnectionOptions(root_certificates=world.ca(server.ca_pem)),
    )
    code, out = await examine(staged)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[:-1]] == [["ok", name] for name in doctor.STEPS]
    assert f"certificate for {RUN_HOST}" in out
    assert "ALPN h2" in out
    assert f"of {EMAIL} for https://{RUN_HOST}" in out
    assert "grpc.health.v1.Health/Check: SERVING" in out
    assert out.splitlines()[-1].startswith("No fault was found.")


async def test_missing_file_of_the_option_is_not_laid_to_the_variable(
    world: World, examine: Callable[..., Any]
) -> None:
    """The cause names `--credentials`."""
    _, out = await examine(await missing_file(world))
    assert "--credentials: /nonexistent.json cannot be read" in out
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in out


@pytest.mark.parametrize("method", ["Chat/Say", "tests.cli.Chat/Say", "tests.cli.Chat.Say"])
async def test_method_is_named_as_for_a_call(world: World, examine: Callable[..., Any], method: str) -> None:
    """The server's reflection knows the package."""
    server = await world.stack.enter_async_context(ChatServer(tls=False))
    staged = Situation(target=server.target, method=method, connection=ConnectionOptions(plaintext=True))
    code, out = await examine(staged)
    assert code == 0
    assert "tests.cli.Chat/Say: OK" in out


async def test_server_without_a_health_service_has_no_fault(
    world: World, examine: Callable[..., Any]
) -> None:
    """UNIMPLEMENTED is an answer of the server; a guard before it would have refused."""
    staged = await world.called_echo(None, IdentityKind.NONE)
    code, out = await examine(staged)
    assert code == 0
    assert "The server has no health service." in out


async def test_plaintext_server_has_no_fault(world: World, examine: Callable[..., Any]) -> None:
    """The step `tls` says that there is none."""
    server = await world.echo(tls=False)
    staged = Situation(target=server.target, connection=ConnectionOptions(plaintext=True))
    code, out = await examine(staged)
    assert code == 0
    assert "none, as --plaintext says" in out


async def test_command_prints_the_verdict(world: World) -> None:
    """As a process: exit code 1, and one JSON object on stdout."""
    server = await world.echo(tls=False)
    done = await run_command("doctor", server.target, "--json")
    assert (done.code, done.err) == (1, "")
    assert done.json["fault"] == "plaintext-server"
    assert done.json["next_step"] == f"aio-authgrpc doctor {server.target} --plaintext"


@pytest.mark.parametrize(("seconds", "way"), [(-600, "ahead of"), (600, "behind")])
def test_clock_is_compared_with_the_date_of_a_response(seconds: float, way: str) -> None:
    """Ten minutes are more than a server tolerates."""
    clocks, now = Clocks(), time.time()
    clocks.compare({"Date": email.utils.formatdate(now + seconds, usegmt=True)}, asked_at=now)
    assert clocks.fault is not None
    assert f"clock is 10 min {way} that of the server" in clocks.fault.cause


@pytest.mark.parametrize("date", ["", "yesterday", None])
def test_response_without_its_date_compares_no_clock(date: str | None) -> None:
    """Nor does one that cannot be read; a clock that is right is no fault."""
    clocks, now = Clocks(), time.time()
    clocks.compare({} if date is None else {"Date": date}, asked_at=now)
    assert (clocks.skew, clocks.fault, str(clocks)) == (None, None, "not compared")
    clocks.compare({"date": email.utils.formatdate(now, usegmt=True)}, asked_at=now)
    assert (clocks.fault, str(clocks)) == (None, "right")


async def test_server_without_http2_tells_what_it_speaks(world: World, examine: Callable[..., Any]) -> None:
    """It is offered HTTP/1.1, too: one that is not would end the handshake."""
    _, out = await examine(await no_http2(world))
    assert "Cause: The server speaks http/1.1, and gRPC needs HTTP/2" in out


def test_bytes_that_are_no_server_hello_have_no_group() -> None:
    """Such as an alert, or a message that is cut off."""
    assert group_of(b"\x15\x03\x03\x00\x02\x02\x28") is None
    assert group_of(b"\x16\x03\x03\x00\x02") is None
