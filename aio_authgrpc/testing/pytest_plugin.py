"""The fixtures of the pytest plugin under short names, for a suite that has no others of these names.

pytest loads the plugin itself, with the fixtures `authgrpc_…`. Opt in to the short names with
`pytest_plugins = ["aio_authgrpc.testing.pytest_plugin"]`.
"""

from __future__ import annotations

import pytest

from aio_authgrpc.testing import Authority, BookstoreServer, EchoServer, FakeClock, GoogleCloud

# Loaded already where the package is installed with its entry points.
pytest_plugins = ["pytest_aio_authgrpc"]


@pytest.fixture
def fake_clock(authgrpc_clock: FakeClock) -> FakeClock:
    """Give `authgrpc_clock`."""
    return authgrpc_clock


@pytest.fixture
def authority(authgrpc_authority: Authority) -> Authority:
    """Give `authgrpc_authority`."""
    return authgrpc_authority


@pytest.fixture
def bookstore_server(authgrpc_bookstore_server: BookstoreServer) -> BookstoreServer:
    """Give `authgrpc_bookstore_server`."""
    return authgrpc_bookstore_server


@pytest.fixture
def echo_server(authgrpc_echo_server: EchoServer) -> EchoServer:
    """Give `authgrpc_echo_server`."""
    return authgrpc_echo_server


@pytest.fixture
def google_cloud(authgrpc_google_cloud: GoogleCloud) -> GoogleCloud:
    """Give `authgrpc_google_cloud`."""
    return authgrpc_google_cloud
