"""Google's APIs that credentials call, on the loopback interface: OAuth, STS, IAM credentials."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import ClassVar, TypeAlias, cast

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from aio_authgrpc.testing.google.authority import Authority
from aio_authgrpc.testing.google.grants import REFRESH_TOKEN, GrantError
from aio_authgrpc.testing.servers.http_server import LoopbackHttpServer
from aio_authgrpc.tokens import Clock

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"

_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
_ACCOUNT = "/v1/projects/-/serviceAccounts/{email}"

_Body: TypeAlias = Mapping[str, object]
_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class GoogleApis(LoopbackHttpServer):
    """Answer for `oauth2`, `www`, `sts`, `iamcredentials` and `cloudresourcemanager.googleapis.com`.

    Their paths differ, so one server answers for all; google-auth reaches it through an `InterceptingProxy`.

    | Path | Answer |
    |---|---|
    | `/token`, `/oauth2/v4/token` | the grants of the authority's own token endpoint |
    | `/v1/token` | exchanges a subject token for an access token (RFC 8693) |
    | `/v1/oauthtoken` | the refresh token of an external account's user, with HTTP Basic |
    | `/v1/projects/-/serviceAccounts/{email}:…` | generateAccessToken, generateIdToken, signBlob, signJwt |
    | `…/allowedLocations` | the regional access boundary of an account or a pool |
    | `/v1/projects/{number}` | the project's id |

    The IAM methods need a bearer token that the authority issued, or that one of its accounts signed. The
    signing methods need an account with a key of the authority.

    Args:
        authority: Signs and knows the tokens and the accounts.
        encoded_locations: The regional access boundary of every account; None means that they have none.
        clock: Dates the expiry of impersonated tokens; None means the machine's clock.

    Attributes:
        encoded_locations: As above. May be set at any time.
    """

    main_path: ClassVar[str] = "*"

    def __init__(
        self, authority: Authority, *, encoded_locations: str | None = None, clock: Clock | None = None
    ) -> None:
        super().__init__(clock=clock)
        self._authority = authority
        self.encoded_locations = encoded_locations

    def _routes(self) -> Iterable[web.RouteDef]:
        locations = self._serve_locations
        return [
            web.post("/token", _refusing(self._serve_grant)),
            web.post("/oauth2/v4/token", _refusing(self._serve_grant)),
            web.post("/v1/token", _refusing(self._serve_exchange)),
            web.post("/v1/oauthtoken", _refusing(self._serve_refresh)),
            web.post(f"{_ACCOUNT}:generateAccessToken", _refusing(self._serve_access_token)),
            web.post(f"{_ACCOUNT}:generateIdToken", _refusing(self._serve_id_token)),
            web.post(f"{_ACCOUNT}:signBlob", _refusing(self._serve_signed_blob)),
            web.post(f"{_ACCOUNT}:signJwt", _refusing(self._serve_signed_jwt)),
            web.get(f"{_ACCOUNT}/allowedLocations", _refusing(locations)),
            web.get("/v1/locations/global/workforcePools/{pool}/allowedLocations", _refusing(locations)),
            web.get(
                "/v1/projects/{number}/locations/global/workloadIdentityPools/{pool}/allowedLocations",
                _refusing(locations),
            ),
            web.get("/v1/projects/{number}", _refusing(self._serve_project)),
        ]

    # OAuth and STS

    async def _serve_grant(self, request: web.Request) -> web.Response:
        return web.json_response(self._authority.grant(await _form(request)))

    async def _serve_exchange(self, request: web.Request) -> web.Response:
        form = await _form(request)
        if form.get("grant_type") != TOKEN_EXCHANGE:
            raise GrantError("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}")
        if form.get("requested_token_type") != ACCESS_TOKEN_TYPE or not form.get("subject_token"):
            raise GrantError("invalid_request", "Invalid value for requested_token_type or subject_token.")
        principal, scope = self._exchanged(form)
        return web.json_response(
            {
                "access_token": self._authority.issue_access_token(email=principal, scope=scope),
                "issued_token_type": ACCESS_TOKEN_TYPE,
                "token_type": "Bearer",
                "expires_in": int(self._authority.token_lifetime),
            }
        )

    def _exchanged(self, form: Mapping[str, str]) -> tuple[str, str]:
        """Return the principal of the new token, and its scope."""
        if form.get("subject_token_type") == ACCESS_TOKEN_TYPE:  # downscoped: the old token's principal
            claims = self._authority.claims_of(form["subject_token"])
            return str(claims.get("email", claims.get("sub"))), str(claims.get("scope", _CLOUD_PLATFORM))
        if not form.get("audience"):
            raise GrantError("invalid_request", "Missing required parameter: audience")
        return f"principal:{form['audience']}", form.get("scope", _CLOUD_PLATFORM)

    async def _serve_refresh(self, request: web.Request) -> web.Response:
        form = await _form(request)
        if form.get("grant_type") != REFRESH_TOKEN:
            raise GrantError("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}")
        client_id, client_secret = _basic(request)
        answer = self._authority.grant({**form, "client_id": client_id, "client_secret": client_secret})
        return web.json_response({name: value for name, value in answer.items() if name != "id_token"})

    # IAM credentials

    async def _serve_access_token(self, request: web.Request) -> web.Response:
        self._check_bearer(request)
        body = await _json(request)
        lifetime = float(str(body.get("lifetime", "3600s")).removesuffix("s"))
        scope = " ".join(cast("list[str]", body.get("scope") or []))
        if not scope:
            raise GrantError("INVALID_ARGUMENT", "The request must have a scope.")
        token = self._authority.issue_access_token(
            email=request.match_info["email"], scope=scope, lifetime=lifetime
        )
        expires_at = datetime.datetime.fromtimestamp(int(self._clock.time() + lifetime), tz=datetime.UTC)
        return web.json_response({"accessToken": token, "expireTime": f"{expires_at:%Y-%m-%dT%H:%M:%SZ}"})

    async def _serve_id_token(self, request: web.Request) -> web.Response:
        self._check_bearer(request)
        audience = (await _json(request)).get("audience")
        if not audience:
            raise GrantError("INVALID_ARGUMENT", "The request must have an audience.")
        token = self._authority.issue_id_token(audience=str(audience), email=request.match_info["email"])
        return web.json_response({"token": token})

    async def _serve_signed_blob(self, request: web.Request) -> web.Response:
        self._check_bearer(request)
        key = self._authority.account_key(request.match_info["email"])
        payload = base64.b64decode(str((await _json(request)).get("payload", "")))
        signature = key.private_key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
        return web.json_response({"keyId": key.key_id, "signedBlob": base64.b64encode(signature).decode()})

    async def _serve_signed_jwt(self, request: web.Request) -> web.Response:
        self._check_bearer(request)
        key = self._authority.account_key(request.match_info["email"])
        claims = json.loads(str((await _json(request)).get("payload", "")))
        return web.json_response({"keyId": key.key_id, "signedJwt": key.sign(claims)})

    # Other APIs

    async def _serve_locations(self, request: web.Request) -> web.Response:
        self._check_bearer(request)
        if self.encoded_locations is None:
            raise GrantError("NOT_FOUND", "No regional access boundary is set.", status=404)
        return web.json_response({"locations": ["us-central1"], "encodedLocations": self.encoded_locations})

    async def _serve_project(self, request: web.Request) -> web.Response:
        self._check_bearer(request)
        return web.json_response({"projectId": f"project-{request.match_info['number']}"})

    def _check_bearer(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            raise GrantError("UNAUTHENTICATED", "The request has no bearer token.", status=401)
        self._authority.claims_of(token)


def _refusing(handler: _Handler) -> _Handler:
    """Answer a refusal of the handler with its status and JSON."""

    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except GrantError as refusal:
            return web.json_response(refusal.body(), status=refusal.status)
        except LookupError as unknown:
            body = GrantError("NOT_FOUND", str(unknown)).body()
            return web.json_response(body, status=404)

    return serve


async def _form(request: web.Request) -> dict[str, str]:
    return {name: str(value) for name, value in (await request.post()).items()}


async def _json(request: web.Request) -> _Body:
    try:
        body: object = await request.json()
    except ValueError as error:
        raise GrantError("INVALID_ARGUMENT", "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise GrantError("INVALID_ARGUMENT", "The body is not a JSON object.")
    return cast("_Body", body)


def _basic(request: web.Request) -> tuple[str, str]:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        name, colon, password = base64.b64decode(encoded).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = name = password = ""
    if scheme != "Basic" or not colon:
        raise GrantError("invalid_client", "The OAuth client was not found.", status=401)
    return name, password
