"""API keys: a fixed value in a header of its own."""

from __future__ import annotations

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._tokens.metadata import checked_header
from aio_authgrpc._tokens.source import TokenRequest
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import ConfigurationError


class ApiKeySource:
    """What `api_key()` returns: a `TokenSource` whose `header` is where the key goes."""

    def __init__(self, key: str, header: str) -> None:
        self.header = header
        self._token = Token(key, scheme="")

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the key. Never waits."""
        return self._token

    def __repr__(self) -> str:
        return f"api_key(..., header={self.header!r})"


def api_key(key: str, *, header: str = "x-api-key") -> ApiKeySource:
    """Authenticate with an API key alone (seed 001's `--api_key`).

    For a key *beside* a token pass `api_key="..."` to `connect`.

    Args:
        key: The key.
        header: `x-api-key` for Cloud Endpoints, `x-goog-api-key` for Google's own APIs.

    Raises:
        ConfigurationError: The key is empty or not printable, or the header is no metadata key.
    """
    check_type("api_key", key, str)
    if not key:
        raise ConfigurationError("it is empty.", field="api_key")
    return ApiKeySource(key, checked_header(header))
