"""A credential file as a token source."""

from __future__ import annotations

from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc._sources.files.content import InfoLoader
from aio_authgrpc._sources.google_auth import GoogleCredentialsSource
from aio_authgrpc._sources.lazy import LazyCredentialsSource
from aio_authgrpc._sources.options import CredentialOptions


def file_source(
    loader: InfoLoader, options: CredentialOptions, *, sign_without_scopes: bool = True
) -> LazyCredentialsSource:
    """Return the source that reads a file of one type, never another, in a worker thread."""

    def make() -> GoogleCredentialsSource:
        credentials = loader.read().credentials(options)
        return GoogleCredentialsSource(credentials, sign_without_scopes=sign_without_scopes)

    return LazyCredentialsSource(f"{loader.kinds[0].name}({loader!r})", lambda _: run_in_thread(make))
