"""Application Default Credentials of every type, compared with google-auth's."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from typing import Any

import google.auth
import google.auth.impersonated_credentials
import google.auth.transport.requests
import pytest
import requests

from aio_authgrpc import AiohttpRequest, ConfigurationError, TokenRequest, default

from .audit import watch
from .clients import Outcome, Pair, boundaries_looked_up, recorded, timestamp
from .configurations import SCOPES, SERVICE, World
from .normalization import normalized_headers


@pytest.fixture(autouse=True)
def no_look_for_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, google.auth.default() fetches tokens and runs gcloud to find the project."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "project")


async def found_by_google_auth(world: World) -> Outcome:
    """Look credentials up and refresh them as google-auth's users do, in a thread."""

    def run() -> tuple[Any, dict[str, str]]:
        headers: dict[str, str] = {}
        with requests.Session() as session:
            request = google.auth.transport.requests.Request(session)
            untyped: Any = google.auth
            credentials, _ = untyped.default(scopes=SCOPES, request=request)
            if hasattr(credentials, "with_gdch_audience"):
                credentials = credentials.with_gdch_audience(SERVICE)  # google-auth sets none
            world.cloud.requests.clear()  # the ping of the metadata server
            credentials.refresh(request)
        credentials.apply(headers)
        return credentials, headers

    earliest = time.time()
    with watch() as trail:
        credentials, headers = await asyncio.to_thread(run)
        await boundaries_looked_up()
    return Outcome(
        requests=recorded(world),
        headers=normalized_headers(headers),
        expires_at=timestamp(credentials.expiry),
        earliest=earliest,
        latest=time.time(),
        trail=trail,
    )


async def found_by_us(world: World, http: AiohttpRequest) -> Outcome:
    """Look credentials up and fetch a token with this package."""
    request = TokenRequest(http=http, audience=SERVICE, time=world.clock.time())
    source = default(SCOPES)
    earliest = time.time()
    with watch() as trail:
        await source.load(request)
        world.cloud.requests.clear()
        token = await source.fetch(request)
        await boundaries_looked_up()
    return Outcome(
        requests=recorded(world),
        headers=normalized_headers(dict(token.as_metadata("authorization"))),
        expires_at=token.expires_at,
        earliest=earliest,
        latest=time.time(),
        trail=trail,
    )


@pytest.fixture
async def new_pair_of_defaults(
    world: World, http: AiohttpRequest, each_file: str, monkeypatch: pytest.MonkeyPatch
) -> Pair:
    """Let both find the same file."""
    path = world.directory / "adc.json"
    path.write_text(json.dumps(world.infos[each_file]))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    theirs = await found_by_google_auth(world)
    return Pair(ours=await found_by_us(world, http), theirs=theirs)


@pytest.fixture
def default_pair(pairs: dict[object, Pair], each_file: str, request: pytest.FixtureRequest) -> Pair:
    """Give the outcomes, for several tests."""
    key = ("default", each_file)
    if key not in pairs:
        pairs[key] = request.getfixturevalue("new_pair_of_defaults")
    return pairs[key]


def test_what_a_file_holds_is_found_and_refreshed(default_pair: Pair) -> None:
    """With the same requests, the same token and the same expiry."""
    assert default_pair.ours.requests == default_pair.theirs.requests
    assert default_pair.ours.headers == default_pair.theirs.headers
    assert default_pair.ours.expiry == default_pair.theirs.expiry


def test_what_a_file_holds_is_found_without_a_socket_off_the_loop(default_pair: Pair) -> None:
    """Nothing blocks on the loop."""
    assert default_pair.theirs.trail.sockets_off_the_loop != []
    assert default_pair.ours.trail.sockets_off_the_loop == []
    assert default_pair.ours.trail.blocking_on_the_loop == []


async def test_the_machine_is_found_and_its_token_fetched(world: World, http: AiohttpRequest) -> None:
    """As google-auth does, and without a socket off the loop."""
    theirs = await found_by_google_auth(world)
    ours = await found_by_us(world, http)
    assert ours.requests == theirs.requests
    assert ours.headers == theirs.headers
    assert ours.expiry == theirs.expiry
    assert ours.trail.sockets_off_the_loop == []
    assert ours.trail.blocking_on_the_loop == []


async def test_a_metadata_server_that_hangs_delays_no_call_beyond_the_budget(
    world: World, http: AiohttpRequest
) -> None:
    """The error comes in time, and until then no socket is off the loop and nothing blocks on it."""
    gate = world.cloud.metadata.hold(path="*")
    request = TokenRequest(http=http, audience=SERVICE, time=world.clock.time())
    with watch() as trail, pytest.raises(ConfigurationError, match="no answer within 0"):
        await default(SCOPES, timeout=0.5).load(request)
    assert gate.arrived.is_set()
    assert trail.sockets_off_the_loop == []
    assert trail.blocking_on_the_loop == []


@pytest.mark.skipif(
    '"scopes"' not in inspect.getsource(google.auth.impersonated_credentials),
    reason="this google-auth does not read them",
)
async def test_scopes_that_stand_in_the_file_are_kept(
    world: World, http: AiohttpRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an impersonation, as by google-auth."""
    path = world.directory / "adc.json"
    path.write_text(json.dumps({**world.infos["impersonated_service_account"], "scopes": ["of-the-file"]}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    theirs = await found_by_google_auth(world)
    ours = await found_by_us(world, http)
    assert ours.requests == theirs.requests
    assert ours.requests[-1]["body"]["scope"] == ["of-the-file"]


async def test_a_quota_project_in_a_key_file_is_not_read(
    world: World, http: AiohttpRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """google-auth does not either."""
    path = world.directory / "adc.json"
    path.write_text(json.dumps({**world.infos["service_account"], "quota_project_id": "of-the-file"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    theirs = await found_by_google_auth(world)
    ours = await found_by_us(world, http)
    assert ours.headers == theirs.headers
    assert "x-goog-user-project" not in ours.headers
