"""A token authority on the loopback interface: real HTTP, real RS256, and the faults a test orders."""

from __future__ import annotations

import asyncio
import itertools
import math
import urllib.parse
import uuid
from collections.abc import Iterable, Mapping
from typing import ClassVar

from aiohttp import web

from aio_authgrpc._loop.clock import Clock
from aio_authgrpc.testing.google.grants import (
    JWT_BEARER,
    REFRESH_TOKEN,
    Account,
    GrantError,
    User,
    verify_assertion,
    verify_signature,
)
from aio_authgrpc.testing.google.keys import KeyRing, SigningKey
from aio_authgrpc.testing.servers.http_server import LoopbackHttpServer

TOKEN_PATH = "/token"
JWKS_PATH = "/jwks"

# google-auth signs assertions for the first, whatever the key file says about its token endpoint, and for
# the second where the IAM API signs them for a machine.
_GOOGLE_TOKEN_ENDPOINTS = {
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
}
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


class Authority(LoopbackHttpServer):
    """Issue and publish what Google's token endpoint, key servers and consoles would, on 127.0.0.1.

    `async with Authority() as authority:` listens on a free port. Service accounts get key files that
    google-auth reads; their assertions are verified by signature, issuer, audience and time, and refused in
    Google's words. Access tokens and ID tokens are JWTs, signed by a key of `/jwks`; an account's own keys
    are published under `/service_accounts/v1/jwk/{email}` and, as certificates,
    `/service_accounts/v1/metadata/x509/{email}`.

    Orders to misbehave (see `LoopbackHttpServer`) concern the token endpoint unless they name another path.

    Args:
        clock: What dates the tokens; None means the machine's clock.
        token_lifetime: How long access tokens and ID tokens live, in seconds. May be set at any time.
        access_token_audience: The `aud` of access tokens; None means the issuer.
        assertion_skew: How far, in seconds, the time of an assertion may be off. google-auth dates
            assertions by the machine's clock: `math.inf` takes them whatever a `FakeClock` says.
        repeatable: Whether tokens that say the same are the same, to compare two clients with each other
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
        super().__init__(clock=clock)
        self.token_lifetime = token_lifetime
        self._access_token_audience = access_token_audience
        self._assertion_skew = assertion_skew
        self._repeatable = repeatable
        self._keys = KeyRing()
        self._published: list[SigningKey] = []
        self._accounts: dict[str, Account] = {}
        self._users: dict[str, User] = {}
        self._numbers = itertools.count(1)

    async def _open(self) -> None:
        self._published = [await self._keys.new_key()]
        await super()._open()

    async def _close(self) -> None:
        await super()._close()
        self._keys.close()

    def _routes(self) -> Iterable[web.RouteDef]:
        return [
            web.post(TOKEN_PATH, self._serve_token),
            web.get(JWKS_PATH, self._serve_jwks),
            web.get("/service_accounts/v1/jwk/{email}", self._serve_account_jwks),
            web.get("/service_accounts/v1/metadata/x509/{email}", self._serve_account_certificates),
        ]

    # Where it is

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens, and the address it listens on."""
        return self.url

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

    @property
    def access_token_audience(self) -> str:
        """The `aud` of access tokens."""
        return self.issuer if self._access_token_audience is None else self._access_token_audience

    # Who it knows

    async def service_account_info(
        self, email: str = "tester@project.iam.gserviceaccount.com"
    ) -> dict[str, str]:
        """Return a service account's key file, as a dict, with a key of its own.

        The account is made when it is new.
        Asking again for the same account adds a key; the earlier ones stay good.
        """
        token_uri = self.token_uri
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
        """Forget a service account, or a person's refresh tokens: from now on they are an `invalid_grant`.

        Raises:
            LookupError: Nobody of that name is known.
        """
        tokens = [token for token, user in self._users.items() if user.email == email]
        if self._accounts.pop(email, None) is None and not tokens:
            raise LookupError(f"there is no account and no user {email!r}")
        for token in tokens:
            del self._users[token]

    # Its keys

    def account_key(self, email: str) -> SigningKey:
        """Return the newest key of a service account.

        Raises:
            LookupError: No key file was made for `email`.
        """
        if email not in self._accounts:
            raise LookupError(f"there is no account {email!r}: call service_account_info() first")
        return next(reversed(self._accounts[email].keys.values()))

    def claims_of(self, token: str) -> Mapping[str, object]:
        """Return what a token says that the authority issued, or that one of its accounts signed itself.

        Raises:
            GrantError: It is signed by neither. Its times are not looked at.
        """
        accounts = (key for account in self._accounts.values() for key in account.keys.values())
        return verify_signature(token, [*self._published, *accounts])

    @property
    def signing_key(self) -> SigningKey:
        """The key that signs access tokens and ID tokens."""
        if not self._published:
            raise self._not_open()
        return self._published[-1]

    async def rotate_keys(self, *, keep_old: bool = True) -> None:
        """Sign with a new key from now on; the old ones stay in the JWKS, or leave it."""
        key = await self._keys.new_key()
        self._published = [*(self._published if keep_old else ()), key]

    async def foreign_key(self, *, key_id: str | None = None) -> SigningKey:
        """Return a key that is published nowhere.

        Args:
            key_id: Its id; None gives it the id of the signing key, as a forger would.
        """
        return await self._keys.new_key(self.signing_key.key_id if key_id is None else key_id)

    # Its tokens, without asking over HTTP

    def issue_access_token(
        self,
        *,
        email: str = "tester@project.iam.gserviceaccount.com",
        subject: str | None = None,
        scope: str = _CLOUD_PLATFORM,
        audience: str | None = None,
        issuer: str | None = None,
        lifetime: float | None = None,
        not_before: float | None = None,
        key: SigningKey | None = None,
    ) -> str:
        """Return an access token. No two are equal, unless the authority is `repeatable`.

        Args:
            email: Whose it is.
            subject: The `sub`; None means the account's client id, or the email of a stranger.
            scope: The scopes, separated by spaces.
            audience: The `aud`; None means `access_token_audience`.
            issuer: The `iss`; None means the authority.
            lifetime: In seconds; below zero it has expired. None means `token_lifetime`.
            not_before: The `nbf`, in seconds from now; None leaves it out.
            key: What signs it; None means `signing_key`.
        """
        claims = self._claims(email, subject, issuer=issuer, lifetime=lifetime, not_before=not_before)
        claims |= {"aud": self.access_token_audience if audience is None else audience, "scope": scope}
        return self.sign(claims, key=key)

    def issue_id_token(
        self,
        *,
        audience: str,
        email: str = "tester@project.iam.gserviceaccount.com",
        subject: str | None = None,
        issuer: str | None = None,
        lifetime: float | None = None,
        not_before: float | None = None,
        key: SigningKey | None = None,
    ) -> str:
        """Return an ID token for `audience`. The other arguments are those of `issue_access_token()`."""
        claims = self._claims(email, subject, issuer=issuer, lifetime=lifetime, not_before=not_before)
        return self.sign(claims | {"aud": audience, "azp": email, "email_verified": True}, key=key)

    def issue_self_signed_token(
        self,
        *,
        audience: str,
        email: str,
        subject: str | None = None,
        issuer: str | None = None,
        lifetime: float | None = None,
        not_before: float | None = None,
        key: SigningKey | None = None,
    ) -> str:
        """Return the token that a known service account would sign itself: issuer and subject are its email.

        Raises:
            LookupError: No key file was made for `email`.
        """
        own_key = self.account_key(email)
        claims = self._claims(
            email,
            email if subject is None else subject,
            issuer=email if issuer is None else issuer,
            lifetime=lifetime,
            not_before=not_before,
        )
        return self.sign(claims | {"aud": audience}, key=own_key if key is None else key)

    def sign(self, claims: Mapping[str, object], *, key: SigningKey | None = None) -> str:
        """Return `claims` as they are, signed with RS256 by `key`; None means `signing_key`."""
        return (self.signing_key if key is None else key).sign(claims)

    def _claims(
        self,
        email: str,
        subject: str | None,
        *,
        issuer: str | None,
        lifetime: float | None,
        not_before: float | None,
    ) -> dict[str, object]:
        now = self._clock.time()
        expires_at = int(now + (self.token_lifetime if lifetime is None else lifetime))
        if subject is None:
            subject = self._accounts[email].client_id if email in self._accounts else email
        claims: dict[str, object] = {
            "iss": self.issuer if issuer is None else issuer,
            "sub": subject,
            "email": email,
            "iat": min(int(now), expires_at),
            "exp": expires_at,
        }
        if not self._repeatable:
            claims["jti"] = str(next(self._numbers))
        return claims if not_before is None else claims | {"nbf": int(now + not_before)}

    def _new_id(self) -> str:
        return str(10**20 + next(self._numbers))

    # Its endpoints

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
        """Return what the token endpoint answers to a form.

        Raises:
            GrantError: It refuses.
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
        # The subject is whom the account acts for (domain-wide delegation), itself when there is none.
        email = str(claims.get("sub") or account.email)
        return self._bearer(self.issue_access_token(email=email, scope=str(claims["scope"])))

    def _grant_refresh_token(self, form: Mapping[str, str]) -> dict[str, object]:
        user = self._users.get(form.get("refresh_token", ""))
        if user is None:
            raise GrantError("invalid_grant", "Token has been expired or revoked.")
        if (form.get("client_id"), form.get("client_secret")) != (user.client_id, user.client_secret):
            raise GrantError("invalid_client", "The OAuth client was not found.", status=401)
        scope = form.get("scope", _CLOUD_PLATFORM)
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
