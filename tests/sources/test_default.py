"""Application Default Credentials: found through the environment, off the loop, and never guessed."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from aio_authgrpc import (
    AiohttpRequest,
    ConfigurationError,
    TokenRequest,
    connect,
    default,
)
from aio_authgrpc._sources.compute_engine import google_cloud_marker
from aio_authgrpc._sources.default import LOOK_UP_TIMEOUT, PATIENCE, DefaultCredentialsSource
from aio_authgrpc._sources.files.kind import CredentialOptions
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.credentials import DefaultCredentialsExplanation
from aio_authgrpc.errors import TokenUnavailableError
from aio_authgrpc.testing import Authority, BookstoreServer, GoogleCloud, MetadataServer

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
USER = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}


@pytest.fixture(autouse=True)
def nothing_to_be_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide gcloud's file and the metadata server: a test finds only its own."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def point_to(monkeypatch: pytest.MonkeyPatch, path: Path, content: Any) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))


async def test_the_file_that_the_environment_names_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority, token_request: TokenRequest
) -> None:
    """A service account's, with scopes: exchanged."""
    point_to(monkeypatch, tmp_path / "key.json", await authority.service_account_info("adc@project"))
    token = await default(SCOPES, quota_project_id="payer").fetch(token_request)
    claims = jwt.decode(token.value, options={"verify_signature": False})
    assert claims["email"] == "adc@project"
    assert token.metadata == (("x-goog-user-project", "payer"),)


async def test_without_scopes_a_service_account_signs_for_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority, token_request: TokenRequest
) -> None:
    """No request is made."""
    point_to(monkeypatch, tmp_path / "key.json", await authority.service_account_info())
    token = await default().fetch(token_request)
    claims = jwt.decode(token.value, options={"verify_signature": False})
    assert claims["aud"] == "https://host/"
    assert authority.requests == []


async def test_a_service_account_needs_no_default_scopes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority, token_request: TokenRequest
) -> None:
    """It signs for the host, as without; scopes that the user names make it ask for a token."""
    point_to(monkeypatch, tmp_path / "key.json", await authority.service_account_info())
    token = await default(default_scopes=SCOPES).fetch(token_request)
    claims = jwt.decode(token.value, options={"verify_signature": False})
    assert claims["aud"] == "https://host/"
    await default(SCOPES, default_scopes=["another"]).fetch(token_request)
    assert authority.token_requests == 1


async def test_other_default_credentials_ask_for_the_default_scopes(
    monkeypatch: pytest.MonkeyPatch, google_cloud: GoogleCloud
) -> None:
    """A machine's service account; scopes that the user names come first."""
    monkeypatch.delenv("NO_GCE_CHECK")
    async with google_cloud.session() as session:
        request = TokenRequest(http=AiohttpRequest(session), audience="https://host", time=time.time())
        await default(default_scopes=["a", "b"]).fetch(request)
        await default(["c"], default_scopes=["a", "b"]).fetch(request)
    asked = [request.query.get("scopes") for request in google_cloud.requests if "/token" in request.path]
    assert asked == ["a,b", "c"]


@pytest.mark.parametrize("scopes", ["a-scope", [1]])
def test_default_scopes_are_a_list(scopes: Any) -> None:
    """One str would be taken letter by letter."""
    with pytest.raises(ConfigurationError) as caught:
        default(default_scopes=scopes)
    assert caught.value.field == "default_scopes"


async def test_connect_without_credentials_uses_the_default_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority
) -> None:
    """Seed 003: connect() without credentials works."""
    info = await authority.service_account_info()
    point_to(monkeypatch, tmp_path / "key.json", info)
    async with (
        BookstoreServer(authority, accept=[info["client_email"]], audience="https://mine/") as server,
        connect(
            server.target,
            BookstoreStub,
            audience="https://mine",
            ssl_credentials=server.ssl_credentials,
        ) as bookstore,
    ):
        assert (await bookstore.ListShelves(Empty())).shelves


async def test_nothing_found_says_what_to_do(token_request: TokenRequest) -> None:
    """On entry, before any RPC."""
    with pytest.raises(ConfigurationError, match="gcloud auth application-default login") as caught:
        await default().load(token_request)
    assert caught.value.field == "credentials"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "5", '{"type": "unknown"}', '{"type": "service_account"}', '{"type": "authorized_user"}'],
)
async def test_a_file_that_cannot_be_used_is_an_error_and_not_another_identity(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_request: TokenRequest, content: str
) -> None:
    """For every content that google-auth stumbles over."""
    point_to(monkeypatch, tmp_path / "key.json", content)
    with pytest.raises(ConfigurationError):
        await default().load(token_request)


