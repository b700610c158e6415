"""The keys of an authority, and the tokens that they sign without a request."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from aio_authgrpc.testing.google.grants import Account, verify_signature
from aio_authgrpc.testing.google.keys import KeyRing, SigningKey
from aio_authgrpc.testing.servers.http_server import LoopbackHttpServer
from aio_authgrpc.tokens import Clock

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


class TokenIssuer(LoopbackHttpServer):
    """Sign access tokens and ID tokens. `Authority` is one, and documents the arguments."""

    def __init__(
        self,
        *,
        clock: Clock | None,
        token_lifetime: float,
        access_token_audience: str | None,
        repeatable: bool,
    ) -> None:
        super().__init__(clock=clock)
        self.token_lifetime = token_lifetime
        self._access_token_audience = access_token_audience
        self._repeatable = repeatable
        self._keys = KeyRing()
        self._published: list[SigningKey] = []
        self._accounts: dict[str, Account] = {}
        self._numbers = itertools.count(1)

    async def _open(self) -> None:
        self._published = [await self._keys.new_key()]
        await super()._open()

    async def _close(self) -> None:
        await super()._close()
        self._keys.close()

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens, and the address it listens on."""
        return self.url

    @property
    def access_token_audience(self) -> str:
        """The `aud` of access tokens."""
        return self.issuer if self._access_token_audience is None else self._access_token_audience

    def account_key(self, email: str) -> SigningKey:
        """Return the newest key of a service account.

        Raises:
            LookupError: No key file was made for `email`.
        """
        if email not in self._accounts:
            raise LookupError(f"unknown account {email!r}: call service_account_info() first")
        return next(reversed(self._accounts[email].keys.values()))

    def claims_of(self, token: str) -> Mapping[str, object]:
        """Return the claims of a token that the authority, or one of its accounts, signed.

        The times in it are not checked.

        Raises:
            GrantError: The token has another signature.
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
        """Sign with a new key from now on; `keep_old` tells whether the old ones stay in the JWKS."""
        key = await self._keys.new_key()
        self._published = [*(self._published if keep_old else ()), key]

    async def foreign_key(self, *, key_id: str | None = None) -> SigningKey:
        """Return an unpublished key.

        Args:
            key_id: Its id; None gives it the id of the signing key, as a forger would.
        """
        return await self._keys.new_key(self.signing_key.key_id if key_id is None else key_id)

    def issue_access_token(
        self,
        *,
        email: str = "tester@project.iam.gserviceaccount.com",
        subject: str | None = None,
        scope: str = CLOUD_PLATFORM,
        audience: str | None = None,
        issuer: str | None = None,
        lifetime: float | None = None,
        not_before: float | None = None,
        key: SigningKey | None = None,
    ) -> str:
        """Return an access token. No two are equal, unless the authority is `repeatable`.

        Args:
            email: The account or user that it identifies.
            subject: The `sub`; None means the account's client id, or `email` if no such account exists.
            scope: The scopes, separated by spaces.
            audience: The `aud`; None means `access_token_audience`.
            issuer: The `iss`; None means the authority.
            lifetime: In seconds; a negative one makes an expired token. None means `token_lifetime`.
            not_before: The `nbf`, in seconds from now; None leaves it out.
            key: Signs it; None means `signing_key`.
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
        """Return a token as a known service account signs it itself: issuer and subject are its email.

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
