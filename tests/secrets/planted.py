"""Secrets that look like nothing: no pattern finds them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_NAMES = (
    *("refresh token", "client secret", "saved access token", "rapt token", "password of a URL"),
    *("refresh token of a pool", "client secret of a pool", "client secret of a workload"),
    *("refresh token of an impersonator", "client secret of an impersonator"),
    *("subject token in a file", "subject token at a URL", "subject token in JSON", "header of the URL"),
    *("subject token of an executable", "output of an executable", "password of a proxy"),
    *("token of an endpoint", "ID token of an endpoint", "new refresh token", "new token"),
    *("refresh token of a user's class", "password in a user's function", "result of a user's function"),
    *("static token", "API key", "API key beside a token", "cookie", "metadata of a token"),
    *("metadata of a call", "token of an identity", "token of a plugin", "passphrase", "wrong passphrase"),
    "key id",
)
PLANTED = {name: hashlib.sha256(name.encode()).hexdigest()[:40] for name in _NAMES}
"""Lower-case letters and digits, as the number of a request may be, by name."""

# What the metadata server of AWS in `aio_authgrpc.testing` gives.
PLANTED |= {name: name for name in ("aws-secret-access-key", "aws-session-token", "imds-session-token")}

_PIECE = 12


def needles(secrets: Iterable[str]) -> list[str]:
    """Return pieces of secrets, of which a longer piece has one at least."""
    return [secret[at : at + _PIECE] for secret in secrets for at in range(0, len(secret) - _PIECE + 1, 4)]
