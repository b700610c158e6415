"""A gRPC service behind a guard, on the loopback interface, as Cloud Endpoints shows it to clients."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypedDict, TypeVar

import grpc
import grpc.aio

from aio_authgrpc.testing.google.authority import Authority
from aio_authgrpc.testing.guard.interceptor import Guard
from aio_authgrpc.testing.guard.providers import JwtProvider, providers_of
from aio_authgrpc.testing.guard.refusal import RefusedError, unauthenticated
from aio_authgrpc.testing.guard.token import bearer_token
from aio_authgrpc.testing.guard.verdict import TokenCheck
from aio_authgrpc.testing.servers.caller import AuthoritySource
from aio_authgrpc.testing.servers.grpc_server import LoopbackGrpcServer
from aio_authgrpc.tokens import Clock, SystemClock, TokenSource

S = TypeVar("S")

# Envoy's clock skew.
_SKEW = 60.0


class GuardArguments(TypedDict, total=False):
    """The keyword arguments of `GuardedServer`, which explains them."""

    accept: Iterable[str]
    issuers: Mapping[str, str] | None
    audience: str | None
    api_keys: Collection[str]
    header: str
    clock: Clock | None
    skew: float
    tls: bool
    mutual_tls: bool


class GuardedServer(LoopbackGrpcServer):
    """Serve a service on 127.0.0.1 to callers with a valid token, and refuse other calls like ESPv2.

    `GuardedServer(authority, add_OrdersServicer_to_server, Orders())` serves a service of your own. The guard
    is for tests alone: it protects no production service.

    A token is valid if a key of its issuer signed it, its times hold and its audience is this server. Another
    audience is refused with PERMISSION_DENIED, every other fault with UNAUTHENTICATED, in ESPv2's words, with
    a `www-authenticate` challenge in the trailing metadata. The verdict on a token is that of Envoy 1.40,
    which is in ESPv2; of an audience, for example, the scheme and a final slash do not count.

    Keys are fetched over HTTP when they are needed. A token with an unknown key id fetches them again; if
    that does not bring the key, other unknown ids fetch nothing for 30 seconds. `forget_keys()` ends that.

    Without an `authority` and `issuers` calls need no token, as under an Endpoints configuration without
    authentication. Orders (see `LoopbackGrpcServer`) concern the calls that the guard lets in.

    Args:
        authority: Its access tokens and ID tokens are accepted; it stays the caller's, and has to be open
            when this opens.
        add_to_server: The generated function `add_…Servicer_to_server`; or a function of yours with the same
            two arguments, for several services.
        servicer: Serves the accepted calls. Its methods are coroutine functions or asynchronous generators.
        accept: The service accounts of `authority` whose self-signed tokens are accepted too.
        issuers: Further issuers, each with the address of its keys: a JWKS, or a map from key id to
            certificate.
        audience: The audience that tokens need; None means `https://` and the target. The authority's access
            tokens are also accepted with their own audience.
        api_keys: The accepted values of `x-api-key`; empty means that calls need none.
        header: The metadata that carries the token after "Bearer ".
        clock: Decides whether a token has expired; None means the machine's clock.
        skew: The tolerance for `exp` and `nbf`, in seconds.
        tls: As for `LoopbackGrpcServer`.
        mutual_tls: As for `LoopbackGrpcServer`.
    """

    def __init__(
        self,
        authority: Authority | None,
        add_to_server: Callable[[S, grpc.aio.Server], object],
        servicer: S,
        *,
        accept: Iterable[str] = (),
        issuers: Mapping[str, str] | None = None,
        audience: str | None = None,
        api_keys: Collection[str] = (),
        header: str = "authorization",
        clock: Clock | None = None,
        skew: float = _SKEW,
        tls: bool = True,
        mutual_tls: bool = False,
    ) -> None:
        self._guard = Guard(self._check, secure=tls)
        super().__init__(tls=tls, mutual_tls=mutual_tls, interceptors=(self._guard,), clock=clock)
        self._token_authority = authority
        self._add_to_server: Callable[[grpc.aio.Server], object] = lambda server: add_to_server(
            servicer, server
        )
        self._accept = tuple(accept)
        if self._accept and authority is None:
            raise ValueError("accept names service accounts of an authority: pass authority too")
        self._issuers = dict(issuers or {})
        self._audience = audience
        self._api_keys = api_keys
        self._header = header
        self._clock: Clock = SystemClock() if clock is None else clock
        self._skew = skew
        self._tokens: TokenCheck | None = None

    @property
    def audience(self) -> str:
        """The audience that tokens need."""
        return f"https://{self.target}" if self._audience is None else self._audience

    @property
    def calls(self) -> int:
        """How many calls the guard let in."""
        return self._guard.passed

    @property
    def refused(self) -> int:
        """How many calls the guard refused."""
        return self._guard.refused

    def forget_keys(self) -> None:
        """Drop the issuers' keys, so that the next token fetches them."""
        if self._tokens is not None:
            self._tokens.forget_keys()

    def _credentials(self) -> TokenSource:
        if self._token_authority is None:
            return super()._credentials()
        return AuthoritySource(self._token_authority, audience=self.audience)

    def _register(self, server: grpc.aio.Server) -> None:
        self._add_to_server(server)

    async def _open(self) -> None:
        await super()._open()
        providers = self._providers()  # the audience has the port
        if providers:
            self._tokens = TokenCheck(providers, clock=self._clock, skew=self._skew)

    async def _close(self) -> None:
        await super()._close()
        if self._tokens is not None:
            await self._tokens.aclose()

    def _providers(self) -> list[JwtProvider]:
        given = [
            JwtProvider(issuer=issuer, jwks_url=url, audiences=[self.audience])
            for issuer, url in self._issuers.items()
        ]
        if self._token_authority is None:
            return given
        return [*providers_of(self._token_authority, accept=self._accept, audience=self.audience), *given]

    async def _check(self, metadata: Mapping[str, str]) -> Mapping[str, object] | None:
        payload = await self._check_token(metadata)
        self._check_api_key(metadata)
        return payload

    async def _check_token(self, metadata: Mapping[str, str]) -> Mapping[str, object] | None:
        if self._tokens is None:
            return None
        token = bearer_token(metadata.get(self._header, ""))
        if token is None:
            raise unauthenticated("Jwt is missing", challenge=None)
        return await self._tokens.claims_of(token)

    def _check_api_key(self, metadata: Mapping[str, str]) -> None:
        key = metadata.get("x-api-key")
        if not self._api_keys or key in self._api_keys:
            return
        if key is None:
            raise unauthenticated(
                "Method doesn't allow unregistered callers (callers without established identity). "
                "Please use API Key or other form of API consumer identity to call this API.",
                challenge=None,
            )
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "API key not valid. Please pass a valid API key.",
            challenge=None,
        )
