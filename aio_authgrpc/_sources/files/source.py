"""A credential file as a token source."""

from __future__ import annotations

from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc._sources.files.content import InfoLoader
from aio_authgrpc._sources.google_auth import GoogleCredentialsSource
from aio_authgrpc._sources.lazy import LazyCredentialsSource
from aio_authgrpc._sources.options import CredentialOptions
from aio_authgrpc._tokens.source import TokenRequest


class CredentialFileSource(LazyCredentialsSource):
    """Reads a file of one type, never another, and makes its credential, in a worker thread.

    Args:
        loader: Reads files of this one type.
        options: What was chosen beside the file.
        sign_without_scopes: See `GoogleCredentialsSource`.
    """

    def __init__(
        self, loader: InfoLoader, options: CredentialOptions, *, sign_without_scopes: bool = True
    ) -> None:
        super().__init__()
        self._loader = loader
        self._options = options
        self._sign_without_scopes = sign_without_scopes

    async def make(self, request: TokenRequest) -> GoogleCredentialsSource:
        """See `LazyCredentialsSource`."""
        credentials = await run_in_thread(lambda: self._loader.read().credentials(self._options))
        return GoogleCredentialsSource(credentials, sign_without_scopes=self._sign_without_scopes)

    def __repr__(self) -> str:
        return f"{self._loader.kinds[0].name}({self._loader!r})"
