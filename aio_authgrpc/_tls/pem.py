"""Certificates and keys as PEM: read from files, decrypted, and checked against each other.

Everything here blocks (files, cryptography's import): it is for worker threads.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from google.auth.exceptions import ClientCertError

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.pickling import NotPickled
from aio_authgrpc.errors import ClientCertificateError, ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

StrPath = str | os.PathLike[str]
CertificatePair = tuple[bytes, bytes]
"""A certificate chain, the leaf first, and its private key, both PEM."""

# A chain has a few thousand bytes. A device or a pipe that was named by mistake may never end.
_MAX_FILE_BYTES = 1024 * 1024
# The authorities of a whole system have some 250 000 bytes, and organizations add theirs.
_MAX_ROOTS_BYTES = 16 * 1024 * 1024
_MARKER = re.compile(rb"-----(BEGIN|END) ([^-\n]*)-----")
_MARKER_BEGUN = re.compile(rb"-----(?:BEGIN|END)\b")
_KEY_BEGUN = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


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


class _CertificateFiles(NotPickled):
    """What `client_certificate_files()` returns; it shows its passphrase in no `repr`."""

    def __init__(self, cert_path: Path, key_path: Path, passphrase: bytes | None) -> None:
        self._cert_path = cert_path
        self._key_path = key_path
        self._passphrase = passphrase
        self._last: tuple[CertificatePair, CertificatePair] | None = None  # what was read, what it made

    def __call__(self) -> CertificatePair:
        try:
            read = (read_file(self._cert_path), read_file(self._key_path))
            last = self._last
            if last is not None and last[0] == read:
                return last[1]  # opening an encrypted key holds the GIL, and so the loop, for up to 0.3 s
            made = checked_pair(
                *read,
                passphrase=self._passphrase,
                cert_name=str(self._cert_path),
                key_name=str(self._key_path),
            )
            self._last = (read, made)
            return made
        except (ClientCertError, OSError) as error:
            raise ClientCertificateError(problem(error), field="client_cert_callback") from error

    def __repr__(self) -> str:
        return f"client_certificate_files({str(self._cert_path)!r}, {str(self._key_path)!r})"


def problem(error: Exception) -> str:
    """Say what went wrong with a file or a pair, without a secret."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read ({error.strerror})."
    return f"{error.args[0] if error.args else type(error).__name__}"


def read_file(path: Path, *, limit: int = _MAX_FILE_BYTES) -> bytes:
    """Return what is in a regular file of `limit` bytes at most.

    Raises:
        OSError: It cannot be read.
        ClientCertError: It is empty, larger, or no file.
    """
    if "\0" in str(path):
        raise ClientCertError(f"{str(path)!r} is no path.")
    if not path.is_file() and path.exists():
        raise ClientCertError(f"{path} is no regular file.")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ClientCertError(f"{path} is larger than {limit // 1024 // 1024} MiB.")
    if not data.strip():
        raise ClientCertError(f"{path} is empty.")
    return data


def check_whole(pem: bytes, name: str) -> None:
    """Refuse PEM that ends within a block: whoever writes it may not be done, and parsers leave it out.

    Raises:
        ClientCertError: A block has a beginning and no end, or the reverse.
    """
    markers: list[tuple[bytes, bytes]] = _MARKER.findall(pem)
    begins, ends = markers[::2], markers[1::2]
    paired = [(b"END", label) for _, label in begins] == ends and all(word == b"BEGIN" for word, _ in begins)
    last_line = pem.rstrip().rpartition(b"\n")[2]
    cut_off = last_line != b"" and b"-----BEGIN ".startswith(last_line)
    if not paired or cut_off or len(markers) != len(_MARKER_BEGUN.findall(pem)):
        raise ClientCertError(f"{name} holds part of a PEM block: it may be half written.")


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
        ClientCertError: One of them is no PEM or part of it, the key is encrypted, or is another
            certificate's.
    """
    try:
        return _checked_pair(chain, key, passphrase, cert_name, key_name)
    except ClientCertError:
        raise
    except Exception as error:  # what cryptography raises for odd certificates and keys is no fixed list
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
        return chain, key  # newer than cryptography; gRPC may know it
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

    if len(_KEY_BEGUN.findall(key)) > 1:
        raise ClientCertError(f"{name} holds more than one private key.")
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
            root_certificates
            if isinstance(root_certificates, bytes)
            else read_file(Path(root_certificates), limit=_MAX_ROOTS_BYTES)
        )
        check_whole(pem, name)
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
