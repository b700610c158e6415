"""A token authority on the loopback interface: real HTTP, real RS256, and faults on demand."""

from __future__ import annotations

import asyncio
import math
import urllib.parse
import uuid
from collections.abc import Iterable, Mapping
from typing import ClassVar

from aiohttp import web

from aio_authgrpc.testing.google.grants import (
    JWT_BEARER,
    REFRESH_TOKEN,
    Account,
    GrantError,
    User,
    verify_assertion,
)
from aio_authgrpc.testing.google.keys import SigningKey
from aio_authgrpc.testing.google.token_issuer import CLOUD_PLATFORM, TokenIssuer
from aio_authgrpc.tokens import Clock

TOKEN_PATH = "/token"
JWKS_PATH = "/jwks"

# google-auth's assertions are always for the first, even if the key file names another token endpoint;
# those that the IAM API signs for a machine are for the second.
_GOOGLE_TOKEN_ENDPOINTS = {
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
}


class Authority(TokenIssuer):
    """Issue tokens and publish keys on 127.0.0.1, as Google's token endpoint and key servers do.

    `async with Authority() as authority:` listens on a free port. Service accounts get key files that
    google-auth reads; their assertions are verified by signature, issuer, audience and time, and refused in
    Google's words. Access tokens and ID tokens are JWTs, signed by a key of `/jwks`; an account's own keys
    are published under `/service_accounts/v1/jwk/{email}` and, as certificates,
    `/service_accounts/v1/metadata/x509/{email}`.

    Orders to misbehave (see `LoopbackHttpServer`) concern the token endpoint unless they name another path.

    Args:
        clock: Dates the tokens; None means the machine's clock.
        token_lifetime: How long access tokens and ID tokens live, in seconds. May be set at any time.
        access_token_audience: The `aud` of access tokens; None means the issuer.
        assertion_skew: How far, in seconds, the time of an assertion may be off. google-auth dates
            assertions by the machine's clock: with a `FakeClock`, `math.inf` accepts them.
        repeatable: Whether tokens with equal claims are equal, to compare two clients with each other
            under a `FakeClock`. Otherwise each has a `jti` of its own.

    Attributes:
        requests: Every request received, in order.
        token_lifetime: As above.
    """

    main_path: ClassVar[str] = TOKEN_PATH

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        token_lifetime: float = 3600,
        access_token_audience: str | None = None,
        assertion_skew: float = 60,
        repeatable: bool = False,
    ) -> None:
        if math.isnan(assertion_skew) or assertion_skew < 0:
            raise ValueError(f"assertion_skew must be zero or more seconds, not {assertion_skew}")
        super().__init__(
            clock=clock,
            token_lifetime=token_lifetime,
            access_token_audience=access_token_audience,
            repeatable=repeatable,
        )
        self._assertion_skew = assertion_skew
        self._users: dict[str, User] = {}

    def _routes(self) -> Iterable[web.RouteDef]:
        return [
            web.post(TOKEN_PATH, self._serve_token),
            web.get(JWKS_PATH, self._serve_jwks),
            web.get("/service_accounts/v1/jwk/{email}", self._serve_account_jwks),
            web.get("/service_accounts/v1/metadata/x509/{email}", self._serve_account_certificates),
        ]

    # Addresses

    @property
    def token_uri(self) -> str:
        """The address of the token endpoint."""
        return self.issuer + TOKEN_PATH

    @property
    def jwks_url(self) -> str:
        """The address of the keys that sign access tokens and ID tokens."""
        return self.issuer + JWKS_PATH

    def account_jwks_url(self, email: str) -> str:
        """Return the address of a service account's own keys, as a JWKS."""
        return f"{self.issuer}/service_accounts/v1/jwk/{email}"

    def account_x509_url(self, email: str) -> str:
        """Return the address of a service account's own keys, as a map from key id to certificate."""
        return f"{self.issuer}/service_accounts/v1/metadata/x509/{email}"

    # Accounts and users

    async def service_account_info(
        self, email: str = "tester@project.iam.gserviceaccount.com"
    ) -> dict[str, str]:
        """Return a service account's key file, as a dict, with a key of its own.

        Creates the account if it is new; another call for the same account adds a key, and the earlier
        keys stay valid.
        """
        token_uri = self.token_uri  # raises before an account is created, if the authority is not open
        key = await self._keys.new_key()
        account = self._accounts.setdefault(email, Account(email=email, client_id=self._new_id()))
        account.keys[key.key_id] = key
        return {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": key.key_id,
            "private_key": key.private_pem(),
            "client_email": email,
            "client_id": account.client_id,
            "auth_uri": f"{self.issuer}/o/oauth2/auth",
            "token_uri": token_uri,
            "auth_provider_x509_cert_url": f"{self.issuer}/oauth2/v1/certs",
            "client_x509_cert_url": self.account_x509_url(urllib.parse.quote(email, safe="")),
            "universe_domain": "googleapis.com",
        }

    def user_info(self, email: str = "someone@example.com") -> dict[str, str]:
        """Return a person's `authorized_user` file, as a dict, with a refresh token of its own.

        `google.oauth2.credentials.Credentials.from_authorized_user_info` ignores its `token_uri` and uses
        Google's: add `.with_token_uri(authority.token_uri)`.
        """
        user = User(
            email=email,
            subject=self._new_id(),
            client_id=f"{self._new_id()}.apps.googleusercontent.com",
            client_secret=uuid.uuid4().hex,
            refresh_token=uuid.uuid4().hex,
        )
        self._users[user.refresh_token] = user
        return {
            "type": "authorized_user",
            "client_id": user.client_id,
            "client_secret": user.client_secret,
            "refresh_token": user.refresh_token,
            "token_uri": self.token_uri,
            "universe_domain": "googleapis.com",
        }

    def revoke(self, email: str) -> None:
        """Forget a service account, or a person's refresh tokens: requests get `invalid_grant` from now on.

        Raises:
            LookupError: `email` is unknown.
        """
        tokens = [token for token, user in self._users.items() if user.email == email]
        if self._accounts.pop(email, None) is None and not tokens:
            raise LookupError(f"unknown account or user {email!r}")
        for token in tokens:
            del self._users[token]

    # Endpoints

    @property
    def token_requests(self) -> int:
        """How many requests reached the token endpoint, answered or not."""
        return sum(request.path == TOKEN_PATH for request in self.requests)

    async def _serve_token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        try:
            return web.json_response(self.grant(form))
        except GrantError as refusal:
            return web.json_response(refusal.body(), status=refusal.status)

    def grant(self, form: Mapping[str, str]) -> dict[str, object]:
        """Return the token endpoint's answer to a form.

        Raises:
            GrantError: The endpoint refuses the form.
        """
        match form.get("grant_type"):
            case grant_type if grant_type == JWT_BEARER:
                return self._grant_assertion(form.get("assertion", ""))
            case grant_type if grant_type == REFRESH_TOKEN:
                return self._grant_refresh_token(form)
            case grant_type:
                raise GrantError("unsupported_grant_type", f"Invalid grant_type: {grant_type}")

    def _grant_assertion(self, assertion: str) -> dict[str, object]:
        account, claims = verify_assertion(
            assertion,
            accounts=self._accounts,
            audiences={*_GOOGLE_TOKEN_ENDPOINTS, self.token_uri},
            now=self._clock.time(),
            skew=self._assertion_skew,
        )
        if claims.get("target_audience"):
            return {
                "id_token": self.issue_id_token(audience=str(claims["target_audience"]), email=account.email)
            }
        if not claims.get("scope"):
            raise GrantError("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        # The subject is the user that the account acts for (domain-wide delegation), by default itself.
        email = str(claims.get("sub") or account.email)
        return self._bearer(self.issue_access_token(email=email, scope=str(claims["scope"])))

    def _grant_refresh_token(self, form: Mapping[str, str]) -> dict[str, object]:
        user = self._users.get(form.get("refresh_token", ""))
        if user is None:
            raise GrantError("invalid_grant", "Token has been expired or revoked.")
        if (form.get("client_id"), form.get("client_secret")) != (user.client_id, user.client_secret):
            raise GrantError("invalid_client", "The OAuth client was not found.", status=401)
        scope = form.get("scope", CLOUD_PLATFORM)
        return self._bearer(
            self.issue_access_token(email=user.email, subject=user.subject, scope=scope),
            scope=scope,
            id_token=self.issue_id_token(audience=user.client_id, email=user.email, subject=user.subject),
        )

    def _bearer(self, access_token: str, **others: str) -> dict[str, object]:
        return {
            "access_token": access_token,
            "expires_in": int(self.token_lifetime),
            "token_type": "Bearer",
            **others,
        }

    async def _serve_jwks(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": [key.jwk() for key in self._published]})

    async def _serve_account_jwks(self, request: web.Request) -> web.Response:
        return web.json_response({"keys": [key.jwk() for key in self._account_keys(request)]})

    async def _serve_account_certificates(self, request: web.Request) -> web.Response:
        email, now = request.match_info["email"], self._clock.time()
        keys = self._account_keys(request)
        certificates = [await asyncio.to_thread(key.certificate_pem, email, now=now) for key in keys]
        return web.json_response({key.key_id: pem for key, pem in zip(keys, certificates, strict=True)})

    def _account_keys(self, request: web.Request) -> list[SigningKey]:
        account = self._accounts.get(request.match_info["email"])
        if account is None:
            raise web.HTTPNotFound(text="Unknown service account")
        return list(account.keys.values())
