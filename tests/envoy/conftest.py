"""A real Envoy between a client and the Bookstore, and what the tests ask of it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest

from aio_authgrpc.bookstore import InMemoryBookstore
from aio_authgrpc.testing import (
    Authority,
    BookstoreServer,
    EnvoyNotFoundError,
    EnvoyProxy,
    find_envoy,
    forwarded_user_info,
)

EMAIL = "client@project.iam.gserviceaccount.com"


@pytest.fixture(scope="session", autouse=True)
def envoy() -> pathlib.Path:
    """Give the path of Envoy; without one skip, or fail where the environment says that it is required."""
    try:
        return find_envoy()
    except EnvoyNotFoundError as error:
        if os.environ.get("AIO_AUTHGRPC_ENVOY") == "required":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show Envoy's log beside a failure."""
    report = yield
    proxy = getattr(item, "funcargs", {}).get("proxy")
    if report.failed and proxy is not None:
        report.sections.append(("Envoy's log", proxy.log))
    return report


class ShelvesForCallers(InMemoryBookstore):
    """A Bookstore that records the payloads of its callers, as Envoy forwards them."""

    def __init__(self) -> None:
        super().__init__()
        self.callers: list[Mapping[str, object] | None] = []

    async def ListShelves(self, request: Any, context: Any) -> Any:
        self.callers.append(forwarded_user_info(context))
        return await super().ListShelves(request, context)


@pytest.fixture
def service() -> ShelvesForCallers:
    """Give the service behind Envoy."""
    return ShelvesForCallers()


@pytest.fixture
async def upstream(service: ShelvesForCallers) -> AsyncIterator[BookstoreServer]:
    """Give the server behind Envoy, which checks no token."""
    async with BookstoreServer(tls=False, service=service) as server:
        yield server


@pytest.fixture
async def account(authority: Authority) -> Mapping[str, str]:
    """Give the key file of an account whose self-signed tokens are accepted."""
    return await authority.service_account_info(EMAIL)


@pytest.fixture
async def proxy(
    authority: Authority, account: Mapping[str, str], upstream: BookstoreServer
) -> AsyncIterator[EnvoyProxy]:
    """Give an open Envoy that fetches keys every second."""
    async with EnvoyProxy(authority, upstream, accept=[EMAIL], jwks_cache=1) as proxy:
        yield proxy


@dataclass(frozen=True, kw_only=True)
class Listener:
    """One of Envoy's listeners, with its target and credentials."""

    name: str
    target: Callable[[EnvoyProxy], str]
    ssl_credentials: Callable[[EnvoyProxy], grpc.ChannelCredentials | None]

    def arguments(self, proxy: EnvoyProxy) -> dict[str, Any]:
        """Return the TLS arguments for `connect()`."""
        credentials = self.ssl_credentials(proxy)
        return {"plaintext": True} if credentials is None else {"ssl_credentials": credentials}

    def channel(self, proxy: EnvoyProxy) -> grpc.aio.Channel:
        """Return a channel of grpc.aio's own, without a token."""
        credentials = self.ssl_credentials(proxy)
        if credentials is None:
            return grpc.aio.insecure_channel(self.target(proxy))
        return grpc.aio.secure_channel(self.target(proxy), credentials)


LISTENERS = [
    Listener(name="h2c", target=lambda proxy: proxy.h2c_target, ssl_credentials=lambda _: None),
    Listener(
        name="tls",
        target=lambda proxy: proxy.tls_target,
        ssl_credentials=lambda proxy: proxy.ssl_credentials,
    ),
    Listener(
        name="mutual_tls",
        target=lambda proxy: proxy.mutual_tls_target,
        ssl_credentials=lambda proxy: proxy.mutual_ssl_credentials,
    ),
]


@pytest.fixture(params=LISTENERS, ids=lambda listener: listener.name)
def listener(request: pytest.FixtureRequest) -> Listener:
    """Give each of the three."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped
