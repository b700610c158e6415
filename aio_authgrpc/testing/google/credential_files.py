"""A credential file of every type, good for the endpoints of a `GoogleCloud`."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path

from aio_authgrpc.testing.google.google_cloud import TOKEN_URI, GoogleCloud

Info = Mapping[str, object]
"""The content of a credential file."""

_POOL = "projects/123456/locations/global/workloadIdentityPools/pool/providers/provider"
_WORKFORCE_POOL = "locations/global/workforcePools/pool/providers/provider"
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_AWS_REQUEST = "urn:ietf:params:aws:token-type:aws4_request"
_MTLS = "urn:ietf:params:oauth:token-type:mtls"


class CredentialFiles:
    """Make the content of credential files, of each type that google-auth reads.

    Args:
        cloud: The endpoints that the files name; it has to be open.
        directory: For the files that credential files name: a subject token, an executable, certificates.
    """

    def __init__(self, cloud: GoogleCloud, directory: Path) -> None:
        self._cloud = cloud
        self._directory = directory

    async def every_type(self) -> dict[str, Info]:
        """Return one of each, by a name such as `external_account_file`."""
        service_account = await self._cloud.service_account_info()
        await self._cloud.service_account_info(self.impersonated_email)  # the IAM API signs with its key
        sources: dict[str, Info] = {
            "file": self.file_source(),
            "url": self._cloud.subject_tokens.credential_source(),
            "url_json": self._cloud.subject_tokens.credential_source(json=True),
            "executable": self.executable_source(),
            "aws": self._cloud.aws.credential_source(),
            "x509": self.certificate_source(),
        }
        external = {f"external_account_{name}": self.external_account(of) for name, of in sources.items()}
        return {
            "service_account": service_account,
            "authorized_user": self.authorized_user(),
            "impersonated_service_account": self.impersonated(self.authorized_user()),
            "gdch_service_account": self._cloud.gdch.service_account_info(self._directory / "gdch-ca.pem"),
            "external_account_authorized_user": self.external_account_authorized_user(),
            "external_account_impersonating": self.external_account(sources["file"], impersonate=True),
            **external,
        }

    @property
    def impersonated_email(self) -> str:
        """The service account that is impersonated."""
        return "impersonated@project.iam.gserviceaccount.com"

    def authorized_user(self) -> Info:
        """Return a person's file, as gcloud writes it."""
        return self._cloud.authority.user_info() | {"token_uri": TOKEN_URI}

    def impersonated(self, source: Info) -> Info:
        """Return the file of a service account that is impersonated from another credential's file."""
        return {
            "type": "impersonated_service_account",
            "service_account_impersonation_url": self._impersonation_url(),
            "source_credentials": source,
        }

    def external_account(self, source: Info, *, impersonate: bool = False) -> Info:
        """Return a workload's file, for one of the sources."""
        token_type, host = _JWT, "sts.googleapis.com"
        if "environment_id" in source:
            token_type = _AWS_REQUEST
        if "certificate" in source:
            token_type, host = _MTLS, "sts.mtls.googleapis.com"
        info: dict[str, object] = {
            "type": "external_account",
            "audience": f"//iam.googleapis.com/{_POOL}",
            "subject_token_type": token_type,
            "token_url": f"https://{host}/v1/token",
            "credential_source": source,
        }
        if impersonate:
            info["service_account_impersonation_url"] = self._impersonation_url()
        return info

    def external_account_authorized_user(self) -> Info:
        """Return the file of a person of a workforce pool."""
        user = self._cloud.authority.user_info("worker@example.com")
        return {
            "type": "external_account_authorized_user",
            "audience": f"//iam.googleapis.com/{_WORKFORCE_POOL}",
            "client_id": user["client_id"],
            "client_secret": user["client_secret"],
            "refresh_token": user["refresh_token"],
            "token_url": "https://sts.googleapis.com/v1/oauthtoken",
            "token_info_url": "https://sts.googleapis.com/v1/introspect",
        }

    # Sources of external accounts

    def file_source(self) -> Info:
        """Write a subject token into a file, and return the source that reads it."""
        path = self._directory / "subject-token"
        path.write_text("subject-token-of-a-file")
        return {"file": str(path)}

    def executable_source(self) -> Info:
        """Write an executable that prints a subject token, and return the source that runs it.

        google-auth runs it only if `GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES` is `1`.
        """
        answer = {
            "version": 1,
            "success": True,
            "token_type": _JWT,
            "id_token": "subject-token-of-an-executable",
            "expiration_time": 4_102_444_800,  # 2100
        }
        path = self._directory / "print-subject-token"
        path.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        return {"executable": {"command": str(path), "timeout_millis": 5000}}

    def certificate_source(self) -> Info:
        """Write a client certificate of the proxy's authority, and return the source that shows it."""
        certificate, key, config = (
            self._directory / f"workload-{name}" for name in ("cert.pem", "key.pem", "certificates.json")
        )
        chain_pem, key_pem = self._cloud.proxy.issue_client_certificate()
        certificate.write_bytes(chain_pem)
        key.write_bytes(key_pem)
        workload = {"cert_path": str(certificate), "key_path": str(key)}
        config.write_text(json.dumps({"version": 1, "cert_configs": {"workload": workload}}))
        return {"certificate": {"certificate_config_location": str(config)}}

    def _impersonation_url(self) -> str:
        return (
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
            f"{self.impersonated_email}:generateAccessToken"
        )
