"""Certificates and keys in files.

Everything here blocks, so it runs in worker threads.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

from google.auth.exceptions import ClientCertError

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.pickling import NotPickled
from aio_authgrpc._tls.pem import CertificatePair, check_whole, checked_pair
from aio_authgrpc.errors import ClientCertificateError, ConfigurationError

StrPath = str | os.PathLike[str]

# A chain has a few thousand bytes. A device or a pipe named by mistake may never end.
_MAX_FILE_BYTES = 1024 * 1024
# A system's authorities have some 250 000 bytes, and organizations add their own.
_MAX_ROOTS_BYTES = 16 * 1024 * 1024


def client_certificate_files(
    cert_path: StrPath, key_path: StrPath | None = None, *, passphrase: str | bytes | None = None
) -> Callable[[], CertificatePair]:
    """Take the client's certificate from files, for mutual TLS: `SslCredentials(client_certificate=...)`.

    The files are read when a channel is opened, and again after each `refresh_interval`. google-auth's
    `client_cert_callback=` takes the function, too, and reads the files once.

    Args:
        cert_path: The certificate chain, PEM, the client's own certificate first.
        key_path: Its private key, PEM; None means that the key is in `cert_path`, too.
        passphrase: Opens the key if it is encrypted.

    Returns:
        A function that reads the files and returns the chain and the decrypted key. It raises
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
    """Reads two files; the passphrase is not in the `repr`."""

    def __init__(self, cert_path: Path, key_path: Path, passphrase: bytes | None) -> None:
        self._cert_path = cert_path
        self._key_path = key_path
        self._passphrase = passphrase
        self._last: tuple[CertificatePair, CertificatePair] | None = (
            None  # the files' contents, and their pair
        )

    def __call__(self) -> CertificatePair:
        try:
            read = (read_file(self._cert_path), read_file(self._key_path))
            last = self._last
            if last is not None and last[0] == read:
                return last[1]  # decrypting a key holds the GIL, and so the loop, for up to 0.3 s
            made = checked_pair(
                *read,
                passphrase=self._passphrase,
                cert_name=str(self._cert_path),
                key_name=str(self._key_path),
            )
            self._last = (read, made)
            return made
        except (ClientCertError, OSError) as error:
            raise ClientCertificateError(problem(error), field="client_certificate") from error

    def __repr__(self) -> str:
        return f"client_certificate_files({str(self._cert_path)!r}, {str(self._key_path)!r})"


def problem(error: Exception) -> str:
    """Say what is wrong with a file or a pair, without a secret."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read ({error.strerror})."
    return f"{error.args[0] if error.args else type(error).__name__}"


def read_file(path: Path, *, limit: int = _MAX_FILE_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: The file cannot be read.
        ClientCertError: It is empty, has more than `limit` bytes, or is not a regular file.
    """
    if "\0" in str(path):
        raise ClientCertError(f"{str(path)!r} is not a path.")
    if not path.is_file() and path.exists():
        raise ClientCertError(f"{path} is not a regular file.")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ClientCertError(f"{path} is larger than {limit // 1024 // 1024} MiB.")
    if not data.strip():
        raise ClientCertError(f"{path} is empty.")
    return data


def root_certificates_pem(root_certificates: StrPath | bytes) -> bytes:
    """Return certificate authorities as PEM, from a file if it is a path.

    Raises:
        ConfigurationError: There is no certificate in it; the message names the file.
    """
    name = "the passed PEM" if isinstance(root_certificates, bytes) else str(Path(root_certificates))
    try:
        pem = (
            root_certificates
            if isinstance(root_certificates, bytes)
            else read_file(Path(root_certificates), limit=_MAX_ROOTS_BYTES)
        )
        check_whole(pem, name)
        # OpenSSL reads what gRPC's BoringSSL reads. Text between certificates may be in any encoding.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=pem.decode("ascii", errors="ignore")
        )
    except ssl.SSLError as error:
        raise ConfigurationError(f"{name} holds no certificate as PEM.", field="root_certificates") from error
    except (OSError, ClientCertError, ValueError) as error:
        raise ConfigurationError(problem(error), field="root_certificates") from error
    return pem
