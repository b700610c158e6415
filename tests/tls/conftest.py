"""Certificates and servers for TLS: real authorities, real files, a socket that records what it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aio_authgrpc.testing import EchoServer
from tests.support.certified_server import CertifiedServer

ENVIRONMENT = [
    "GOOGLE_API_USE_CLIENT_CERTIFICATE",
    "CLOUDSDK_CONTEXT_AWARE_USE_CLIENT_CERTIFICATE",
    "GOOGLE_API_CERTIFICATE_CONFIG",
    "CLOUDSDK_CONTEXT_AWARE_CERTIFICATE_CONFIG_FILE_PATH",
    "GOOGLE_API_USE_MTLS_ENDPOINT",
    "CLOUDSDK_CONFIG",
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home directory of a machine that has no certificate, and an environment that says nothing."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
async def mutual_server() -> AsyncIterator[EchoServer]:
    """Give a server that demands a client certificate of its own authority."""
    async with EchoServer(mutual_tls=True) as server:
        yield server


@dataclass(frozen=True, kw_only=True)
class ClientFiles:
    """A certificate and its key in files, which can be exchanged."""

    directory: Path
    server: EchoServer

    @property
    def cert(self) -> Path:
        return self.directory / "client.pem"

    @property
    def key(self) -> Path:
        return self.directory / "client.key"

    def issue(self, name: str) -> None:
        """Write a new certificate and its key."""
        chain, key = self.server.issue_client_certificate(name)
        self.cert.write_bytes(chain)
        self.key.write_bytes(key)

    def configure(self, path: Path) -> None:
        """Write a workload's certificate configuration that names them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        workload = {"cert_path": str(self.cert), "key_path": str(self.key)}
        path.write_text(json.dumps({"cert_configs": {"workload": workload}}))


@pytest.fixture
async def client_files(tmp_path: Path, mutual_server: EchoServer) -> ClientFiles:
    """Give files with a certificate for first@example.com that the `mutual_server` fixture takes."""
    files = ClientFiles(directory=tmp_path, server=mutual_server)
    files.issue("first@example.com")
    return files


@pytest.fixture
def certified_server() -> Callable[..., CertifiedServer]:
    """Give what makes a server with a certificate for these names, which ended at `not_after`."""
    return CertifiedServer


@dataclass
class Listener:
    """A socket that speaks no protocol: it records how often it was reached, and with what bytes."""

    connections: int = 0
    received: bytearray = field(default_factory=bytearray)
    target: str = ""
    _first: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Record what one connection sends first, and end it."""
        self.connections += 1
        self.received += await reader.read(65536)
        self._first.set()
        writer.close()

    async def first(self) -> bytes:
        """Wait for the first bytes."""
        await self._first.wait()
        return bytes(self.received)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """Give a listening socket of this machine."""
    listener = Listener()
    server: Any = await asyncio.start_server(listener.read, "127.0.0.1", 0)
    listener.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield listener
    server.close()
    await server.wait_closed()
