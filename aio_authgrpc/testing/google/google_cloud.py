"""Google Cloud on the loopback interface: all endpoints that credentials use, at their own names."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from aio_authgrpc.testing.google.authority import Authority
from aio_authgrpc.testing.google.gdch_server import GdchServer
from aio_authgrpc.testing.google.google_apis import GoogleApis
from aio_authgrpc.testing.google.metadata_server import MetadataServer
from aio_authgrpc.testing.google.workloads import AwsMetadataServer, SubjectTokenServer
from aio_authgrpc.testing.servers.http_server import LoopbackHttpServer, RecordedRequest
from aio_authgrpc.testing.servers.intercepting_proxy import InterceptingProxy
from aio_authgrpc.testing.servers.lifecycle import Lifecycle
from aio_authgrpc.tokens import Clock

TOKEN_URI = "https://oauth2.googleapis.com/token"
METADATA_HOSTS = ("metadata.google.internal", "169.254.169.254")


class GoogleCloud(Lifecycle):
    """Open every fake endpoint, and a proxy that routes Google's names to them.

    `environment()` routes a program here; nothing in it is patched. The endpoints record their requests in
    one list, and share one clock.

    Args:
        authority: Signs the tokens and knows the accounts; it stays the caller's.
        universe_domain: Another universe; its hosts are routed here too, like those of `googleapis.com`.
        clock: Times and dates the endpoints' answers; None means the machine's clock.

    Attributes:
        requests: Every request to any of them and to the authority, in order.
        authority: As above.
        metadata: The metadata server.
        apis: `*.googleapis.com`.
        aws: The metadata service of AWS, at an address of its own.
        subject_tokens: A server of subject tokens, at an address of its own.
        gdch: The token endpoint of Google Distributed Cloud, at an address of its own.
        proxy: Routes to `metadata` and `apis`.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        universe_domain: str = "universe.example",
        clock: Clock | None = None,
    ) -> None:
        self.requests: list[RecordedRequest] = []
        self.authority = authority
        self.metadata = MetadataServer(authority, clock=clock)
        self.apis = GoogleApis(authority, clock=clock)
        self.aws = AwsMetadataServer()
        self.subject_tokens = SubjectTokenServer()
        self.gdch = GdchServer(authority)
        routes: dict[str, LoopbackHttpServer] = dict.fromkeys(METADATA_HOSTS, self.metadata)
        routes |= {"*.googleapis.com": self.apis, f"*.{universe_domain}": self.apis}
        # These hosts demand a client certificate.
        self.proxy = InterceptingProxy(routes, mutual_tls=["*.mtls.*"])
        self._opened = AsyncExitStack()

    async def _open(self) -> None:
        for server in (self.metadata, self.apis, self.aws, self.subject_tokens, self.gdch):
            server.requests = self.requests
            await self._opened.enter_async_context(server)
        self.authority.requests = self.requests
        await self._opened.enter_async_context(self.proxy)

    async def _close(self) -> None:
        await self._opened.aclose()

    def environment(self, directory: Path) -> dict[str, str]:
        """Return the environment variables that route a program here and make it trust the proxy.

        Args:
            directory: For the certificate of the proxy's authority. It has to exist as long as the program
                runs.
        """
        ca_path = directory / "google-cloud-ca.pem"
        ca_path.write_bytes(self.proxy.ca_pem)
        # Upper and lower case: requests and gRPC read different ones.
        proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), self.proxy.url)
        return {
            **proxies,
            "NO_PROXY": "localhost,127.0.0.1",
            "no_proxy": "localhost,127.0.0.1",
            "REQUESTS_CA_BUNDLE": str(ca_path),
            "SSL_CERT_FILE": str(ca_path),
        }

    def session(self) -> aiohttp.ClientSession:
        """Return a session for `AiohttpRequest` that trusts the proxy's authority alone, made on the loop.

        The caller closes it.
        """
        connector = aiohttp.TCPConnector(ssl=self.proxy.client_context())
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    async def service_account_info(
        self, email: str = "tester@project.iam.gserviceaccount.com"
    ) -> dict[str, str]:
        """Return the key file of a service account, as a dict, with Google's own token endpoint."""
        return await self.authority.service_account_info(email) | {"token_uri": TOKEN_URI}
