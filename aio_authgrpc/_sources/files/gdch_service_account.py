"""Service accounts of Google Distributed Cloud Hosted."""

from __future__ import annotations

from functools import partial
from typing import Any

from aio_authgrpc._checks.arguments import check_optional_text
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._sources.files.content import FileOrInfo, file_source, is_device
from aio_authgrpc._sources.files.fields import secure_url, text
from aio_authgrpc._sources.files.kind import CredentialInfo, CredentialKind, CredentialOptions
from aio_authgrpc._sources.google_auth import LazyCredentialsSource


@hiding_arguments
def gdch_service_account(file_or_info: FileOrInfo, *, audience: str | None = None) -> LazyCredentialsSource:
    """Act as a service account of Google Distributed Cloud Hosted.

    Args:
        file_or_info: The path of the JSON key file, its text, or its dict.
        audience: For whom tokens are; `https://<host>` of the target if None.

    Raises:
        ConfigurationError: As for `authorized_user`.
    """
    check_optional_text("audience", audience)
    kind = KIND.replace(make=partial(_credentials, audience=audience))
    return file_source(file_or_info, kind)


def _credentials(info: CredentialInfo, options: CredentialOptions, *, audience: str | None = None) -> Any:
    from google.oauth2.gdch_credentials import ServiceAccountCredentials  # noqa: PLC0415 - in a worker thread

    del options  # its tokens have an audience instead of scopes, and no quota project
    if is_device(info.value("ca_cert_path")):
        raise info.error("names a device, which would be read for ever", field="ca_cert_path")
    made: Any = ServiceAccountCredentials.from_service_account_info(info.fields)
    return made if audience is None else made.with_gdch_audience(audience)


def _format_version(value: object) -> str:
    return "" if value == "1" else 'needs "1"'


KIND = CredentialKind(
    name="gdch_service_account",
    required={
        "format_version": _format_version,
        "project": text,
        "private_key_id": text,
        "private_key": text,
        "name": text,
        "token_uri": secure_url,
    },
    optional={"ca_cert_path": text},
    hint="It must be the JSON key of a service account; create a new one if in doubt.",
    make=_credentials,
    google_auth_module="google.oauth2.gdch_credentials",
)
