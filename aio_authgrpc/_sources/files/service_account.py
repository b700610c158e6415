"""Service accounts from a key file or its content: the JWT-bearer exchange, and self-signed access."""

from __future__ import annotations

from collections.abc import Sequence

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._sources.files.content import FileOrInfo, InfoLoader
from aio_authgrpc._sources.files.kind import service_account_credentials
from aio_authgrpc._sources.files.private_key import KeyLoader
from aio_authgrpc._sources.google_auth import (
    GoogleCredentialsSource,
    checked_quota_project,
    checked_scopes,
)
from aio_authgrpc._sources.lazy import LazyCredentialsSource
from aio_authgrpc._tokens.source import TokenRequest
from aio_authgrpc.errors import ConfigurationError


def service_account(
    file_or_info: FileOrInfo,
    *,
    scopes: Sequence[str] | None = None,
    subject: str | None = None,
    self_signed: bool | None = None,
    quota_project_id: str | None = None,
) -> LazyCredentialsSource:
    """Act as a service account, from its key file (seeds 001 and 003).

    With scopes, a signed assertion is exchanged for an access token at the file's `token_uri`
    (RFC 7523). Without, a JWT for `https://<host>/` is signed here and used as it is
    (https://google.aip.dev/auth/4111), which needs no request at all.

    Args:
        file_or_info: The path of the JSON key file, its text, or its dict. A file is read when the
            channel is opened, off the loop; text and dict are checked at once.
        scopes: OAuth 2.0 scopes.
        subject: The user to act for, with domain-wide delegation.
        self_signed: False exchanges even without scopes; True signs even with scopes, which then
            become a claim; None decides as said above.
        quota_project_id: The project that pays, sent as `x-goog-user-project`.

    Raises:
        ConfigurationError: The arguments, or what is in memory, cannot be used. What is wrong with a
            file shows when the channel is opened. It is never replaced by another identity.
    """
    asked_scopes = checked_scopes(scopes)
    checked_quota_project(quota_project_id)
    check_type("subject", subject, str, type(None))
    check_type("self_signed", self_signed, bool, type(None))
    signs = not asked_scopes and subject is None if self_signed is None else self_signed
    if signs and subject is not None:
        raise ConfigurationError("a self-signed JWT cannot act for another.", field="subject")
    loader = KeyLoader(InfoLoader(file_or_info, ["service_account"]))

    async def make(_: TokenRequest) -> GoogleCredentialsSource:
        credentials = service_account_credentials(
            await loader.load(),
            scopes=asked_scopes,
            subject=subject,
            quota_project_id=quota_project_id,
            self_signed=signs,
        )
        return GoogleCredentialsSource(credentials, sign_without_scopes=signs)

    return LazyCredentialsSource(f"service_account({loader!r})", make)
