"""What to do about a connection that failed, by what gRPC says of it."""

from __future__ import annotations

import grpc
import grpc.aio

from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.errors import ConnectionNotReadyError

_CLIENT_CERTIFICATE = (
    "The server ended the TLS handshake: it may demand a client certificate, or another one "
    "(SslCredentials(client_certificate=...))."
)
# gRPC's words, most specific first. A server that demands a client certificate sends an alert, which gRPC
# reports under TLS 1.3 as "TSI_DATA_CORRUPTED" alone.
_HINTS = {
    "CERTIFICATE_VERIFY_FAILED: certificate has expired": "The server's certificate has expired, or this "
    "machine's clock is wrong.",
    "CERTIFICATE_VERIFY_FAILED": "The server's certificate is not signed by a trusted authority: pass "
    "SslCredentials(root_certificates=...) with the authority's certificate.",
    "Hostname Verification": "The server's certificate is for another name: pass that name as authority= if "
    "this is the right server.",
    "WRONG_VERSION_NUMBER": "The server does not speak TLS: check the port, or pass plaintext=True.",
    "Failed to create security handshaker": "The certificates or the key of ssl_credentials= cannot be used.",
    "TSI_DATA_CORRUPTED": _CLIENT_CERTIFICATE,
    "HANDSHAKE_FAILURE": _CLIENT_CERTIFICATE,
    "ALERT_UNKNOWN_CA": _CLIENT_CERTIFICATE,
    "Socket closed": _CLIENT_CERTIFICATE,
    "Connection reset by peer": _CLIENT_CERTIFICATE,
    "Connection refused": "Nothing listens at this address: check that the server runs, and its port. gRPC "
    "reports only the last of the target's addresses.",
}
_NOT_CONNECTED = "failed to connect to all addresses"


def connection_hint(details: str) -> str:
    """Return what to do about a failed connection, or "" where its cause is not known."""
    return next((hint for said, hint in _HINTS.items() if said in details), "")


def explained(error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
    """Return an RPC's error, with a hint if its connection failed for a known reason."""
    details = error.details() or ""
    if error.code() is not grpc.StatusCode.UNAVAILABLE or _NOT_CONNECTED not in details:
        return error
    hint = connection_hint(details)
    if not hint:
        return error
    translated = ConnectionNotReadyError(redacted(f"{details}. {hint}"))
    translated.__cause__ = error
    return translated
