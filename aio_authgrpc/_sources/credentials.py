"""What `credentials=` takes, and the token source that each of it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from aio_authgrpc._sources.default import default
from aio_authgrpc._sources.google_auth import (
    GoogleAioCredentialsSource,
    GoogleCredentialsSource,
    is_google_aio_credentials,
    is_google_anonymous,
    is_google_credentials,
)
from aio_authgrpc._sources.several import SeveralTokensSource
from aio_authgrpc._sources.static import anonymous
from aio_authgrpc._tokens.metadata import checked_header
from aio_authgrpc._tokens.source import TokenSource
from aio_authgrpc.errors import ConfigurationError

if TYPE_CHECKING:
    import google.auth.aio.credentials
    import google.auth.credentials

    CredentialsType = (
        google.auth.credentials.Credentials
        | google.auth.aio.credentials.Credentials
        | TokenSource
        | Mapping[
            str, google.auth.credentials.Credentials | google.auth.aio.credentials.Credentials | TokenSource
        ]
        | None
    )
    """What `credentials=` takes: a google-auth credential, also of google.auth.aio, a source, a mapping
    from headers to several of them, or None."""
else:
    # Importing those classes takes a sixth of this package's own import, for an annotation.
    CredentialsType = object


def as_token_source(credentials: CredentialsType) -> TokenSource:
    """Return the source for what a user passed as `credentials`.

    Raises:
        ConfigurationError: It is nothing that tokens come from.
    """
    if credentials is None:
        return default()
    given: object = credentials
    if is_google_anonymous(given):
        return anonymous()
    if is_google_credentials(given):
        return GoogleCredentialsSource(cast("google.auth.credentials.Credentials", given))
    if is_google_aio_credentials(given):
        return GoogleAioCredentialsSource(cast("google.auth.aio.credentials.Credentials", given))
    if isinstance(given, TokenSource) and not isinstance(given, type):
        return given
    if isinstance(given, Mapping) and given:
        return _several(cast("Mapping[object, object]", given))
    raise ConfigurationError(
        f"expected a google-auth credential or a TokenSource, not {_kind(given)}.",
        field="credentials",
        hint="Use static_token(...) for a token, service_account(...) for a key file, token_source(...) "
        "for a coroutine function, or None for Application Default Credentials.",
    )


def _several(given: Mapping[object, object]) -> SeveralTokensSource:
    sources: dict[str, TokenSource] = {}
    for name, credentials in given.items():
        header = checked_header(cast("str", name), "credentials")
        if header in sources:
            raise ConfigurationError(f"{header!r} is there twice.", field="credentials")
        if credentials is None or isinstance(credentials, Mapping):
            raise ConfigurationError(
                f"expected one credential for {header!r}, not None or another mapping.",
                field="credentials",
                hint="default() is the default ones.",
            )
        sources[header] = as_token_source(cast("CredentialsType", credentials))
    return SeveralTokensSource(sources)


def _kind(given: object) -> str:
    """Name what was passed by its type alone: a str may be a token."""
    return f"the class {given.__name__}" if isinstance(given, type) else f"{type(given).__name__}"
