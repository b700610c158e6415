"""Refusals of Google's APIs, which say their reason in a `google.rpc.ErrorInfo`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from aio_authgrpc.cli.doctor.findings import Fault, Subject
from aio_authgrpc.cli.doctor.refusal import Refusal

# Google's APIs: https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto

_FaultOf = Callable[[Mapping[str, Any], Subject, Refusal], Fault]


_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
# Where the scopes of a token are decided, if not by --scopes.
_SCOPES = {
    "authorized_user": f"gcloud auth application-default login --scopes=openid,{_CLOUD_PLATFORM}",
    "compute_engine": "gcloud compute instances set-service-account INSTANCE --scopes=cloud-platform",
}


def _scope(_: Mapping[str, Any], subject: Subject, refusal: Refusal) -> Fault:
    again = subject.again("--scopes", _CLOUD_PLATFORM if subject.credential.scopes else "SCOPE_OF_THE_METHOD")
    return Fault(
        name="scope",
        cause=f"The token lacks a scope that the method needs: {refusal.details}",
        next_step=_SCOPES.get(refusal.account.kind, again),
    )


def _quota(_: Mapping[str, Any], __: Subject, refusal: Refusal) -> Fault:
    return Fault(
        name="quota-project",
        cause=f"The API needs to know which project pays for a user's calls: {refusal.details}",
        next_step="gcloud auth application-default set-quota-project PROJECT",
    )


def _quota_denied(info: Mapping[str, Any], _: Subject, refusal: Refusal) -> Fault:
    project = str(info.get("consumer", "PROJECT")).removeprefix("projects/")
    return Fault(
        name="quota-project",
        cause=f"The caller may not let the quota project {project} pay: {refusal.details}",
        next_step=f"gcloud projects add-iam-policy-binding {shlex.quote(project)} --member=user:EMAIL "
        "--role=roles/serviceusage.serviceUsageConsumer",
    )


def _disabled(info: Mapping[str, Any], subject: Subject, refusal: Refusal) -> Fault:
    if "quota project" in refusal.details:
        return _quota(info, subject, refusal)
    service = str(info.get("service", subject.server_name))
    return Fault(
        name="api-disabled",
        cause=f"The API is not enabled in the project that pays: {refusal.details}",
        next_step=f"gcloud services enable {shlex.quote(service)}",
    )


def _permission(info: Mapping[str, Any], _: Subject, refusal: Refusal) -> Fault:
    wanted = info.get("permission", "a permission")
    return Fault(
        name="permission",
        cause=f"The caller is known, and lacks {wanted}: {refusal.details}",
        next_step="gcloud projects add-iam-policy-binding PROJECT --member=MEMBER --role=ROLE",
    )


def _token_type(_: Mapping[str, Any], subject: Subject, refusal: Refusal) -> Fault:
    return Fault(
        name="token-kind",
        cause=f"The API takes access tokens, and got another kind: {refusal.details}",
        next_step=subject.again("--identity", "access", without=["--audience"]),
    )


def _api_key(_: Mapping[str, Any], __: Subject, refusal: Refusal) -> Fault:
    return Fault(
        name="api-key",
        cause=f"The API key was refused: {refusal.details}",
        next_step="gcloud services api-keys list",
    )


_REASONS: dict[str, _FaultOf] = {
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": _scope,
    "ACCESS_TOKEN_TYPE_UNSUPPORTED": _token_type,
    "API_KEY_INVALID": _api_key,
    "API_KEY_SERVICE_BLOCKED": _api_key,
    "CONSUMER_INVALID": _quota_denied,
    "IAM_PERMISSION_DENIED": _permission,
    "SERVICE_DISABLED": _disabled,
    "USER_PROJECT_DENIED": _quota_denied,
}
# Where a server, or something between, leaves the details out.
_API_WORDS: dict[str, _FaultOf] = {
    "insufficient authentication scopes": _scope,
    "requires a quota project": _quota,
    "Expected OAuth 2 access token": _token_type,
    "has not been used in project": _disabled,
    "API key not valid": _api_key,
}


def of_google_api(refusal: Refusal, subject: Subject) -> Fault | None:
    """Return the fault where one of Google's APIs has answered."""
    for reason, info in refusal.reasons.items():
        if reason in _REASONS:
            return _REASONS[reason](info, subject, refusal)
    text = f"{refusal.details} {refusal.body}"
    return next((make({}, subject, refusal) for words, make in _API_WORDS.items() if words in text), None)
