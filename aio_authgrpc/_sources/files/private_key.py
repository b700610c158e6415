"""The private key of a service account, parsed so that the event loop never waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aio_authgrpc._checks.pickling import NotPickled
from aio_authgrpc._loop.threads import import_off_loop, run_in_thread
from aio_authgrpc._sources.files.content import CredentialInfo, InfoLoader

if TYPE_CHECKING:
    from google.auth.crypt import RSASigner

# 25–50 ms that would otherwise be spent on the loop, at the first use.
HEAVY_MODULES = ("google.oauth2.service_account", "google.auth.crypt", "google.auth.jwt")


class ServiceAccountKey(NotPickled):
    """The fields of a service account key file that are used here, and its signer. Shows no secret.

    Args:
        info: The file's content.

    Raises:
        ConfigurationError: The private key is not usable.
    """

    def __init__(self, info: CredentialInfo) -> None:
        self.email = str(info.fields["client_email"])
        self.token_uri = str(info.fields["token_uri"])
        self.project_id = info.text("project_id")
        self.universe_domain = info.text("universe_domain") or "googleapis.com"
        self.signer = _make_signer(info)


class KeyLoader:
    """Reads and parses a key once, off the loop.

    Args:
        loader: Has the content of the key file, or its path.
    """

    def __init__(self, loader: InfoLoader) -> None:
        self._loader = loader
        self._key: ServiceAccountKey | None = None

    async def load(self) -> ServiceAccountKey:
        """Return the key, read at the first call. Cancelling it leaves nothing behind.

        Raises:
            ConfigurationError: It cannot be used.
        """
        if self._key is None:
            await import_off_loop(*HEAVY_MODULES)
            self._key = await run_in_thread(lambda: ServiceAccountKey(self._loader.read()))
        return self._key

    def __repr__(self) -> str:
        return repr(self._loader)


def _make_signer(info: CredentialInfo) -> RSASigner:
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415 - loaded off the loop
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - loaded off the loop
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
