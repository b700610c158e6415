"""The metadata server of Compute Engine, Cloud Run and GKE, on the loopback interface."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

from aiohttp import web

from aio_authgrpc.testing.google.authority import Authority
from aio_authgrpc.testing.servers.http_server import LoopbackHttpServer
from aio_authgrpc.tokens import Clock

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
_FLAVOR = {"Metadata-Flavor": "Google"}
_ROOT = "/computeMetadata/v1"
_ACCOUNT = _ROOT + "/instance/service-accounts/{account}"


class MetadataServer(LoopbackHttpServer):
    """Give a machine its identity and its tokens, as `metadata.google.internal` does.

    It answers the ping (`/`), `/computeMetadata/v1/project/project-id`, `universe/universe-domain` and, under
    `instance/service-accounts/{default or the email}`, the account itself, `token` and `identity`. A request
    without the header `Metadata-Flavor: Google` is refused. google-auth reaches it by `GCE_METADATA_HOST`,
    which it reads at its import, or at any time through an `InterceptingProxy`.

    Args:
        authority: Signs its tokens.
        email: The machine's service account.
        project_id: The machine's project.
        scopes: The scopes of the account on this machine, and of a token requested without scopes.
        universe_domain: The machine's universe; None answers 404, as older metadata servers do.
        clock: As for `LoopbackHttpServer`.

    Attributes:
        email: As above.
        project_id: As above.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        email: str = "machine@project.iam.gserviceaccount.com",
        project_id: str = "project",
        scopes: Sequence[str] = (_CLOUD_PLATFORM,),
        universe_domain: str | None = "googleapis.com",
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        self.email = email
        self.project_id = project_id
        self._authority = authority
        self._scopes = tuple(scopes)
        self._universe_domain = universe_domain

    @property
    def host(self) -> str:
        """Its address as `GCE_METADATA_HOST` wants it: host and port."""
        return self.url.removeprefix("http://")

    def _routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get("/", _guarded(self._serve_ping)),
            web.get(f"{_ROOT}/project/project-id", _guarded(self._serve_project_id)),
            web.get(f"{_ROOT}/universe/universe-domain", _guarded(self._serve_universe_domain)),
            web.get(f"{_ACCOUNT}/", _guarded(self._serve_account)),
            web.get(f"{_ACCOUNT}/token", _guarded(self._serve_access_token)),
            web.get(f"{_ACCOUNT}/identity", _guarded(self._serve_id_token)),
        ]

    async def _serve_ping(self, _: web.Request) -> web.Response:
        return web.Response(text="computeMetadata/\n", content_type="application/text")

    async def _serve_project_id(self, _: web.Request) -> web.Response:
        return web.Response(text=self.project_id, content_type="application/text")

    async def _serve_universe_domain(self, _: web.Request) -> web.Response:
        if self._universe_domain is None:
            raise web.HTTPNotFound
        return web.Response(text=self._universe_domain, content_type="application/text")

    async def _serve_account(self, request: web.Request) -> web.Response:
        self._check_account(request)
        account = {"aliases": ["default"], "email": self.email, "scopes": self._scopes}
        return web.json_response(account)

    async def _serve_access_token(self, request: web.Request) -> web.Response:
        self._check_account(request)
        scope = request.query.get("scopes", ",".join(self._scopes)).replace(",", " ")
        token = self._authority.issue_access_token(email=self.email, scope=scope)
        lifetime = int(self._authority.token_lifetime)
        return web.json_response({"access_token": token, "expires_in": lifetime, "token_type": "Bearer"})

    async def _serve_id_token(self, request: web.Request) -> web.Response:
        self._check_account(request)
        audience = request.query.get("audience")
        if not audience:
            raise web.HTTPBadRequest(text="non-empty audience parameter required")
        token = self._authority.issue_id_token(audience=audience, email=self.email)
        return web.Response(text=token, content_type="text/html")

    def _check_account(self, request: web.Request) -> None:
        if request.match_info["account"] not in ("default", self.email):
            raise web.HTTPNotFound


def _guarded(handler: _Handler) -> _Handler:
    """Refuse requests without the header, and mark answers as the metadata server's."""

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Metadata-Flavor") != "Google":
            return web.Response(status=403, text="Missing required header: Metadata-Flavor", headers=_FLAVOR)
        try:
            response = await handler(request)
        except web.HTTPException as refusal:
            return web.Response(status=refusal.status, text=refusal.text, headers=_FLAVOR)
        response.headers.update(_FLAVOR)
        return response

    return serve
