"""Federated identities: a token of AWS, Azure, Kubernetes, … exchanged for Google's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._sources.files import fields
from aio_authgrpc._sources.files.content import FileOrInfo, file_source, is_device
from aio_authgrpc._sources.files.fields import ANY, CLIENT, impersonation_url, json_object, secure_url, text
from aio_authgrpc._sources.files.impersonated_service_account import impersonated_id_token
from aio_authgrpc._sources.files.kind import CredentialInfo, CredentialKind, CredentialOptions, IdTokenRequest
from aio_authgrpc._sources.google_auth import LazyCredentialsSource
from aio_authgrpc.errors import ConfigurationError

_AWS_TOKEN_TYPE = "urn:ietf:params:aws:token-type:aws4_request"  # noqa: S105 - the name of a type


@hiding_arguments
def external_account(
    file_or_info: FileOrInfo, *, scopes: Sequence[str] | None = None, quota_project_id: str | None = None
) -> LazyCredentialsSource:
    """Act as a federated identity: a token of AWS, Azure, Kubernetes, … exchanged for Google's (AIP-4117).

    The subject token comes from a file, a URL, an executable, AWS, or a client certificate, as the
    configuration says. An executable is run only where the environment variable
    `GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES` is `1`; it is killed when its token is no longer waited for.

    Args:
        file_or_info: The path of the JSON configuration, its text, or its dict.
        scopes: OAuth 2.0 scopes.
        quota_project_id: The project that pays, sent as `x-goog-user-project`; the file's if None.

    Raises:
        ConfigurationError: As for `authorized_user`.
    """
    return file_source(file_or_info, KIND, scopes, quota_project_id)


def _credentials(info: CredentialInfo, options: CredentialOptions) -> Any:
    from google.auth import aws, identity_pool  # noqa: PLC0415 - in a worker thread

    from aio_authgrpc._sources.executable import ExecutableCredentials  # noqa: PLC0415 - as above

    for name in _FILES:
        if is_device(info.value(name)):
            raise info.error("names a device, which would be read for ever", field=name)
    kind: Any = identity_pool.Credentials
    if info.fields["subject_token_type"] == _AWS_TOKEN_TYPE:
        kind = aws.Credentials
    elif info.fields["credential_source"].get("executable") is not None:
        kind = ExecutableCredentials
    return kind.from_info(info.fields_with(options), scopes=options.scopes)


def _id_token_credentials(own: Any, request: IdTokenRequest) -> Any:
    """Ask the impersonation inside of an external account for another kind of token."""
    if not own.service_account_email:
        raise ConfigurationError(
            "an external account has no ID tokens unless it impersonates a service account.",
            field="credentials",
            hint="Its configuration needs a service_account_impersonation_url; or pass target_principal=.",
        )
    return impersonated_id_token(own._initialize_impersonated_credentials(), request)  # no public name


# google-auth opens whatever stands in `file`: a number, too, as a descriptor of the process.
_OF_AWS = ("environment_id", "region_url", "regional_cred_verification_url", "imdsv2_session_token_url")
_FILES = (
    "credential_source.file",
    "credential_source.executable.output_file",
    "credential_source.certificate.certificate_config_location",
    "credential_source.certificate.trust_chain_path",
)
_SOURCE: fields.Fields = {
    **dict.fromkeys(("file", "url", *_OF_AWS), text),
    "headers": fields.headers,
    "format": json_object,
    **dict.fromkeys(("format.type", "format.subject_token_field_name"), text),
    "executable": json_object,
    **dict.fromkeys(("executable.command", "executable.output_file"), text),
    "executable.timeout_millis": fields.positive,
    "executable.interactive_timeout_millis": fields.positive,
    "certificate": json_object,
    "certificate.certificate_config_location": text,
    "certificate.use_default_certificate_config": fields.flag,
    "certificate.trust_chain_path": text,
}
KIND = CredentialKind(
    name="external_account",
    required={
        "audience": text,
        "subject_token_type": text,
        "token_url": secure_url,
        "credential_source": json_object,
    },
    optional={
        **ANY,
        **CLIENT,
        "token_info_url": secure_url,
        "service_account_impersonation_url": impersonation_url,
        "service_account_impersonation": json_object,
        "service_account_impersonation.token_lifetime_seconds": fields.positive,
        "workforce_pool_user_project": text,
        **{f"credential_source.{name}": check for name, check in _SOURCE.items()},
    },
    hint="'gcloud iam workload-identity-pools create-cred-config' writes a new one.",
    make=_credentials,
    google_auth_module="google.auth.external_account",
    make_id_token=_id_token_credentials,
    refused_field="credential_source",
)
