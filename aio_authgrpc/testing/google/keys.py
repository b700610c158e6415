"""RSA keys that sign tokens, made off the loop and reused after their owner has closed."""

from __future__ import annotations

import asyncio
import datetime
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """An RSA key with the id under which its public half is published.

    Attributes:
        key_id: The `kid` of the tokens that it signs.
        private_key: The key.
    """

    key_id: str
    private_key: rsa.RSAPrivateKey = field(repr=False)

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return `claims` as a JWT, signed with RS256. The claims may be any JSON object."""
        # jwt.encode() refuses some wrong claims that a test may need.
        payload = json.dumps(dict(claims)).encode()
        return jwt.PyJWS().encode(payload, self.private_key, algorithm="RS256", headers={"kid": self.key_id})

    def jwk(self) -> dict[str, str]:
        """Return the public half as a JSON Web Key."""
        numbers = RSAAlgorithm.to_jwk(self.private_key.public_key(), as_dict=True)
        return {
            "kid": self.key_id,
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "n": numbers["n"],
            "e": numbers["e"],
        }

    def private_pem(self) -> str:
        """Return the private half as in a service account's key file: PEM, PKCS #8, no password."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def certificate_pem(self, common_name: str, *, now: float) -> str:
        """Return a self-signed X.509 certificate of the public half, PEM.

        It is valid from a day before `now`, a wall time, for ten years.
        """
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name[:64])])
        today = datetime.datetime.fromtimestamp(now, tz=datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.private_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=1))
            .not_valid_after(today + datetime.timedelta(days=3650))
            .sign(self.private_key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


# Making a key takes 20-80 ms, and each test needs about two. The key of a closed owner is therefore reused
# by the next owner, under a new id; owners that are open at the same time never share a key.
_idle: list[rsa.RSAPrivateKey] = []


class KeyRing:
    """Hand out keys for as long as their owner is open."""

    def __init__(self) -> None:
        self._taken: list[rsa.RSAPrivateKey] = []

    async def new_key(self, key_id: str | None = None) -> SigningKey:
        """Return a key that no other open owner has, made off the loop; `key_id` None means a random id."""
        key = _idle.pop() if _idle else await asyncio.to_thread(rsa.generate_private_key, 65537, 2048)
        self._taken.append(key)
        return SigningKey(key_id=uuid.uuid4().hex if key_id is None else key_id, private_key=key)

    def close(self) -> None:
        """Return the keys for reuse: tokens that they signed must not be used any more."""
        _idle.extend(self._taken)
        self._taken.clear()
