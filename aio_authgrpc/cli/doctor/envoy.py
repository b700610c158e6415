"""Refusals of ESPv2 and Envoy: the words of the filters jwt_authn, RBAC and service control."""

from __future__ import annotations

from aio_authgrpc.cli.doctor.findings import Fault, Subject
from aio_authgrpc.cli.doctor.refusal import Refusal


def of_envoy(refusal: Refusal, subject: Subject) -> Fault | None:
    """Return the fault where ESPv2, or another Envoy, has answered."""
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
        call=subject.call(),
    )
    return Fault(name=name, cause=f"{cause} ({refusal.first_line()})", next_step=typed)


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
        "{call}",
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
