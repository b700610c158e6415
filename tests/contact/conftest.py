"""google-cloud's clients, and what else runs in the programs of their users."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from aio_authgrpc import service_account
from aio_authgrpc.credentials import LazyCredentialsSource
from aio_authgrpc.testing import Authority

from .fake_cloud import CERTIFICATE_AUTHORITY, FakeCloud

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def missing() -> list[str]:
    """Return what the dependency group `contact` lists and is not installed."""
    names = [re.split(r"[^\w-]", line)[0] for line in PROJECT["dependency-groups"]["contact"]]
    installed = {
        re.sub(r"[-_.]+", "-", found.name).lower()
        for found in importlib.metadata.distributions()
        if found.name
    }
    return [name for name in names if name not in installed]


MISSING = missing()
if MISSING and os.environ.get("AIO_AUTHGRPC_CONTACT") == "required":
    raise pytest.UsageError(f"tests/contact needs what is not installed: {', '.join(MISSING)}")
# Their modules import the clients. The environment `contact` of tox has them all.
collect_ignore_glob = ["test_*.py"] if MISSING else []


@pytest.fixture(scope="session", autouse=True)
def trusted_everywhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let every channel trust the servers: some clients take no certificates.

    gRPC reads the file once, when a process first needs it.
    """
    roots = tmp_path_factory.mktemp("roots") / "roots.pem"
    roots.write_bytes(CERTIFICATE_AUTHORITY.cert_pem.bytes())
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(roots))
        yield


@pytest.fixture(autouse=True)
def no_blocking_call_on_the_loop() -> Iterator[BlockBuster]:
    """Fail a test in which this package, or a client that it makes, blocks the loop; give the guard."""
    excluded = ["aio_authgrpc.testing", "aio_authgrpc.cli"]
    with blockbuster_ctx("aio_authgrpc", excluded_modules=excluded) as guard:
        yield guard


@pytest.fixture
async def cloud(authority: Authority) -> AsyncIterator[FakeCloud]:
    """Give a server of all services."""
    from .services import RPCS

    async with FakeCloud(authority, RPCS) as cloud:
        yield cloud


@pytest.fixture
async def source(authority: Authority) -> LazyCredentialsSource:
    """Give a source whose tokens the server accepts."""
    return service_account(await authority.service_account_info(), scopes=SCOPES)
