"""Users who gave a refresh token, such as gcloud's login."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._sources.files.content import FileOrInfo, file_source
from aio_authgrpc._sources.files.fields import ANY, CLIENT, SAVED_TOKEN, google_token_url, text
from aio_authgrpc._sources.files.kind import CredentialInfo, CredentialKind, CredentialOptions, IdTokenRequest
from aio_authgrpc._sources.google_auth import LazyCredentialsSource


@hiding_arguments
def authorized_user(
    file_or_info: FileOrInfo, *, scopes: Sequence[str] | None = None, quota_project_id: str | None = None
) -> LazyCredentialsSource:
    """Act as a user who gave a refresh token, such as gcloud's login for applications (seed 003).

    For a login of another provider than Google, whose file names its `token_uri`, pass google-auth's
    `google.oauth2.credentials.Credentials(..., token_uri=...)`: from a file google-auth takes Google's
    endpoint in any case, so that another one is refused here.

    Args:
        file_or_info: The path of the JSON file, its text, or its dict; also what the `to_json()` of
            google-auth's user credentials returned. A file is read when the channel is opened, off
            the loop; text and dict are checked at once.
        scopes: OAuth 2.0 scopes, of those that the user granted; all of them if None.
        quota_project_id: The project that pays, sent as `x-goog-user-project`; the file's if None.

    Raises:
        ConfigurationError: What is in memory cannot be used. A mistake in a file shows when the
            channel is opened. The file is never replaced by another identity.
    """
    return file_source(file_or_info, KIND, scopes, quota_project_id)


def _credentials(info: CredentialInfo, options: CredentialOptions) -> Any:
    from google.oauth2 import credentials  # noqa: PLC0415 - in a worker thread

    scopes = None if options.by_default else options.scopes
    return credentials.Credentials.from_authorized_user_info(info.fields_with(options), scopes)


def _id_token_credentials(own: Any, request: IdTokenRequest) -> Any:
    from aio_authgrpc._sources.id_token_credentials import UserIdTokenCredentials  # noqa: PLC0415 - in a thread

    return UserIdTokenCredentials(own, request.audience if request.audience_is_given else None)


KIND = CredentialKind(
    name="authorized_user",
    required={**CLIENT, "refresh_token": text},
    optional={**ANY, **SAVED_TOKEN, "token_uri": google_token_url, "account": text, "rapt_token": text},
    hint="'gcloud auth application-default login' writes a new one.",
    make=_credentials,
    google_auth_module="google.oauth2.credentials",
    make_id_token=_id_token_credentials,
    is_without_type=True,
)
