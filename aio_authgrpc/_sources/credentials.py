"""What `credentials=` takes, and the token source that each of it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from aio_authgrpc._sources import google_auth
from aio_authgrpc._sources.google_auth import GOOGLE_AUTH, GOOGLE_AUTH_AIO
from aio_authgrpc._sources.google_auth_gaps import is_of
from aio_authgrpc._sources.several import SeveralTokensSource
from aio_authgrpc._sources.static import anonymous
from aio_authgrpc._tokens.metadata import checked_header
from aio_authgrpc._tokens.source import TokenSource
from aio_authgrpc.errors import ConfigurationError

if TYPE_CHECKING:
    from google.auth.aio.credentials import Credentials as AioCredentials
    from google.auth.credentials import Credentials

    CredentialsType = (
        Credentials
        | AioCredentials
        | TokenSource
        | Mapping[str, Credentials | AioCredentials | TokenSource]
        | None
    )
    """What `credentials=` takes: a google-auth credential, also of google.auth.aio, a source, a mapping
    from headers to several of them, or None."""
else:
    # Importing those classes for an annotation would take a sixth of this package's own import time.
    CredentialsType = object


def as_token_source(credentials: CredentialsType) -> TokenSource:
    given: Any = credentials
    if given is None:
        from aio_authgrpc._sources.default import default  # noqa: PLC0415 - an eighth of the package's import

        return default()
    if any(is_of(given, module, "AnonymousCredentials") for module in (GOOGLE_AUTH, GOOGLE_AUTH_AIO)):
        return anonymous()
    if is_of(given, GOOGLE_AUTH):
        return google_auth.GoogleCredentialsSource(given)
    if is_of(given, GOOGLE_AUTH_AIO):
        return google_auth.GoogleAioCredentialsSource(given)
    if isinstance(given, TokenSource) and not isinstance(given, type):
        return given
    if isinstance(given, Mapping) and given:
        return _several(cast("Mapping[object, object]", given))
    # Only the type: a str may be a token.
    kind = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
    raise ConfigurationError(
        f"expected a google-auth credential or a TokenSource, not {kind}.",
        field="credentials",
        hint="Use static_token(...) for a token, service_account(...) for a key file, token_source(...) "
        "for a coroutine function, or None for Application Default Credentials.",
    )


def _several(given: Mapping[object, object]) -> SeveralTokensSource:
    sources: dict[str, TokenSource] = {}
    for name, credentials in given.items():
        header = checked_header(cast("str", name), "credentials")
        if header in sources:
            raise ConfigurationError(f"the header {header!r} is given twice.", field="credentials")
        if credentials is None or isinstance(credentials, Mapping):
            raise ConfigurationError(
                f"expected one credential for {header!r}, not None or another mapping.",
                field="credentials",
                hint="Pass default() for Application Default Credentials.",
            )
        sources[header] = as_token_source(cast("CredentialsType", credentials))
    return SeveralTokensSource(sources)
