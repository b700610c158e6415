"""Refusals of Google's front ends: Identity-Aware Proxy and Cloud Run."""

from __future__ import annotations

import shlex
import urllib.parse

from aio_authgrpc.cli.doctor.findings import Fault, Subject
from aio_authgrpc.cli.doctor.refusal import Refusal

# Identity-Aware Proxy: https://cloud.google.com/iap/docs/authentication-howto


def of_iap(refusal: Refusal, subject: Subject) -> Fault | None:
    """Return the fault where Identity-Aware Proxy has answered."""
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


def of_cloud_run(refusal: Refusal, subject: Subject) -> Fault | None:
    """Return the fault where Cloud Run has answered."""
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
