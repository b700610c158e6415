"""Users of a workforce pool, who logged in through gcloud."""

from __future__ import annotations

from typing import Any

from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._sources.files.content import FileOrInfo, file_source
from aio_authgrpc._sources.files.fields import ANY, CLIENT, SAVED_TOKEN, secure_url, text
from aio_authgrpc._sources.files.kind import CredentialInfo, CredentialKind, CredentialOptions
from aio_authgrpc._sources.google_auth import LazyCredentialsSource


@hiding_arguments
def external_account_authorized_user(
    file_or_info: FileOrInfo, *, quota_project_id: str | None = None
) -> LazyCredentialsSource:
    """Act as a user of a workforce pool who logged in through gcloud.

    Args:
        file_or_info: The path of the JSON file, its text, or its dict.
        quota_project_id: The project that pays, sent as `x-goog-user-project`; the file's if None.

    Raises:
        ConfigurationError: As for `authorized_user`.
    """
    return file_source(file_or_info, KIND, quota_project_id=quota_project_id)


def _credentials(info: CredentialInfo, options: CredentialOptions) -> Any:
    from google.auth import external_account_authorized_user as google_auth  # noqa: PLC0415 - in a thread

    return google_auth.Credentials.from_info(info.fields_with(options))


KIND = CredentialKind(
    name="external_account_authorized_user",
    required={**CLIENT, "refresh_token": text, "token_url": secure_url},
    optional={
        **ANY,
        **SAVED_TOKEN,
        "audience": text,
        "token_info_url": secure_url,
        "revoke_url": secure_url,
    },
    hint="'gcloud auth application-default login' writes a new one.",
    make=_credentials,
    google_auth_module="google.auth.external_account_authorized_user",
)
