"""The private key of a service account, parsed so that the event loop never waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aio_authgrpc._sources.files.kind import CredentialInfo

if TYPE_CHECKING:
    from google.auth.crypt import RSASigner


def signer_of(info: CredentialInfo) -> RSASigner:
    """Return what signs with the key of a file; a ConfigurationError where it is none. In a thread."""
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415 - 25 ms, in a thread
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - as above
    from google.auth.crypt import RSASigner  # noqa: PLC0415 - as above

    try:
        # The full check of the primes holds the GIL for 27 ms, and the loop with it. It guards against
        # keys made by an adversary; a damaged one is found by the signature below, in 0.3 ms.
        key = load_pem_private_key(
            str(info.fields["private_key"]).encode(), password=None, unsafe_skip_rsa_key_validation=True
        )
        if isinstance(key, rsa.RSAPrivateKey):
            key.public_key().verify(
                key.sign(b"", padding.PKCS1v15(), SHA256()), b"", padding.PKCS1v15(), SHA256()
            )
    except Exception:  # noqa: BLE001 - OpenSSL's errors have no common base, and may quote the key
        key = None
    if isinstance(key, rsa.RSAPrivateKey):
        return RSASigner(key, info.text("private_key_id"))
    # Outside of the handler: no context that may quote the key.
    raise info.error(
        "holds no usable RSA key in PEM form: it is truncated or damaged (are its line ends '\\n'?)",
        field="private_key",
    )
