"""Certificates and keys as PEM: read from files, decrypted, and checked against each other.

Everything here blocks (files, cryptography's import): it is for worker threads.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from google.auth.exceptions import ClientCertError

from aio_authgrpc.errors import ClientCertificateError, ConfigurationError, check_type

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

StrPath = str | os.PathLike[str]
CertificatePair = tuple[bytes, bytes]
"""A certificate chain, the leaf first, and its private key, both PEM."""

# A chain has a few thousand bytes. A device or a pipe that was named by mistake may never end.
_MAX_FILE_BYTES = 1024 * 1024


def client_certificate_files(
    cert_path: StrPath, key_path: StrPath | None = None, *, passphrase: str | bytes | None = None
) -> Callable[[], CertificatePair]:
    """Take the client's certificate from files: what `client_cert_callback=` is given for mutual TLS.

    The files are read when the channel is opened, and again from time to time; what is new in them is
    used for the RPCs that follow. It may be passed to google-auth as well, which reads them once.

    Args:
        cert_path: The certificate chain, PEM, the client's own certificate first.
        key_path: Its private key, PEM; None means that it is in `cert_path` too.
        passphrase: What the key is encrypted with.

    Returns:
        A function that reads the files and returns the chain and the key, decrypted. It raises
        `ClientCertificateError`, which names the file.

    Raises:
        ConfigurationError: An argument has the wrong type.
    """
    check_type("cert_path", cert_path, str, os.PathLike)
    check_type("key_path", key_path, str, os.PathLike, type(None))
    check_type("passphrase", passphrase, str, bytes, type(None))
    password = passphrase.encode() if isinstance(passphrase, str) else passphrase
    return _CertificateFiles(Path(cert_path), Path(cert_path if key_path is None else key_path), password)


class _CertificateFiles:
    """What `client_certificate_files()` returns; it shows its passphrase in no `repr`."""

    def __init__(self, cert_path: Path, key_path: Path, passphrase: bytes | None) -> None:
        self._cert_path = cert_path
        self._key_path = key_path
        self._passphrase = passphrase

    def __call__(self) -> CertificatePair:
        try:
            chain, key = read_file(self._cert_path), read_file(self._key_path)
            return checked_pair(
                chain,
                key,
                passphrase=self._passphrase,
                cert_name=str(self._cert_path),
                key_name=str(self._key_path),
            )
        except (ClientCertError, OSError) as error:
            raise ClientCertificateError(problem(error), field="client_cert_callback") from error

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("Certificate files are not pickled: the passphrase would be in the pickle.")

    def __repr__(self) -> str:
        return f"client_certificate_files({str(self._cert_path)!r}, {str(self._key_path)!r})"


def problem(error: Exception) -> str:
    """Say what went wrong with a file or a pair, without a secret."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read ({error.strerror})."
    return f"{error.args[0] if error.args else type(error).__name__}"


def read_file(path: Path) -> bytes:
    """Return what is in a regular file.

    Raises:
        OSError: It cannot be read.
        ClientCertError: It is empty, or no file.
    """
    if not path.is_file() and path.exists():
        raise ClientCertError(f"{path} is no regular file.")
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES)
    if not data.strip():
        raise ClientCertError(f"{path} is empty.")
    return data


def checked_pair(
    chain: bytes,
    key: bytes,
    *,
    passphrase: bytes | None = None,
    cert_name: str = "the certificate",
    key_name: str = "the private key",
) -> CertificatePair:
    """Return a chain and its key, decrypted, after a look at whether they belong together.

    gRPC would tell of each mistake by "Failed to create security handshaker", at every RPC.

    Raises:
        ClientCertError: One of them is no PEM, the key is encrypted, or is another certificate's.
    """
    from cryptography import x509  # noqa: PLC0415 - 25 ms, and in a worker thread
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - see above

    try:
        certificate = x509.load_pem_x509_certificate(chain)
    except ValueError as error:
        raise ClientCertError(f"{cert_name} holds no certificate as PEM.") from error
    private_key = _load_key(key, passphrase, key_name)
    encoding = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        public_key = certificate.public_key().public_bytes(*encoding)
    except UnsupportedAlgorithm:
        return chain, key  # newer than cryptography; gRPC may know it
    if private_key.public_key().public_bytes(*encoding) != public_key:
        raise ClientCertError(f"{key_name} is not the key of {_certificate_of(cert_name, key_name)}.")
    if passphrase is None:
        return chain, key
    return chain, private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate_of(cert_name: str, key_name: str) -> str:
    return "the certificate beside it" if cert_name == key_name else cert_name


def _load_key(key: bytes, passphrase: bytes | None, name: str) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see checked_pair
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    if passphrase is not None and b"ENCRYPTED" not in key:
        passphrase = None  # the key in the file may be in the clear: then there is nothing to open
    try:
        # The check of an RSA key's primes holds the GIL, and so the loop, for 27 ms.
        return load_pem_private_key(key, passphrase, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:  # cryptography's way to ask for a password
        raise ClientCertError(
            f"{name} is encrypted: pass its passphrase, as client_certificate_files(..., passphrase=...)."
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = "the passphrase does not open it" if passphrase else "it holds no private key as PEM"
        raise ClientCertError(f"{name} cannot be used: {reason}.") from error


def root_certificates_pem(root_certificates: StrPath | bytes) -> bytes:
    """Return certificate authorities as PEM, from a file if it is a path.

    Raises:
        ConfigurationError: There is none in it; the file is named.
    """
    name = "what was passed" if isinstance(root_certificates, bytes) else str(Path(root_certificates))
    try:
        pem = (
            root_certificates if isinstance(root_certificates, bytes) else read_file(Path(root_certificates))
        )
        # OpenSSL reads what BoringSSL, which is in gRPC, reads. Text between certificates may be in any
        # encoding.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=pem.decode("ascii", errors="ignore")
        )
    except ssl.SSLError as error:
        raise ConfigurationError(f"{name} holds no certificate as PEM.", field="root_certificates") from error
    except (OSError, ClientCertError, ValueError) as error:
        raise ConfigurationError(problem(error), field="root_certificates") from error
    return pem
