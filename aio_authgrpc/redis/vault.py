"""What is stored of a token: a name that reveals nothing, and a value that only the key opens."""

from __future__ import annotations

import base64
import hmac
import json
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aio_authgrpc import ConfigurationError, Token
from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.values import FrozenValue, NotPickled

KEY_BYTES = 32
# NIST SP 800-38D: a random nonce of this size is good for 2**32 values under one key.
_NONCE_BYTES = 12
# A value is a multiple of it: its length tells little of the token.
_PADDED_TO = 256
_HINT = (
    "Make one with secrets.token_bytes(32), and give all processes the same: of base64 in the environment, "
    "pass base64.b64decode(os.environ['...'])."
)


class StoredToken(NotPickled, FrozenValue):
    """A token, without its expiry, and its times.

    Attributes:
        token: The token.
        expires_at: When it expires, in seconds since the epoch.
        lifetime: How many seconds it had when it was issued: its age is what is gone of them.
    """

    __slots__ = ("expires_at", "lifetime", "token")

    token: Token
    expires_at: float
    lifetime: float


class Vault(NotPickled):
    """One key of the user's, from which a key for names and a key for values are derived."""

    def __init__(self, key: bytes) -> None:
        check_type("keys", key, bytes, hint=_HINT)
        if len(key) != KEY_BYTES:
            raise ConfigurationError(
                f"a key has {KEY_BYTES} bytes, and one of {len(key)} was given.", field="keys", hint=_HINT
            )
        self._name_key = _derived(key, b"aio_authgrpc names 1")
        self._cipher = AESGCM(_derived(key, b"aio_authgrpc values 1"))

    def name(self, *parts: str) -> str:
        """Return the name of what the parts stand for."""
        text = json.dumps(parts).encode()
        return hmac.digest(self._name_key, text, "sha256").hex()

    def sealed(self, name: str, stored: StoredToken) -> str:
        """Return a token's text for the store. It opens under this name alone."""
        token = stored.token
        fields = [token.value, token.scheme, token.metadata, stored.expires_at, stored.lifetime]
        text = json.dumps(fields).encode()
        text += b" " * (-len(text) % _PADDED_TO)
        nonce = os.urandom(_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, text, name.encode())).decode()

    def opened(self, name: str, sealed: str) -> StoredToken | None:
        """Return what was sealed under this name, or None: another key or name, or not a sealed value."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            text = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], name.encode())
            value, scheme, metadata, expires_at, lifetime = json.loads(text)
            pairs = tuple((key, text) for key, text in metadata)
            token = Token(value, scheme=scheme, metadata=pairs)
            return StoredToken(token=token, expires_at=float(expires_at), lifetime=float(lifetime))
        except (InvalidTag, ValueError, TypeError):  # a ConfigurationError of Token is a ValueError
            return None


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)
