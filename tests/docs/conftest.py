"""The world that the documentation speaks of, on the loopback interface.

Pages and examples are run as a reader runs them: unchanged, each in a process and a directory of its
own, with warnings as errors. What is ours is around them: the host names that they call lead here,
by an HTTP proxy that gRPC finds in its environment, to servers whose certificates it finds there too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

import grpc
import pytest
import trustme

from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.testing import Authority, BookstoreServer
from tests.contact.fake_cloud import FakeCloud
from tests.support.patience import patience

EMAIL = "client@my-project.iam.gserviceaccount.com"
API_KEY = "the-api-key"
GOOGLE_APIS = ("firestore.googleapis.com", "secretmanager.googleapis.com")

_COMPLAINT = re.compile(r"Exception ignored|Warning\b|never retrieved|was destroyed|Traceback")

# Pages take one or two seconds on an idle machine.
_TIME_LIMIT = 40.0


class HostedBookstore(BookstoreServer):
    """A guarded Bookstore whose certificate is for a name on the internet.

    Args:
        host: The name.
        authority: Whose tokens are good; those that the account signs itself are good too.
        audience: Whom self-signed tokens have to be for.
        api_keys: As for `BookstoreServer`.
    """

    def __init__(
        self, host: str, authority: Authority, *, audience: str, api_keys: tuple[str, ...] = ()
    ) -> None:
        super().__init__(authority, accept=[EMAIL], audience=audience, api_keys=api_keys)
        self.host = host

    def _make_credentials(self) -> grpc.ServerCredentials:
        self._ca = trustme.CA()
        certificate = self._ca.issue_cert(self.host)
        chain = b"".join(link.bytes() for link in certificate.cert_chain_pems)
        return grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])


class Proxy:
    """An HTTP proxy that knows CONNECT, and a few hosts.

    Args:
        ports: The port on 127.0.0.1 for each host and port that may be asked for.
    """

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._ports = ports
        self._tunnels: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Its address."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for tunnel in self._tunnels:
            tunnel.cancel()
        await asyncio.gather(*self._tunnels, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tunnels.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            port = self._ports.get(head.split()[1].decode())
            if port is None:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            else:
                await self._tunnel(reader, writer, port)
        writer.close()
        self._tunnels.discard(task)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pipe(reader, there_writer), _pipe(there_reader, writer))
        finally:
            there_writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a process ended.

    Attributes:
        code: Its exit code.
        output: What it wrote to stdout.
        errors: What it wrote to stderr.
    """

    code: int
    output: str
    errors: str

    @property
    def complaints(self) -> list[str]:
        """What went wrong without an effect on the exit code, such as a warning while objects are collected.

        Not everything on stderr is one: asyncio's debug mode tells of slow steps, and a machine may be slow.
        """
        return [line for line in self.errors.splitlines() if _COMPLAINT.search(line)]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A directory with `service-account.json` in it, and an environment in which the hosts exist."""

    directory: pathlib.Path
    environment: Mapping[str, str]

    async def run(self, *arguments: str | os.PathLike[str]) -> Ran:
        """Run Python there, warnings as errors, in development mode; check that it writes no secret."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error"),
            *arguments,
            cwd=self.directory,
            env={**os.environ, **self.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(patience(_TIME_LIMIT)):
                output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        ran = Ran(code=process.returncode or 0, output=output.decode(), errors=errors.decode())
        for text in (ran.output, ran.errors):
            assert redacted(text) == text
        return ran


def google_apis(request: pytest.FixtureRequest, authority: Authority) -> FakeCloud | None:
    """Return a server of Google's APIs for a page that calls some: their messages take seconds to import."""
    page = request.node.callspec.params.get("page") if hasattr(request.node, "callspec") else None
    if page is None or "google.cloud" not in page.read_text():
        return None
    try:
        from tests.contact.services import RPCS
    except ImportError:
        return None  # the page's blocks are left out

    # Its pages ask for a token, except for the secrets: for these, accounts sign theirs.
    audience = "https://secretmanager.googleapis.com/"
    return FakeCloud(authority, RPCS, names=GOOGLE_APIS, accept=[EMAIL], audience=audience)


@pytest.fixture
async def world(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, authority: Authority
) -> AsyncIterator[World]:
    """Give the world of the documentation, for as long as the test takes."""
    key_file = tmp_path / "service-account.json"
    key_file.write_text(json.dumps(await authority.service_account_info(EMAIL)))
    run_host, endpoints_host, google_host = (
        "bookstore-xyz.a.run.app",
        "bookstore.endpoints.my-project.cloud.goog",
        "bookstore.example.com",
    )
    async with (
        HostedBookstore(run_host, authority, audience=f"https://{run_host}") as behind_run,
        HostedBookstore(
            endpoints_host, authority, audience=f"https://{endpoints_host}", api_keys=(API_KEY,)
        ) as behind_endpoints,
        # The audience of tokens that are signed in place of an exchange ends in a slash (AIP 4111).
        HostedBookstore(google_host, authority, audience=f"https://{google_host}/") as google,
        AsyncExitStack() as more,
    ):
        ports = {server.host: server.port for server in (behind_run, behind_endpoints, google)}
        trusted = [server.ca_pem for server in (behind_run, behind_endpoints, google)]
        if (apis := google_apis(request, authority)) is not None:
            await more.enter_async_context(apis)
            ports |= dict.fromkeys(GOOGLE_APIS, apis.port)
            trusted.append(apis.ca_pem)
        proxy = await more.enter_async_context(Proxy({f"{host}:443": port for host, port in ports.items()}))
        roots = tmp_path / "roots.pem"
        roots.write_bytes(b"".join(trusted))
        environment = {
            "GOOGLE_APPLICATION_CREDENTIALS": str(key_file),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots),
            "https_proxy": proxy.url,
            "no_proxy": "localhost,127.0.0.1",
        }
        yield World(directory=tmp_path, environment=environment)
