"""The decisions of a token endpoint: an accepted grant, or a refusal in Google's words. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import jwt

from aio_authgrpc.testing.google.keys import SigningKey

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
REFRESH_TOKEN = "refresh_token"

# Google takes an assertion for at most an hour.
_LONGEST_ASSERTION = 3600.0


class GrantError(Exception):
    """A refusal, in the words of OAuth and Google.

    Args:
        error: The OAuth error code, such as `invalid_grant`.
        description: Google's sentence.
        status: The HTTP status.
    """

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status

    def body(self) -> dict[str, str]:
        """Return the JSON object of the answer."""
        return {"error": self.error, "error_description": self.description}


@dataclass(slots=True, kw_only=True)
class Account:
    """A service account and the keys it may sign with, by key id."""

    email: str
    client_id: str
    keys: dict[str, SigningKey] = field(default_factory=dict[str, SigningKey])


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person with a refresh token."""

    email: str
    subject: str
    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)


def verify_assertion(
    assertion: str, *, accounts: Mapping[str, Account], audiences: Collection[str], now: float, skew: float
) -> tuple[Account, Mapping[str, object]]:
    """Check an assertion of the jwt-bearer grant (RFC 7523) the way Google does.

    Args:
        assertion: The JWT, signed by a service account's key.
        accounts: The known accounts, by email.
        audiences: The accepted values of `aud`.
        now: The wall time.
        skew: How many seconds the signer's clock may be off.

    Returns:
        The account that signed it, and its claims.

    Raises:
        GrantError: The assertion is refused; the description says why.
    """
    header, claims = _read(assertion)
    account = accounts.get(str(claims.get("iss")))
    if account is None:
        raise GrantError("invalid_grant", "Invalid grant: account not found")
    # Assertions signed by the IAM API have no `kid`: then any key of the account may match.
    named = header.get("kid")
    keys = [key for key in account.keys.values() if named in (None, key.key_id)]
    if not any(_is_signed_by(key, assertion) for key in keys):
        raise GrantError("invalid_grant", "Invalid JWT Signature.")
    if str(claims.get("aud")) not in audiences:
        wanted = " or ".join(sorted(audiences))
        raise GrantError(
            "invalid_grant", f"Invalid JWT: Failed audience check. The right audience is {wanted}"
        )
    _check_times(claims, now=now, skew=skew)
    return account, claims


def verify_signature(token: str, keys: Collection[SigningKey]) -> Mapping[str, object]:
    """Return the claims of a JWT that one of the keys has signed.

    Raises:
        GrantError: The token is not a JWT, or none of the keys signed it.
    """
    _, claims = _read(token)
    if not any(_is_signed_by(key, token) for key in keys):
        raise GrantError("invalid_token", "Invalid Credentials", status=401)
    return claims


def _read(assertion: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
    try:
        parts = jwt.decode_complete(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError as exc:
        raise GrantError("invalid_grant", f"Bad Request: the assertion is not a JWT: {exc}") from exc
    return parts["header"], parts["payload"]


def _is_signed_by(key: SigningKey, assertion: str) -> bool:
    try:
        jwt.PyJWS().decode(assertion, key.private_key.public_key(), algorithms=["RS256"])
    except jwt.InvalidTokenError:
        return False
    return True


def _check_times(claims: Mapping[str, object], *, now: float, skew: float) -> None:
    issued_at, expires_at = claims.get("iat"), claims.get("exp")
    if (
        not isinstance(issued_at, int | float)
        or not isinstance(expires_at, int | float)
        or issued_at > now + skew
        or expires_at < now - skew
        or expires_at - issued_at > _LONGEST_ASSERTION
    ):
        raise GrantError(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
            "Check your iat and exp values in the JWT claim.",
        )
