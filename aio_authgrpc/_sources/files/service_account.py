"""Service accounts from a key file: the JWT-bearer exchange, self-signed access, and JWTs for ESP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from aio_authgrpc._checks.arguments import check_optional_text, check_type
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._sources.files.content import (
    READ_TIMEOUT,
    FileOrInfo,
    InfoLoader,
    file_source,
    read_in_thread,
)
from aio_authgrpc._sources.files.fields import ANY, secure_url, text
from aio_authgrpc._sources.files.kind import CredentialInfo, CredentialKind, CredentialOptions, IdTokenRequest
from aio_authgrpc._sources.google_auth import LazyCredentialsSource, checked_audience
from aio_authgrpc._tokens.source import TokenRequest
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import ConfigurationError

if TYPE_CHECKING:
    from google.auth.crypt import RSASigner

# ESP, and Google's own endpoints, refuse a JWT with a longer lifetime.
_MAX_LIFETIME = 3600


@hiding_arguments
def service_account(
    file_or_info: FileOrInfo,
    *,
    scopes: Sequence[str] | None = None,
    subject: str | None = None,
    self_signed: bool | None = None,
    quota_project_id: str | None = None,
) -> LazyCredentialsSource:
    """Act as a service account, from its key file (seeds 001 and 003).

    With scopes, a signed assertion is exchanged for an access token at the file's `token_uri`
    (RFC 7523). Without, a JWT for `https://<host>/` is signed here and used as it is
    (https://google.aip.dev/auth/4111), which needs no request at all.

    Args:
        file_or_info: The path of the JSON key file, its text, or its dict. A file is read when the
            channel is opened, off the loop; text and dict are checked at once.
        scopes: OAuth 2.0 scopes.
        subject: The user to act for, with domain-wide delegation.
        self_signed: False exchanges even without scopes; True signs even with scopes, which then
            become a claim; None decides as said above.
        quota_project_id: The project that pays, sent as `x-goog-user-project`.

    Raises:
        ConfigurationError: The arguments, or what is in memory, cannot be used. A mistake in a file
            shows when the channel is opened. The file is never replaced by another identity.
    """
    check_type("subject", subject, str, type(None))
    check_type("self_signed", self_signed, bool, type(None))
    signs = not scopes and subject is None if self_signed is None else self_signed
    if signs and subject is not None:
        raise ConfigurationError(
            "a self-signed JWT cannot act for another account.",
            field="subject",
            hint="Leave self_signed out.",
        )
    kind = KIND.replace(make=partial(_credentials, subject=subject, self_signed=signs))
    return file_source(file_or_info, kind, scopes, quota_project_id, sign_without_scopes=signs)


def _credentials(
    info: CredentialInfo, options: CredentialOptions, *, subject: str | None = None, self_signed: bool = False
) -> Any:
    from google.oauth2 import service_account as google_auth  # noqa: PLC0415 - 25 ms, in a worker thread

    return google_auth.Credentials(
        signer_of(info),
        service_account_email=info.fields["client_email"],
        token_uri=info.fields["token_uri"],
        scopes=options.scopes,
        subject=subject,
        project_id=info.fields.get("project_id"),
        quota_project_id=options.quota_project_id,  # google-auth does not read the file's
        universe_domain=info.fields.get("universe_domain") or "googleapis.com",
        always_use_jwt_access=self_signed,
    )


def signer_of(info: CredentialInfo) -> RSASigner:
    """Return the signer for the key of a file, in a worker thread, or raise a ConfigurationError."""
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415 - 25 ms, in a thread
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - as above
    from google.auth.crypt import RSASigner  # noqa: PLC0415 - as above

    try:
        # The full check of the primes holds the GIL for 27 ms, and the loop with it. It guards against
        # keys made by an adversary; a damaged one is found by the signature below, in 0.3 ms.
        key = load_pem_private_key(
            str(info.fields["private_key"]).encode(), password=None, unsafe_skip_rsa_key_validation=True
        )
        if isinstance(key, rsa.RSAPrivateKey):
            key.public_key().verify(
                key.sign(b"", padding.PKCS1v15(), SHA256()), b"", padding.PKCS1v15(), SHA256()
            )
    except Exception:  # noqa: BLE001 - OpenSSL's errors have no common base, and may quote the key
        key = None
    if isinstance(key, rsa.RSAPrivateKey):
        return RSASigner(key, info.fields.get("private_key_id"))
    # Outside of the handler: no context that may quote the key.
    raise info.error(
        "holds no usable RSA key in PEM form: it is truncated or damaged (are its line ends '\\n'?)",
        field="private_key",
    )


def _id_token_credentials(own: Any, request: IdTokenRequest) -> Any:
    from google.oauth2 import service_account as google_auth  # noqa: PLC0415 - the credential has loaded it

    return google_auth.IDTokenCredentials(
        own.signer,
        service_account_email=own.service_account_email,
        token_uri=own._token_uri,  # google-auth has no public name
        target_audience=request.audience,
        quota_project_id=own.quota_project_id,
        universe_domain=own.universe_domain,
    )


KIND = CredentialKind(
    name="service_account",
    required={"client_email": text, "private_key": text, "token_uri": secure_url},
    optional={**ANY, "private_key_id": text, "project_id": text},
    hint="It must be the JSON key of a service account; create a new one if in doubt.",
    make=_credentials,
    google_auth_module="google.oauth2.service_account",
    make_id_token=_id_token_credentials,
)


class ServiceAccountJwtSource(NotPickled):
    """What `service_account_jwt()` returns."""

    def __init__(
        self,
        loader: InfoLoader,
        claims: Mapping[str, str | None],
        audience: str | None,
        lifetime: int,
        *,
        timeout: float = READ_TIMEOUT,
    ) -> None:
        self._loader = loader
        self._claims = claims
        self._audience = audience
        self._lifetime = lifetime
        self._timeout = timeout
        self._key: tuple[str, Callable[[dict[str, object]], bytes]] | None = None

    async def load(self, request: TokenRequest) -> None:
        """Read and check the key, once. Cancelling it leaves nothing behind."""
        checked_audience(request, self._audience)
        await self._email_and_sign()

    async def fetch(self, request: TokenRequest) -> Token:
        """Sign a JWT; no request is made. Signing takes 0.3 ms, less than handing it to a thread."""
        claims = await self.claims(request)
        _, sign = await self._email_and_sign()
        issued_at = int(request.time)
        expires_at = issued_at + self._lifetime
        return Token(sign({"iat": issued_at, "exp": expires_at, **claims}).decode(), expires_at=expires_at)

    async def claims(self, request: TokenRequest) -> dict[str, str]:
        """Return what a JWT says of the identity and the audience, without its times."""
        audience = checked_audience(request, self._audience)
        email, _ = await self._email_and_sign()
        named = {name: email if value is None else value for name, value in self._claims.items()}
        return {"aud": audience, **named}

    async def account(self) -> str:
        """Return the email in the key file, whose key signs whatever the claims say."""
        email, _ = await self._email_and_sign()
        return email

    async def _email_and_sign(self) -> tuple[str, Callable[[dict[str, object]], bytes]]:
        if self._key is None:
            self._key = await read_in_thread(self._read, repr(self), self._timeout)
        return self._key

    def _read(self) -> tuple[str, Callable[[dict[str, object]], bytes]]:
        from google.auth import jwt  # noqa: PLC0415 - 25 ms, in a worker thread

        info = self._loader.read()
        return info.fields["client_email"], partial(jwt.encode, signer_of(info))

    def __repr__(self) -> str:
        return f"service_account_jwt({self._loader!r})"


@hiding_arguments
def service_account_jwt(
    file_or_info: FileOrInfo,
    *,
    issuer: str | None = None,
    audience: str | None = None,
    subject: str | None = None,
    email: str | None = None,
    lifetime: int = _MAX_LIFETIME,
) -> ServiceAccountJwtSource:
    """Sign JWTs as seed 001's generator does, for a service behind ESP or Envoy that trusts the account.

    Each is signed with RS256 by the file's key, names it as `kid`, is cached, and is replaced before
    it expires. Nothing is requested from anywhere.

    Args:
        file_or_info: The path of the JSON key file, its text, or its dict. A file is read when the
            channel is opened, off the loop; text and dict are checked at once.
        issuer: `iss`, as the service's configuration names it; the account's email if None.
        audience: `aud`; `https://<host of the target>` if None.
        subject: `sub`, the user id for the service; the account's email if None.
        email: `email`; the account's if None.
        lifetime: Seconds that each JWT is good for, 1 to 3600.

    Raises:
        ConfigurationError: The arguments, or what is in memory, cannot be used. A mistake in a file
            shows when the channel is opened.
    """
    check_type("lifetime", lifetime, int)
    check_optional_text("audience", audience)
    for field, value in (("issuer", issuer), ("subject", subject), ("email", email)):
        check_type(field, value, str, type(None))
    if not 1 <= lifetime <= _MAX_LIFETIME:
        raise ConfigurationError(
            f"{lifetime!r} is not between 1 and {_MAX_LIFETIME} seconds.", field="lifetime"
        )
    claims = {"iss": issuer, "sub": subject, "email": email}
    return ServiceAccountJwtSource(InfoLoader(file_or_info, [KIND]), claims, audience, lifetime)