async def test_a_file_that_is_missing_is_an_error_and_not_another_identity(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_request: TokenRequest
) -> None:
    """The environment names the file, so the user meant it."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(ConfigurationError, match=r"missing\.json"):
        await default().load(token_request)


@pytest.mark.parametrize(
    ("content", "field", "text"),
    [
        pytest.param(None, "GOOGLE_APPLICATION_CREDENTIALS", "key.json cannot be read", id="missing"),
        pytest.param("{", "GOOGLE_APPLICATION_CREDENTIALS", "key.json is malformed", id="no-json"),
        pytest.param("{}", "type", "GOOGLE_APPLICATION_CREDENTIALS=", id="no-type"),
        pytest.param(
            '{"type": "authorized_user"}', "client_id", "GOOGLE_APPLICATION_CREDENTIALS=", id="field"
        ),
    ],
)
async def test_a_file_that_the_environment_names_is_reported_by_its_variable(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    token_request: TokenRequest,
    content: str | None,
    field: str,
    text: str,
) -> None:
    """No argument has it; a field of the file is named, too."""
    path = tmp_path / "key.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=text) as caught:
        await default().load(token_request)
    assert caught.value.field == field
    assert "file_or_info" not in str(caught.value)


async def test_a_login_of_gcloud_that_cannot_be_read_is_no_argument(
    tmp_path: Path, token_request: TokenRequest
) -> None:
    """Its path is in the text; no argument of default() holds it."""
    adc = tmp_path / "gcloud" / "application_default_credentials.json"
    adc.parent.mkdir()
    adc.write_text("{")
    with pytest.raises(ConfigurationError, match="gcloud/application_default_credentials") as caught:
        await default().load(token_request)
    assert caught.value.field == "credentials"


async def test_a_quota_project_of_the_environment_is_reported_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_request: TokenRequest
) -> None:
    """Metadata cannot carry it; the argument of that name was not given."""
    point_to(monkeypatch, tmp_path / "key.json", USER)
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "bad\nproject")
    with pytest.raises(ConfigurationError) as caught:
        await default().load(token_request)
    assert caught.value.field == "GOOGLE_CLOUD_QUOTA_PROJECT"


async def test_gcloud_is_not_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_request: TokenRequest
) -> None:
    """google-auth runs it to learn the project, which takes half a second."""
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    gcloud.write_text(f"#!/bin/sh\ntouch {tmp_path / 'was-run'}\n")
    gcloud.chmod(gcloud.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{gcloud.parent}:{os.environ['PATH']}")
    adc = tmp_path / "gcloud" / "application_default_credentials.json"
    adc.parent.mkdir()
    adc.write_text(json.dumps(USER))
    source = default()
    await source.load(token_request)
    assert source.explain().found == "authorized_user"
    assert not (tmp_path / "was-run").exists()


async def test_a_file_that_is_never_read_to_its_end_costs_the_budget(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_request: TokenRequest
) -> None:
    """Such as a pipe without a writer. Its thread is left behind, and delays nothing."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "pipe"))
    with pytest.raises(ConfigurationError, match=r"pipe: was not read within 0\.2 s"):
        await default(timeout=0.2).load(token_request)
    (tmp_path / "pipe").write_text("go on\n")  # lets the abandoned thread end


# The metadata server


@pytest.fixture
async def metadata_server(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MetadataServer]:
    """Give one that the look-up finds, where nothing else says that this is Google Cloud."""
    async with MetadataServer(authority) as server:
        monkeypatch.setenv("GCE_METADATA_IP", server.host)
        monkeypatch.delenv("NO_GCE_CHECK")
        for name in ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "K_SERVICE", "CLOUD_RUN_JOB", "GAE_ENV"):
            monkeypatch.delenv(name, raising=False)
        yield server


async def test_a_metadata_server_that_answers_is_found(
    metadata_server: MetadataServer, token_request: TokenRequest
) -> None:
    """One request."""
    source = default()
    await source.load(token_request)
    assert source.explain() == DefaultCredentialsExplanation(
        found="compute_engine",
        tried=(
            ("GOOGLE_APPLICATION_CREDENTIALS", "not set"),
            source.explain().tried[1],
            (f"metadata server {metadata_server.url}/", "answered"),
        ),
    )
    assert len(metadata_server.requests) == 1


async def test_a_metadata_server_that_hangs_costs_the_budget(
    metadata_server: MetadataServer, token_request: TokenRequest
) -> None:
    """google-auth takes 12 s. The error and explain() list the places that were tried."""
    source = default(timeout=0.3)
    with metadata_server.hold(path="/"), pytest.raises(ConfigurationError, match="no answer within"):
        await source.load(token_request)
    assert source.explain().found is None
    assert source.explain().tried[-1][0] == f"metadata server {metadata_server.url}/"


def test_the_budget_without_a_marker_of_google_cloud_is_under_five_seconds() -> None:
    """benchmarks/identity_stall.py measures the time of a look-up that hangs."""
    assert LOOK_UP_TIMEOUT < 5 <= PATIENCE


