"""Certificates and keys: read from files, decrypted, and checked against each other.

Everything here blocks (files, cryptography's import, decrypting), so it runs in worker threads.
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
from aio_authgrpc._checks.files import hint_for_unreadable, is_pkcs12
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._checks.secrets import is_secret, shown
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc.errors import ClientCertificateError, ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

StrPath = str | os.PathLike[str]

CertificatePair = tuple[bytes, bytes]
"""A certificate chain, the leaf first, and its private key, both PEM."""

# A chain has a few thousand bytes. A device or a pipe named by mistake may never end.
_MAX_FILE_BYTES = 1024 * 1024
# A system's authorities have some 250 000 bytes, and organizations add their own.
_MAX_ROOTS_BYTES = 16 * 1024 * 1024
# Patterns are compiled at their first use, not at import.
_MARKER = rb"-----(BEGIN|END) ([^-\n]*)-----"
_MARKER_BEGIN = b"-----BEGIN "
_MARKER_BEGUN = rb"-----(?:BEGIN|END)\b"
_KEY_BEGUN = rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"


@hiding_arguments
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
    check_path("cert_path", cert_path)
    check_path("key_path", key_path)
    try:
        password = passphrase.encode() if isinstance(passphrase, str) else passphrase
    except UnicodeEncodeError:
        password = None
    if password is None and passphrase is not None:  # outside of the handler: that error holds it
        raise ConfigurationError("it has half a surrogate pair.", field="passphrase")
    return _CertificateFiles(Path(cert_path), Path(cert_path if key_path is None else key_path), password)


class _CertificateFiles(NotPickled):
    """Reads two files. Neither `repr` nor `vars()` shows the passphrase, or the key."""

    __slots__ = ("__weakref__", "_last", "_passphrase", "_paths")

    def __init__(self, cert_path: Path, key_path: Path, passphrase: bytes | None) -> None:
        self._paths = (cert_path, key_path)
        self._passphrase = passphrase
        # The files' contents, and their pair.
        self._last: tuple[CertificatePair, CertificatePair] | None = None

    @hiding_arguments
    def __call__(self) -> CertificatePair:
        cert_path, key_path = self._paths
        try:
            read = (read_file(cert_path), read_file(key_path))
            last = self._last
            if last is not None and last[0] == read:
                return last[1]  # decrypting a key holds the GIL, and so the loop, for up to 0.3 s
            made = checked_pair(*read, shown(cert_path), shown(key_path), passphrase=self._passphrase)
        except (ClientCertError, OSError) as error:
            raise ClientCertificateError(
                problem(error), field="client_certificate", hint=hint_of(error)
            ) from error
        self._last = (read, made)
        return made

    def __repr__(self) -> str:
        return f"client_certificate_files({', '.join(repr(shown(path)) for path in self._paths)})"


def check_path(field: str, given: object) -> None:
    """Refuse the content of a file, or another secret, in the place of its path."""
    if isinstance(given, str) and is_secret(given):
        raise ConfigurationError(
            "expected a path, and this is the content of a file, or a secret.",
            field=field,
            hint="Certificates as bytes are for root_certificates, and for the result of a function.",
        )


class CertificateError(ClientCertError):
    """google-auth's error for a certificate or a key, and what to do about it."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)  # type: ignore[no-untyped-call]  # google-auth is typed in parts
        self.hint = hint


def hint_of(error: Exception) -> str:
    """Say what to do about a file or a pair; "" where nothing helps that the text does not say."""
    if isinstance(error, OSError) and error.filename is not None:
        return hint_for_unreadable(Path(error.filename), error)
    return error.hint if isinstance(error, CertificateError) else ""


def problem(error: Exception) -> str:
    """Say what is wrong with a file or a pair, without a secret."""
    if isinstance(error, OSError) and error.filename is not None:
        error.filename = shown(error.filename)  # it becomes the cause
        return f"{error.filename} cannot be read ({error.strerror})."
    return f"{error.args[0] if error.args else type(error).__name__}"


def read_file(path: Path, *, limit: int = _MAX_FILE_BYTES) -> bytes:
    """Return the content of a regular file that is not empty and has no more than `limit` bytes."""
    if "\0" in str(path):
        raise ClientCertError(f"{shown(path)!r} is not a path.")
    if not path.is_file() and path.exists():
        raise CertificateError(f"{path} is not a regular file.", "Name a file, not a directory or a pipe.")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ClientCertError(f"{path} is larger than {limit // 1024 // 1024} MiB.")
    if not data.strip():
        raise ClientCertError(f"{path} is empty.")
    return data


