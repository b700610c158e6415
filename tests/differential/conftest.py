"""Two clients with the same endpoints: google-auth with requests, and this package.

Each configuration makes a credential as a user would. google-auth refreshes it in a thread, with its own
transport; then this package fetches a token of another credential that was made alike. The tests compare
the requests that the endpoints received, and the two results.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator
from pathlib import Path

import google.auth.identity_pool
import pytest

from aio_authgrpc import AiohttpRequest
from aio_authgrpc.testing import Authority, CredentialFiles, FakeClock, GoogleCloud

from .clients import Pair, fetched_by_us, refreshed_by_google_auth
from .configurations import CONFIGURATIONS, FILES, UNIVERSE, Configuration, World


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Give a Google Cloud with a fixed clock, to which the environment of the process routes."""
    # Set back: its dates cannot be confused with those of the machine's clock.
    clock = FakeClock(int(time.time()) - 10.0)
    async with (
        Authority(clock=clock, repeatable=True) as authority,
        GoogleCloud(authority, universe_domain=UNIVERSE, clock=clock) as cloud,
    ):
        files = CredentialFiles(cloud, tmp_path)
        environment = cloud.environment(tmp_path) | {
            "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1",
            "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        infos = await files.every_type()
        await cloud.service_account_info(cloud.metadata.email)  # the IAM API signs with its key
        yield World(
            cloud=cloud, files=files, infos=infos, directory=tmp_path, environment=environment, clock=clock
        )
        assert cloud.proxy.refused == [], "a request went to an unknown host"


@pytest.fixture
async def http(world: World) -> AsyncIterator[AiohttpRequest]:
    """Give this package's transport, over a session that trusts the proxy."""
    async with world.cloud.session() as session, AiohttpRequest(session) as http:
        yield http


# Older google-auth reads certificates with pyOpenSSL, which is not among its dependencies.
_READS_CERTIFICATES = pytest.mark.skipif(
    "OpenSSL" in inspect.getsource(google.auth.identity_pool),
    reason="this google-auth needs pyOpenSSL for it",
)
_MARKS = {
    "external-account-x509": [_READS_CERTIFICATES],
    "external_account_x509": [_READS_CERTIFICATES],
}


@pytest.fixture(params=[pytest.param(name, marks=_MARKS.get(name, [])) for name in FILES])
def each_file(request: pytest.FixtureRequest) -> str:
    """Give the name of each type of credential file."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped


@pytest.fixture(
    params=[pytest.param(each, id=each.name, marks=_MARKS.get(each.name, [])) for each in CONFIGURATIONS]
)
def each_configuration(request: pytest.FixtureRequest) -> Configuration:
    """Give each configuration."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped


@pytest.fixture(scope="session")
def pairs() -> dict[object, Pair]:
    """Give the outcomes so far. The first test that needs one makes it, under all of its guards."""
    return {}


@pytest.fixture
async def new_pair(world: World, http: AiohttpRequest, each_configuration: Configuration) -> Pair:
    """Run both clients, one after the other."""
    theirs = await refreshed_by_google_auth(world, each_configuration)
    return Pair(ours=await fetched_by_us(world, each_configuration, http), theirs=theirs)


@pytest.fixture
def pair(
    pairs: dict[object, Pair], each_configuration: Configuration, request: pytest.FixtureRequest
) -> Pair:
    """Give the outcomes, for several tests."""
    if each_configuration.name not in pairs:
        pairs[each_configuration.name] = request.getfixturevalue("new_pair")
    return pairs[each_configuration.name]
