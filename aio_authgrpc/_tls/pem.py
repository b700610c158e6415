"""Certificates and keys as PEM: decrypted, and checked against each other.

Everything here blocks (cryptography's import, decrypting), so it runs in worker threads.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from google.auth.exceptions import ClientCertError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

CertificatePair = tuple[bytes, bytes]
"""A certificate chain, the leaf first, and its private key, both PEM."""

# Patterns are compiled at their first use, not at import.
_MARKER = rb"-----(BEGIN|END) ([^-\n]*)-----"
_MARKER_BEGUN = rb"-----(?:BEGIN|END)\b"
_KEY_BEGUN = rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"


def check_whole(pem: bytes, name: str) -> None:
    """Refuse PEM that ends within a block: parsers would ignore the rest of a half-written file.

    Raises:
        ClientCertError: A block has a beginning and no end, or the reverse.
    """
    markers: list[tuple[bytes, bytes]] = re.findall(_MARKER, pem)
    begins, ends = markers[::2], markers[1::2]
    paired = [(b"END", label) for _, label in begins] == ends and all(word == b"BEGIN" for word, _ in begins)
    last_line = pem.rstrip().rpartition(b"\n")[2]
    cut_off = last_line != b"" and b"-----BEGIN ".startswith(last_line)
    if not paired or cut_off or len(markers) != len(re.findall(_MARKER_BEGUN, pem)):
        raise ClientCertError(f"{name} holds part of a PEM block: it may be half written.")


def checked_pair(
    chain: bytes,
    key: bytes,
    *,
    passphrase: bytes | None = None,
    cert_name: str = "the certificate",
    key_name: str = "the private key",
) -> CertificatePair:
    """Return a chain and its decrypted key, checked against each other.

    gRPC reports each mistake as "Failed to create security handshaker", at every RPC.

    Raises:
        ClientCertError: One of them is not PEM or is cut off, or the key is encrypted or belongs to
            another certificate.
    """
    try:
        return _checked_pair(chain, key, passphrase, cert_name, key_name)
    except ClientCertError:
        raise
    except Exception as error:  # cryptography raises many kinds for odd certificates and keys
        text = f"{cert_name} or {key_name} cannot be used: {type(error).__name__}."
        raise ClientCertError(text) from error


def _checked_pair(
    chain: bytes, key: bytes, passphrase: bytes | None, cert_name: str, key_name: str
) -> CertificatePair:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - 25 ms, and in a worker thread
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - see above

    certificate = _load_chain(chain, cert_name)[0]
    private_key = _load_key(key, passphrase, key_name)
    encoding = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        public_key = certificate.public_key().public_bytes(*encoding)
    except UnsupportedAlgorithm:
        return chain, key  # newer than cryptography; gRPC may support it
    if private_key.public_key().public_bytes(*encoding) != public_key:
        raise ClientCertError(f"{key_name} is not the key of {_certificate_of(cert_name, key_name)}.")
    if passphrase is None:
        return chain, key
    return chain, private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_chain(chain: bytes, name: str) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - see _checked_pair

    check_whole(chain, name)
    try:
        return load_pem_x509_certificates(chain)
    except Exception as error:
        held = (
            "a certificate that cannot be read" if b"CERTIFICATE-----" in chain else "no certificate as PEM"
        )
        raise ClientCertError(f"{name} holds {held}.") from error


def _certificate_of(cert_name: str, key_name: str) -> str:
    return "the certificate beside it" if cert_name == key_name else cert_name


def _load_key(key: bytes, passphrase: bytes | None, name: str) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see _checked_pair
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    if len(re.findall(_KEY_BEGUN, key)) > 1:
        raise ClientCertError(f"{name} holds more than one private key.")
    if passphrase is not None and b"ENCRYPTED" not in key:
        passphrase = None  # cryptography refuses a passphrase for a key that is not encrypted
    try:
        # Checking an RSA key's primes holds the GIL, and so the loop, for 27 ms.
        return load_pem_private_key(key, passphrase, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:  # cryptography's way to ask for a password
        raise ClientCertError(
            f"{name} is encrypted: pass client_certificate_files(..., passphrase=...)."
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = "the passphrase does not open it" if passphrase else "it holds no private key as PEM"
        raise ClientCertError(f"{name} cannot be used: {reason}.") from error
