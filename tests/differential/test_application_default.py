"""Application Default Credentials of every type, ours and google-auth's: what is found, and how."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import google.auth
import google.auth.transport.requests
import pytest
import requests

from aio_authgrpc import AiohttpRequest, ConfigurationError, TokenRequest, default

from .audit import watch
from .clients import Outcome, Pair, boundaries_looked_up, recorded, timestamp
from .configurations import SCOPES, SERVICE, World
from .normalization import normalized_headers

# To find an external account's project, google-auth begins a look-up in a thread of its own, too, which is
# cut off with ours and ends that thread with a CancelledError, which it does not expect.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


async def found_by_google_auth(world: World) -> Outcome:
    """Look credentials up and refresh them as google-auth's users do, in a thread."""

    def run() -> tuple[Any, dict[str, str]]:
        headers: dict[str, str] = {}
        with requests.Session() as session:
            request = google.auth.transport.requests.Request(session)
            untyped: Any = google.auth
            credentials, _ = untyped.default(scopes=SCOPES, request=request)
            if not credentials.valid:  # an external account has needed a token to ask for its project
                credentials.refresh(request)
        credentials.apply(headers)
        return credentials, headers

    world.cloud.requests.clear()
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
    world.cloud.requests.clear()
    earliest = time.time()
    with watch() as trail:
        await source.load(request)
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
    """Give what came of it, which several tests look at."""
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
    """Nor does anything block on the loop."""
    assert default_pair.theirs.trail.sockets_off_the_loop != []
    assert default_pair.ours.trail.sockets_off_the_loop == []
    assert default_pair.ours.trail.blocking_on_the_loop == []


@pytest.mark.xfail(
    strict=True, reason="the ping has no path, and goes to a proxy without the slash that it then needs"
)
async def test_the_machine_is_found_and_its_token_fetched(world: World, http: AiohttpRequest) -> None:
    """Like google-auth does it, and without a socket off the loop."""
    theirs = await found_by_google_auth(world)
    ours = await found_by_us(world, http)
    assert (ours.requests, ours.headers, ours.expiry) == (theirs.requests, theirs.headers, theirs.expiry)
    assert ours.trail.sockets_off_the_loop == []
    assert ours.trail.blocking_on_the_loop == []


async def test_a_metadata_server_that_hangs_holds_nobody_beyond_the_budget(
    world: World, http: AiohttpRequest
) -> None:
    """The error comes in time, and until then no socket is off the loop and nothing blocks on it."""
    gate = world.cloud.metadata.hold(path="*")
    request = TokenRequest(http=http, audience=SERVICE, time=world.clock.time())
    with watch() as trail, pytest.raises(ConfigurationError, match="took more than"):
        await default(SCOPES).load(request, timeout=0.5)
    assert gate.arrived.is_set()
    assert trail.sockets_off_the_loop == []
    assert trail.blocking_on_the_loop == []
