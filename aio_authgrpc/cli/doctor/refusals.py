"""What refusals mean: the words of Cloud Run, IAP, ESPv2 and Envoy, and Google's APIs, as one table each."""

from __future__ import annotations

import re
import shlex
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from aio_authgrpc.cli.doctor.findings import Account, Fault, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An RPC that ended with another status than OK, and everything that came with it.

    Attributes:
        code: The status.
        details: Its text.
        reasons: The `reason` of each `google.rpc.ErrorInfo`, with its metadata.
        challenge: `www-authenticate`; empty without one.
        http_status: The status of an answer that was HTTP and no gRPC; None for gRPC.
        headers: Its headers, in lower case.
        body: The beginning of its body.
        sent_token: Whether a token was sent.
        audiences: Those of the token; empty where it is opaque.
        account: Whose it is.
    """

    code: grpc.StatusCode
    details: str
    reasons: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, "Mapping[str, Any]"])
    challenge: str = ""
    http_status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: str = field(default="", repr=False)
    sent_token: bool
    audiences: Sequence[str] = ()
    account: Account = field(default_factory=Account)


def fault_of(refusal: Refusal, subject: Subject) -> Fault:
    """Return what a refusal means, by whom it is recognised to be from."""
    for recognise in (_iap, _cloud_run, _google_api, _endpoints):
        fault = recognise(refusal, subject)
        if fault is not None:
            return fault
    return _by_code(refusal, subject)


# Identity-Aware Proxy: https://cloud.google.com/iap/docs/authentication-howto


def _iap(refusal: Refusal, subject: Subject) -> Fault | None:
    location = refusal.headers.get("location", "")
    is_iap = "x-goog-iap-generated-response" in refusal.headers or "Invalid IAP credentials" in refusal.body
    if not is_iap and "//accounts.google.com/o/oauth2" not in location:
        return None
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)
    client = query.get("client_id", ["CLIENT_ID.apps.googleusercontent.com"])[0]
    return Fault(
        name="iap",
        cause="Identity-Aware Proxy stands before the server, and takes ID tokens for its client alone.",
        next_step=subject.again("--audience", client, without=["--audience"]),
    )


# Cloud Run: https://cloud.google.com/run/docs/troubleshooting


def _cloud_run(refusal: Refusal, subject: Subject) -> Fault | None:
    if refusal.http_status not in (401, 403, 404) or "Google Frontend" not in refusal.headers.get(
        "server", ""
    ):
        return None
    host = subject.server_name
    audience = f"https://{host}"
    if refusal.http_status == 404:
        cause = f"Google's front end knows no service {host} that may be reached from here (404)."
        return Fault(name="cloud-run-404", cause=cause, next_step="gcloud run services list")
    if audience in refusal.audiences and refusal.http_status == 401:
        cause = (
            f"Cloud Run did not accept the ID token for {audience}: the service may have another URL. (401)"
        )
        return Fault(
            name="cloud-run-401",
            cause=cause,
            next_step="gcloud run services describe SERVICE --format='value(status.url)'",
        )
    if not refusal.sent_token or refusal.http_status == 401 or "invalid_token" in refusal.challenge:
        cause = (
            "Cloud Run did not accept the token: it wants an ID token whose audience is the service."
            if refusal.sent_token
            else "Cloud Run demands an ID token, and none was sent."
        )
        return Fault(
            name="cloud-run-401",
            cause=f"{cause} ({refusal.http_status})",
            next_step=subject.again("--identity", "id", "--audience", audience, without=["--audience"]),
        )
    member = f"serviceAccount:{refusal.account.email}" if refusal.account.email else "serviceAccount:EMAIL"
    return Fault(
        name="cloud-run-403",
        cause=f"Cloud Run knows the caller {refusal.account.email or ''}".rstrip()
        + ", who may not invoke the service (403).",
        next_step=f"gcloud run services add-iam-policy-binding SERVICE --member={shlex.quote(member)} "
        "--role=roles/run.invoker",
    )


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


def _google_api(refusal: Refusal, subject: Subject) -> Fault | None:
    for reason, info in refusal.reasons.items():
        if reason in _REASONS:
            return _REASONS[reason](info, subject, refusal)
    text = f"{refusal.details} {refusal.body}"
    return next((make({}, subject, refusal) for words, make in _API_WORDS.items() if words in text), None)


# ESPv2 and Envoy: the words of the filters jwt_authn, RBAC and service control


def _endpoints(refusal: Refusal, subject: Subject) -> Fault | None:
    text = f"{refusal.details} {refusal.body}"
    found = next((known for words, known in _ENVOY.items() if words in text), None)
    if found is None:
        return None
    name, cause, next_step = found
    own = subject.named.audience
    audience = "AUDIENCE" if own in refusal.audiences else own
    typed = next_step.format(
        again=subject.again("--audience", audience, without=["--audience"]),
        with_token=subject.again("--identity", "id"),
        target=shlex.quote(subject.target),
    )
    return Fault(name=name, cause=f"{cause} ({_first_line(refusal)})", next_step=typed)


_KEYS = "gcloud endpoints configs describe CONFIG_ID --service=SERVICE"
_ENVOY = {
    "Audiences in Jwt are not allowed": (
        "wrong-audience",
        "The token is for another audience than the service's configuration names.",
        "{again}",
    ),
    "Jwt is missing": ("token-missing", "The server demands a token, and found none.", "{with_token}"),
    "Jwt is expired": ("token-expired", "The token has expired.", "timedatectl set-ntp true"),
    "Jwt not yet valid": (
        "clock",
        "The token is not valid yet: this machine's clock is ahead.",
        "timedatectl set-ntp true",
    ),
    "Jwt issuer is not configured": (
        "wrong-issuer",
        "The service's configuration does not name the issuer of this token.",
        _KEYS,
    ),
    "Jwks doesn't have key to match": (
        "key-refused",
        "The key that signed the token is not, or not any more, among the issuer's keys.",
        "gcloud iam service-accounts keys list --iam-account SERVICE_ACCOUNT_EMAIL",
    ),
    "Jwt verification fails": (
        "key-refused",
        "The signature of the token is not one of the issuer's keys.",
        "gcloud iam service-accounts keys list --iam-account SERVICE_ACCOUNT_EMAIL",
    ),
    "Jwks remote fetch is failed": (
        "issuer-keys",
        "The proxy before the service cannot fetch the keys of the token's issuer.",
        _KEYS,
    ),
    "Jwt is not in the form": (
        "token-kind",
        "The server takes JWTs, and got another kind of token.",
        "{with_token}",
    ),
    "RBAC: access denied": (
        "permission",
        "Envoy's rules deny the caller.",
        "kubectl get authorizationpolicies -A",
    ),
    "unregistered callers": ("api-key", "The service demands an API key.", "gcloud services api-keys list"),
    "not defined by this API": (
        "method-unknown",
        "The service's configuration does not name this method.",
        "aio-authgrpc call {target}",
    ),
    "upstream connect error": (
        "backend",
        "The proxy answers, and its backend does not.",
        "kubectl get endpoints",
    ),
    "no healthy upstream": (
        "backend",
        "The proxy answers, and no backend is healthy.",
        "kubectl get endpoints",
    ),
}


# What is left


def _by_code(refusal: Refusal, subject: Subject) -> Fault:
    line = _first_line(refusal)
    if refusal.code is grpc.StatusCode.UNAUTHENTICATED and not refusal.sent_token:
        cause = f"The server demands a token, and none was sent. ({line})"
        return Fault(name="token-missing", cause=cause, next_step=subject.again("--identity", "id"))
    if refusal.code is grpc.StatusCode.UNAUTHENTICATED:
        cause = f"The server refused the token. ({line})"
        return Fault(name="token-refused", cause=cause, next_step="aio-authgrpc token --decode")
    if refusal.code is grpc.StatusCode.PERMISSION_DENIED:
        cause = f"The server knows the caller, who may not do this. ({line})"
        return Fault(name="permission", cause=cause, next_step="aio-authgrpc token --decode")
    if refusal.http_status is not None:
        cause = f"What answered speaks HTTP, and no gRPC: {refusal.http_status}. ({line})"
        return Fault(name="no-grpc", cause=cause, next_step=f"curl -sv https://{subject.server_name}/")
    return Fault(
        name=f"status-{refusal.code.name.lower().replace('_', '-')}",
        cause=f"The RPC ended with {refusal.code.name}. ({line})",
        next_step=f"aio-authgrpc call {shlex.quote(subject.target)} -v",
    )


def _first_line(refusal: Refusal) -> str:
    text = re.sub(r"<[^>]+>", " ", refusal.body) if refusal.body else ""
    return " ".join(f"{refusal.code.name}: {refusal.details} {text}".split())[:200]
