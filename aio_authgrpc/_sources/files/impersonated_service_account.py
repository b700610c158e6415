"""Service accounts whose tokens another identity may create."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._sources.files import authorized_user, external_account_authorized_user, service_account
from aio_authgrpc._sources.files.content import FileOrInfo, file_source
from aio_authgrpc._sources.files.fields import ANY, impersonated_email, impersonation_url, json_object, texts
from aio_authgrpc._sources.files.kind import (
    CredentialInfo,
    CredentialKind,
    CredentialOptions,
    IdTokenRequest,
    checked_info,
)
from aio_authgrpc._sources.google_auth import LazyCredentialsSource

# What google-auth takes as the first identity.
_IMPERSONATORS = (authorized_user.KIND, service_account.KIND, external_account_authorized_user.KIND)


@hiding_arguments
def impersonated_service_account(
    file_or_info: FileOrInfo, *, scopes: Sequence[str] | None = None, quota_project_id: str | None = None
) -> LazyCredentialsSource:
    """Act as a service account through another identity that may create its tokens.

    For objects in place of a file pass google-auth's `impersonated_credentials.Credentials`.

    Args:
        file_or_info: The path of the JSON file that `gcloud auth application-default login
            --impersonate-service-account` writes, its text, or its dict.
        scopes: OAuth 2.0 scopes; the file's if None.
        quota_project_id: The project that pays, sent as `x-goog-user-project`; the file's if None.

    Raises:
        ConfigurationError: As for `authorized_user`.
    """
    return file_source(file_or_info, KIND, scopes, quota_project_id)


def _credentials(info: CredentialInfo, options: CredentialOptions) -> Any:
    from google.auth import impersonated_credentials  # noqa: PLC0415 - in a worker thread

    inner = info.fields["source_credentials"]
    source = checked_info(inner, info.origin, _IMPERSONATORS, prefix="source_credentials.")
    of_file, chosen = info.fields.get("scopes"), options.scopes
    # Not from_impersonated_service_account_info(): it parses a key in the way that holds the GIL.
    return impersonated_credentials.Credentials(
        source_credentials=source.credentials(CredentialOptions(by_default=True)),
        target_principal=impersonated_email(info.fields["service_account_impersonation_url"]),
        target_scopes=(of_file or chosen) if options.by_default else (chosen or of_file),
        delegates=info.fields.get("delegates"),
        quota_project_id=info.fields_with(options).get("quota_project_id"),
    )


def impersonated_id_token(own: Any, request: IdTokenRequest) -> Any:
    from google.auth.impersonated_credentials import IDTokenCredentials  # noqa: PLC0415 - in a worker thread

    quota = own.quota_project_id
    return IDTokenCredentials(own, request.audience, include_email=True, quota_project_id=quota)


KIND = CredentialKind(
    name="impersonated_service_account",
    required={"service_account_impersonation_url": impersonation_url, "source_credentials": json_object},
    optional={**ANY, "delegates": texts, "scopes": texts},
    hint="'gcloud auth application-default login --impersonate-service-account' writes a new one.",
    make=_credentials,
    google_auth_module="google.auth.impersonated_credentials",
    make_id_token=impersonated_id_token,
)