async def test_a_metadata_server_that_fails_is_asked_three_times(
    metadata_server: MetadataServer, token_request: TokenRequest
) -> None:
    """As google-auth does it, but within a third of a second."""
    metadata_server.fail(503, times=None, path="/")
    with pytest.raises(ConfigurationError, match=f"metadata server {metadata_server.url}"):
        await default().load(token_request)
    assert len(metadata_server.requests) == 3


async def test_an_address_without_a_server_is_given_up_soon(
    metadata_server: MetadataServer, token_request: TokenRequest
) -> None:
    """As on most machines off Google Cloud that have a route to it."""
    await metadata_server.aclose()
    with pytest.raises(ConfigurationError, match="Cannot connect"):
        await default().load(token_request)


async def test_a_metadata_server_that_a_marker_promises_is_waited_for(
    metadata_server: MetadataServer, token_request: TokenRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cloud Run and GKE start containers before it; the fourth attempt finds it."""
    monkeypatch.setenv("K_SERVICE", "bookstore")
    metadata_server.reset_connections(times=2, path="/")
    metadata_server.fail(503, times=1, path="/")
    source = default()
    await source.load(token_request)
    assert source.explain().found == "compute_engine"
    assert len(metadata_server.requests) == 4


async def test_a_metadata_server_that_a_marker_promises_and_that_does_not_come_may_come_later(
    metadata_server: MetadataServer, token_request: TokenRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is one to retry, and the next look-up is a new one."""
    monkeypatch.setenv("K_SERVICE", "bookstore")
    source = DefaultCredentialsSource(CredentialOptions(by_default=True), patience=0.2)
    with metadata_server.hold(path="/"), pytest.raises(TokenUnavailableError, match="K_SERVICE says"):
        await source.load(token_request)
    metadata_server.behave()
    await source.load(token_request)
    assert source.explain().found == "compute_engine"


async def test_another_server_at_that_address_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, token_request: TokenRequest
) -> None:
    """Other clouds have their metadata servers there too."""
    monkeypatch.delenv("NO_GCE_CHECK")
    monkeypatch.setenv("GCE_METADATA_IP", authority.url.removeprefix("http://"))
    with pytest.raises(ConfigurationError, match="not a metadata server"):
        await default().load(token_request)


async def test_many_who_look_up_together_cause_one_look_up(
    metadata_server: MetadataServer, token_request: TokenRequest
) -> None:
    """One after the other, and the first one's answer is for all."""
    source = default()
    await asyncio.gather(*(source.load(token_request) for _ in range(20)))
    assert len(metadata_server.requests) == 1


async def test_many_who_look_up_together_fail_together(
    metadata_server: MetadataServer, token_request: TokenRequest
) -> None:
    """Not each after a budget of its own."""
    source = default(timeout=0.3)
    with metadata_server.hold(path="/"):
        failures = await asyncio.gather(
            *(source.load(token_request) for _ in range(20)), return_exceptions=True
        )
    assert [type(failure) for failure in failures] == [ConfigurationError] * 20
    assert len({id(failure) for failure in failures}) == 20
    assert len(metadata_server.requests) == 1


async def test_a_look_up_that_is_cancelled_leaves_the_others_theirs(
    metadata_server: MetadataServer, token_request: TokenRequest
) -> None:
    """The next in line looks up itself."""
    source = default()
    with metadata_server.hold(path="/") as gate:
        first, second = (asyncio.create_task(source.load(token_request)) for _ in range(2))
        await gate.arrived.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    await second
    assert source.explain().found == "compute_engine"


async def test_nothing_was_looked_up_before_it_was_opened() -> None:
    """explain() says so."""
    assert str(default().explain()) == "nothing was looked up yet"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"quota_project_id": 5}, "quota_project_id"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_at_the_call(arguments: dict[str, Any], field: str) -> None:
    """Before anything is looked up."""
    with pytest.raises(ConfigurationError) as caught:
        default(**arguments)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("environment", "content", "marker"),
    [
        ({}, None, None),
        ({}, b"Google Compute Engine\n", "product_name"),
        ({}, b"Standard PC\n", None),
        ({"K_SERVICE": "s"}, None, "K_SERVICE"),
        ({"K_SERVICE": ""}, None, None),
        ({"GCE_METADATA_HOST": "h"}, b"Standard PC\n", "GCE_METADATA_HOST"),
    ],
)
def test_google_cloud_is_known_by_its_markers(
    environment: dict[str, str], content: bytes | None, marker: str | None, tmp_path: Path
) -> None:
    """The platform's variables, or the firmware's name of the machine."""
    product_name = tmp_path / "product_name"
    if content is not None:
        product_name.write_bytes(content)
    found = google_cloud_marker(environment, product_name)
    assert (None if found is None else Path(found).name) == marker


async def test_a_file_that_is_not_text_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_request: TokenRequest
) -> None:
    """google-auth's error has the content in its causes."""
    path = tmp_path / "key.json"
    path.write_bytes(b'{"private_key": "-----BEGIN PRIVATE KEY-----MIIsecret\xff')
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(ConfigurationError) as caught:
        await default().load(token_request)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