def root_certificates_pem(given: StrPath | bytes) -> bytes:
    """Return certificate authorities as PEM, from a file if it is a path."""
    name = "the passed PEM" if isinstance(given, bytes) else shown(Path(given))
    try:
        pem = given if isinstance(given, bytes) else read_file(Path(given), limit=_MAX_ROOTS_BYTES)
        _refuse_binary(pem, name)
        check_whole(pem, name)
        # OpenSSL reads what gRPC's BoringSSL reads. Text between certificates may be in any encoding.
        text = pem.decode("ascii", errors="ignore")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{name} holds no certificate as PEM.",
            field="root_certificates",
            hint="Pass the certificate of the authority that certified the server.",
        ) from error
    except (OSError, ClientCertError, ValueError) as error:
        raise ConfigurationError(problem(error), field="root_certificates", hint=hint_of(error)) from error
    return pem


def check_whole(pem: bytes, name: str) -> None:
    """Refuse PEM that ends within a block: parsers would ignore the rest of a half-written file."""
    markers: list[tuple[bytes, bytes]] = re.findall(_MARKER, pem)
    begins, ends = markers[::2], markers[1::2]
    paired = [(b"END", label) for _, label in begins] == ends and all(word == b"BEGIN" for word, _ in begins)
    last_line = pem.rstrip().rpartition(b"\n")[2]
    cut_off = last_line != b"" and b"-----BEGIN ".startswith(last_line)
    if not paired or cut_off or len(markers) != len(re.findall(_MARKER_BEGUN, pem)):
        text = f"{name} holds part of a PEM block: it may be half written."
        raise CertificateError(text, "Write another file and rename it, so that it is there at once.")


def checked_pair(
    chain: bytes, key: bytes, cert_name: str, key_name: str, *, passphrase: bytes | None = None
) -> CertificatePair:
    """Return a chain and its decrypted key, checked against each other: gRPC names no mistake in them."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - 25 ms, in a worker thread
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - see above

        certificate = _load_chain(chain, cert_name)[0]
        private_key = _load_key(key, passphrase, key_name)
        encoding = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        try:
            public_key = certificate.public_key().public_bytes(*encoding)
        except UnsupportedAlgorithm:
            return chain, key  # newer than cryptography; gRPC may support it
        if private_key.public_key().public_bytes(*encoding) != public_key:
            beside = "the certificate beside it" if cert_name == key_name else cert_name
            text = f"{key_name} is not the key of {beside}."
            raise CertificateError(text, "Pass the key that the certificate was issued for.")
        if passphrase is None:
            return chain, key
        return chain, private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    except ClientCertError:
        raise
    except Exception as error:  # cryptography raises many kinds for odd certificates and keys
        text = f"{cert_name} or {key_name} cannot be used: {type(error).__name__}."
        raise ClientCertError(text) from error


def _refuse_binary(content: bytes, name: str) -> None:
    if content.startswith(b"0") and _MARKER_BEGIN not in content:
        form = "PKCS12" if is_pkcs12(content) else "DER"
        raise CertificateError(
            f"{name} is in {form} form, not in PEM.",
            "Convert it with openssl, such as 'openssl pkcs12 -in client.p12 -out client.pem -nodes'.",
        )


def _load_chain(chain: bytes, name: str) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - see checked_pair

    _refuse_binary(chain, name)
    check_whole(chain, name)
    try:
        return load_pem_x509_certificates(chain)
    except Exception as error:
        there = b"CERTIFICATE-----" in chain
        held = "a certificate that cannot be read" if there else "no certificate as PEM"
        raise ClientCertError(f"{name} holds {held}.") from error


def _load_key(key: bytes, passphrase: bytes | None, name: str) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see checked_pair
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - 25 ms, and in a worker thread

    _refuse_binary(key, name)
    if len(re.findall(_KEY_BEGUN, key)) > 1:
        raise CertificateError(
            f"{name} holds more than one private key.", "Leave only the client's own in it."
        )
    if passphrase is not None and b"ENCRYPTED" not in key:
        passphrase = None  # cryptography refuses a passphrase for a key that is not encrypted
    try:
        # Checking an RSA key's primes holds the GIL, and so the loop, for 27 ms.
        return load_pem_private_key(key, passphrase, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:  # cryptography's way to ask for a password
        hint = "Pass client_certificate_files(..., passphrase=...)."
        raise CertificateError(f"{name} is encrypted.", hint) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = "the passphrase does not open it" if passphrase else "it holds no private key as PEM"
        raise ClientCertError(f"{name} cannot be used: {reason}.") from error
