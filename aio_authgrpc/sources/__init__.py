"""Where tokens come from: one module for each kind of source, and the choice among them."""

from __future__ import annotations

import google.auth.aio.credentials
import google.auth.credentials

from aio_authgrpc.errors import ConfigurationError
from aio_authgrpc.sources.default import default
from aio_authgrpc.sources.google_auth import GoogleAioCredentialsSource, GoogleCredentialsSource
from aio_authgrpc.token import TokenSource

CredentialsType = (
    google.auth.credentials.Credentials | google.auth.aio.credentials.Credentials | TokenSource | None
)
"""What `credentials=` takes: a google-auth credential, one of google.auth.aio, a source, or None for ADC."""


def as_token_source(credentials: CredentialsType) -> TokenSource:
    """Return the source for what a user passed as `credentials`.

    Raises:
        ConfigurationError: It is nothing that tokens come from.
    """
    if credentials is None:
        return default()
    if isinstance(credentials, google.auth.credentials.Credentials):
        return GoogleCredentialsSource(credentials)
    if isinstance(credentials, google.auth.aio.credentials.Credentials):
        return GoogleAioCredentialsSource(credentials)
    given: object = credentials
    if isinstance(given, TokenSource) and not isinstance(given, type):
        return given
    raise ConfigurationError(
        f"expected a google-auth credential or a TokenSource, not {_kind(given)}.",
        field="credentials",
        hint="Use static_token(...) for a token, service_account(...) for a key file, token_source(...) "
        "for a coroutine function, or None for Application Default Credentials.",
    )


def _kind(given: object) -> str:
    """Name what was passed by its type alone: a str may be a token."""
    return f"the class {given.__name__}" if isinstance(given, type) else f"{type(given).__name__}"
