"""Why a connection failed: what gRPC says of it, and what to do about it."""

from __future__ import annotations

import grpc
import grpc.aio

from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.errors import ConnectionNotReadyError

_CLIENT_CERTIFICATE = (
    "The server ended the TLS handshake: it may demand a client certificate, or another one "
    "(client_cert_callback=)."
)
# What gRPC says, most specific first. A server that misses a client's certificate says so in an alert, which
# gRPC does not hand on under TLS 1.3: "TSI_DATA_CORRUPTED" is all that is left of it.
_HINTS = {
    "CERTIFICATE_VERIFY_FAILED: certificate has expired": "The server's certificate has expired; or this "
    "machine's clock is wrong.",
    "CERTIFICATE_VERIFY_FAILED": "Nobody who is trusted here has certified the server: pass its authority's "
    "certificate as root_certificates=.",
    "Hostname Verification": "The server's certificate is for another name: pass that as authority=, if it "
    "is the right server.",
    "WRONG_VERSION_NUMBER": "The server does not speak TLS: check the port; plaintext=True does without.",
    "Failed to create security handshaker": "The certificates or the key of ssl_credentials= cannot be used.",
    "TSI_DATA_CORRUPTED": _CLIENT_CERTIFICATE,
    "HANDSHAKE_FAILURE": _CLIENT_CERTIFICATE,
    "ALERT_UNKNOWN_CA": _CLIENT_CERTIFICATE,
    "Socket closed": _CLIENT_CERTIFICATE,
    "Connection reset by peer": _CLIENT_CERTIFICATE,
    "Connection refused": "Nothing listens at this address: check that the server runs, and its "
    "port. Of a target with several addresses gRPC tells of the last one alone.",
}
_NOT_CONNECTED = "failed to connect to all addresses"


def connection_hint(details: str) -> str:
    """Return what to do about what gRPC says of a connection; "" where that is not known."""
    return next((hint for said, hint in _HINTS.items() if said in details), "")


def explained(error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
    """Return an RPC's error with a hint where its connection failed in a way that is known; else itself."""
    details = error.details() or ""
    if error.code() is not grpc.StatusCode.UNAVAILABLE or _NOT_CONNECTED not in details:
        return error
    hint = connection_hint(details)
    if not hint:
        return error
    translated = ConnectionNotReadyError(redacted(f"{details}. {hint}"))
    translated.__cause__ = error
    return translated
