"""Certificates of a test authority: issued as PEM, and put into TLS contexts."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import trustme

LOCAL_NAMES = ("localhost", "127.0.0.1")


def issue_pem(ca: trustme.CA, *names: str) -> tuple[bytes, bytes]:
    """Return a new certificate chain for `names`, and its private key, PEM."""
    certificate = ca.issue_cert(*names)
    chain = b"".join(link.bytes() for link in certificate.cert_chain_pems)
    return chain, certificate.private_key_pem.bytes()


def client_context(ca: trustme.CA) -> ssl.SSLContext:
    """Return a TLS context for clients that trusts `ca` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    return context


def server_context(ca: trustme.CA, *names: str, protocols: Sequence[str] = ()) -> ssl.SSLContext:
    """Return a TLS context for a server, with a new certificate for `names`.

    Args:
        ca: Issues the certificate.
        *names: The host names and addresses in it.
        protocols: The application protocols to agree on (ALPN); none leaves them open.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
