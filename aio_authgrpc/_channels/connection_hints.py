"""What to do about a connection that failed, by what gRPC says of it."""

from __future__ import annotations

import os
import urllib.parse

import grpc
import grpc.aio

from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.errors import ConnectionNotReadyError

_CLIENT_CERTIFICATE = (
    "The server ended the TLS handshake: it may demand a client certificate, or another one "
    "(SslCredentials(client_certificate=...))."
)
_SPEAKS_TLS = (
    "The server ended the plaintext connection: it probably speaks TLS. Connect with TLS (without "
    "plaintext=True), or check the port."
)
_NO_GRPC = "The server is no gRPC server, or another port's: check the target."
# gRPC's words, most specific first. A server that demands a client certificate sends an alert, which gRPC
# reports under TLS 1.3 as "TSI_DATA_CORRUPTED" alone.
_HINTS = {
    "CERTIFICATE_VERIFY_FAILED: certificate has expired": "The server's certificate has expired, or this "
    "machine's clock is wrong: renew the one, or set the other.",
    "CERTIFICATE_VERIFY_FAILED": "The server's certificate is not signed by a trusted authority: pass "
    "SslCredentials(root_certificates=...) with the authority's certificate.",
    "Hostname Verification": "The server's certificate is for another name: pass that name as authority= if "
    "this is the right server.",
    "WRONG_VERSION_NUMBER": "The server does not speak TLS: check the port, or pass plaintext=True.",
    "Failed to create security handshaker": "The certificates or the key of ssl_credentials= cannot be used.",
    "missing selected ALPN": "The server speaks TLS without HTTP/2 (ALPN 'h2'), which gRPC needs: check the "
    "port, or allow HTTP/2 on the server or its load balancer.",
    "http1.x server": _NO_GRPC,
    "Failed parsing HTTP/2": _NO_GRPC,
    "before receiving SETTINGS frame": _NO_GRPC,
    "Endpoint closing": "The server did not answer the TLS handshake in time: check that it speaks TLS at "
    "this port.",
    "HTTP proxy returned": "The proxy did not connect to the target: name the target in no_proxy to go "
    "without a proxy, or allow it there.",
    "TSI_DATA_CORRUPTED": _CLIENT_CERTIFICATE,
    "HANDSHAKE_FAILURE": _CLIENT_CERTIFICATE,
    "ALERT_UNKNOWN_CA": _CLIENT_CERTIFICATE,
    "Socket closed": _CLIENT_CERTIFICATE,
    "Connection reset by peer": _CLIENT_CERTIFICATE,
    "Connection refused": "Nothing listens at this address: check that the server runs, and its port. gRPC "
    "reports only the last of the target's addresses.",
    "error: No such file or directory": "There is no socket of this name: check the path, and that the "
    "server runs.",
    "hostname lookup error": "The target's name could not be resolved: check its spelling, and the DNS of "
    "this machine.",
}
_HINTS_IN_PLAINTEXT = {
    **_HINTS,
    "http1.x server": "The server answered in HTTP/1: it speaks TLS at this port, or is no gRPC server. "
    "Connect with TLS (without plaintext=True), or check the port.",
    "Socket closed": _SPEAKS_TLS,
    "Connection reset by peer": _SPEAKS_TLS,
}
_EITHER = f"{_CLIENT_CERTIFICATE} If the channel is a plaintext one, the server probably speaks TLS."
_HINTS_WHERE_UNKNOWN = {**_HINTS, "Socket closed": _EITHER, "Connection reset by peer": _EITHER}

_NOT_CONNECTED = ("failed to connect to all addresses", "hostname lookup error")
# Those that gRPC reads, in its order.
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


def connection_hint(details: str, *, plaintext: bool | None = None) -> str:
    """Return what to do about a failed connection, or "" where its cause is not known.

    `plaintext` is None where it is not known whether the channel uses TLS.
    """
    hints = _HINTS_WHERE_UNKNOWN
    if plaintext is not None:
        hints = _HINTS_IN_PLAINTEXT if plaintext else _HINTS
    hint = next((hint for said, hint in hints.items() if said in details), "")
    proxy = _proxy_that_failed(details)
    return f"{hint} This address is that of the proxy in {proxy}." if hint and proxy else hint


def _proxy_that_failed(details: str) -> str:
    """Return the variable whose proxy gRPC dialled in place of the target; "" where it dialled no proxy."""
    name = next(filter(os.environ.get, _PROXY_VARIABLES), "")
    proxy = os.environ.get(name, "")
    try:
        port = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}").port
    except ValueError:
        return ""
    return name if port is not None and f":{port}: " in details else ""


def explained(error: grpc.aio.AioRpcError, *, plaintext: bool | None = None) -> grpc.aio.AioRpcError:
    """Return an RPC's error, with a hint if its connection failed for a known reason."""
    details = error.details() or ""
    of_connection = any(words in details for words in _NOT_CONNECTED)
    if error.code() is not grpc.StatusCode.UNAVAILABLE or not of_connection:
        return error
    hint = connection_hint(details, plaintext=plaintext)
    if not hint:
        return error
    translated = ConnectionNotReadyError(redacted(details), hint=hint)
    translated.__cause__ = error
    return translated
