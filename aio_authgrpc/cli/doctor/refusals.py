"""What a refusal means."""

from __future__ import annotations

import grpc

from aio_authgrpc.cli.doctor.envoy import of_envoy
from aio_authgrpc.cli.doctor.findings import Fault, Subject
from aio_authgrpc.cli.doctor.front_ends import of_cloud_run, of_iap
from aio_authgrpc.cli.doctor.google_apis import of_google_api
from aio_authgrpc.cli.doctor.refusal import Refusal


def fault_of(refusal: Refusal, subject: Subject) -> Fault:
    """Return what a refusal means, by whom it is recognised to be from."""
    for recognise in (of_iap, of_cloud_run, of_google_api, of_envoy):
        fault = recognise(refusal, subject)
        if fault is not None:
            return fault
    return _by_code(refusal, subject)


def _by_code(refusal: Refusal, subject: Subject) -> Fault:
    line = refusal.first_line()
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
        next_step=subject.call("-v"),
    )
