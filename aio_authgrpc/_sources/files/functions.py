"""Credential files as token sources: a function for each type, which takes that type and no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc._sources.files.content import FileOrInfo, InfoLoader
from aio_authgrpc._sources.files.kind import import_type, make_credentials
from aio_authgrpc._sources.google_auth import (
    GoogleCredentialsSource,
    checked_quota_project,
    checked_scopes,
)
from aio_authgrpc._sources.lazy import LazyCredentialsSource
from aio_authgrpc._tokens.source import TokenRequest


def authorized_user(
    file_or_info: FileOrInfo, *, scopes: Sequence[str] | None = None, quota_project_id: str | None = None
) -> LazyCredentialsSource:
    """Act as a user who gave a refresh token, such as gcloud's login for applications (seed 003).

    Args:
        file_or_info: The path of the JSON file, its text, or its dict; also what the `to_json()` of
            google-auth's user credentials returned. A file is read when the channel is opened, off
            the loop; text and dict are checked at once.
        scopes: OAuth 2.0 scopes, of those that the user granted; all of them if None.
        quota_project_id: The project that pays, sent as `x-goog-user-project`; the file's if None.

    Raises:
        ConfigurationError: What is in memory cannot be used. What is wrong with a file shows when the
            channel is opened. It is never replaced by another identity.
    """
    loader = InfoLoader(file_or_info, ["authorized_user"], untyped="authorized_user")
    return _from_loader("authorized_user", loader, scopes, quota_project_id)


def external_account(
    file_or_info: FileOrInfo, *, scopes: Sequence[str] | None = None, quota_project_id: str | None = None
) -> LazyCredentialsSource:
    """Act as a federated identity: a token of AWS, Azure, Kubernetes, … exchanged for Google's (AIP-4117).

    The subject token comes from a file, a URL, an executable, AWS, or a client certificate, as the
    configuration says. An executable is run only where the environment variable
    `GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES` is `1`.

    Args:
        file_or_info: The path of the JSON configuration, its text, or its dict.
        scopes: OAuth 2.0 scopes.
        quota_project_id: The project that pays, sent as `x-goog-user-project`; the file's if None.

    Raises:
        ConfigurationError: As for `authorized_user`.
    """
    loader = InfoLoader(file_or_info, ["external_account"])
    return _from_loader("external_account", loader, scopes, quota_project_id)


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
    loader = InfoLoader(file_or_info, ["external_account_authorized_user"])
    return _from_loader("external_account_authorized_user", loader, None, quota_project_id)


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
    loader = InfoLoader(file_or_info, ["impersonated_service_account"])
    return _from_loader("impersonated_service_account", loader, scopes, quota_project_id)


def gdch_service_account(file_or_info: FileOrInfo, *, audience: str | None = None) -> LazyCredentialsSource:
    """Act as a service account of Google Distributed Cloud Hosted.

    Args:
        file_or_info: The path of the JSON key file, its text, or its dict.
        audience: For whom tokens are; `https://<host>` of the target if None.

    Raises:
        ConfigurationError: As for `authorized_user`.
    """
    check_type("audience", audience, str, type(None))
    loader = InfoLoader(file_or_info, ["gdch_service_account"])
    return _from_loader("gdch_service_account", loader, None, None, audience)


def _from_loader(
    kind: str,
    loader: InfoLoader,
    scopes: Sequence[str] | None,
    quota_project_id: str | None,
    audience: str | None = None,
) -> LazyCredentialsSource:
    asked_scopes = checked_scopes(scopes)
    checked_quota_project(quota_project_id)

    async def make(_: TokenRequest) -> GoogleCredentialsSource:
        await import_type(kind)

        def read() -> GoogleCredentialsSource:
            credentials: Any = make_credentials(
                loader.read(), asked_scopes, quota_project_id, always_scoped=True
            )
            if audience is not None:
                credentials = credentials.with_gdch_audience(audience)
            return GoogleCredentialsSource(credentials)

        return await run_in_thread(read)

    return LazyCredentialsSource(f"{kind}({loader!r})", make)
