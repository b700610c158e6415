"""Service accounts from a key file or its content: the JWT-bearer exchange, and self-signed access."""

from __future__ import annotations

import json
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from aio_authgrpc.errors import ConfigurationError
from aio_authgrpc.http import import_off_loop, run_in_thread
from aio_authgrpc.sources.google_auth import GoogleCredentialsSource, checked_scopes
from aio_authgrpc.target import is_loopback
from aio_authgrpc.token import Token, TokenRequest

if TYPE_CHECKING:
    from google.auth.crypt import RSASigner

FileOrInfo = str | os.PathLike[str] | Mapping[str, object]
"""A path, the JSON text itself, or the dict that it holds."""

# A key file has 2 400 bytes; what is far larger is another file.
_MAX_FILE_BYTES = 256 * 1024
# 25–50 ms that would otherwise be spent on the loop, at the first use.
_HEAVY_MODULES = ("google.oauth2.service_account", "google.auth.crypt", "google.auth.jwt")


class ServiceAccountKey:
    """The fields of a service account key file that are used here, checked. Shows no secret.

    Args:
        info: The file's content.
        signer: Signs with the private key and puts its `kid` into the header.
    """

    def __init__(self, info: Mapping[str, object], signer: RSASigner) -> None:
        self.email = str(info["client_email"])
        self.token_uri = str(info["token_uri"])
        self.project_id = _optional(info, "project_id")
        self.universe_domain = _optional(info, "universe_domain") or "googleapis.com"
        self.signer = signer


class KeyLoader:
    """Reads a key once: the structure of what is in memory at once, a file and the key off the loop.

    Args:
        file_or_info: A path, the JSON text, or its dict.

    Raises:
        ConfigurationError: A dict or JSON text is malformed. For a file, `load` raises it.
    """

    def __init__(self, file_or_info: FileOrInfo) -> None:
        self._path: Path | None = None
        self._info: Mapping[str, object] | None = None
        self._key: ServiceAccountKey | None = None
        given: object = file_or_info
        if isinstance(given, Mapping):
            self._info = _checked_fields(given, _INFO_ORIGIN)
        elif isinstance(given, str) and given.lstrip().startswith("{"):
            self._info = _checked_fields(_parse(given, _INFO_ORIGIN), _INFO_ORIGIN)
        elif isinstance(given, str | os.PathLike) and os.fspath(given):
            self._path = Path(given)
        else:
            kind = "an empty str" if given == "" else type(given).__name__
            raise ConfigurationError(
                f"expected a path, JSON text or a dict, not {kind}.", field="file_or_info"
            )

    async def load(self) -> ServiceAccountKey:
        """Return the key, read off the loop at the first call. Cancelling it leaves nothing behind."""
        if self._key is None:
            await import_off_loop(*_HEAVY_MODULES)
            self._key = await run_in_thread(self._read)
            self._info = None
        return self._key

    def _read(self) -> ServiceAccountKey:
        if self._path is None:
            assert self._info is not None, "it is kept until the key is made"
            return _make_key(self._info, _INFO_ORIGIN)
        origin = str(self._path)
        return _make_key(_checked_fields(_parse(_read_file(self._path), origin), origin), origin)

    def __repr__(self) -> str:
        return "..." if self._path is None else repr(str(self._path))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A service account source is not pickled: it would put the private key into the pickle."
        )


class ServiceAccountSource:
    """What `service_account()` returns: google-auth's credential, made from the key when it is loaded."""

    def __init__(
        self,
        loader: KeyLoader,
        *,
        scopes: tuple[str, ...],
        subject: str | None,
        self_signed: bool,
        quota_project_id: str | None,
    ) -> None:
        self._loader = loader
        self._scopes = scopes
        self._subject = subject
        self._self_signed = self_signed
        self._quota_project_id = quota_project_id
        self._source: GoogleCredentialsSource | None = None

    async def load(self, request: TokenRequest) -> None:
        """Read and check the key.

        Raises:
            ConfigurationError: The file cannot be used; it names the path and the field.
        """
        if self._self_signed and not self._scopes:
            check_audience(request.audience)
        if self._source is None:
            key = await self._loader.load()
            from google.oauth2 import service_account as google_service_account  # noqa: PLC0415 - now loaded

            self._source = GoogleCredentialsSource(
                google_service_account.Credentials(
                    key.signer,
                    service_account_email=key.email,
                    token_uri=key.token_uri,
                    scopes=self._scopes,
                    subject=self._subject,
                    project_id=key.project_id,
                    quota_project_id=self._quota_project_id,
                    universe_domain=key.universe_domain,
                    always_use_jwt_access=self._self_signed,
                ),
                sign_without_scopes=self._self_signed,
            )

    async def fetch(self, request: TokenRequest) -> Token:
        """Return an access token, exchanged or self-signed."""
        await self.load(request)
        assert self._source is not None, "load() sets it or raises"
        return await self._source.fetch(request)

    def __repr__(self) -> str:
        return f"service_account({self._loader!r})"


def service_account(
    file_or_info: FileOrInfo,
    *,
    scopes: Sequence[str] | None = None,
    subject: str | None = None,
    self_signed: bool | None = None,
    quota_project_id: str | None = None,
) -> ServiceAccountSource:
    """Act as a service account, from its key file (seeds 001 and 003).

    With scopes, a signed assertion is exchanged for an access token at the file's `token_uri`
    (RFC 7523). Without, a JWT for `https://<host>/` is signed here and used as it is
    (https://google.aip.dev/auth/4111), which needs no request at all.

    Args:
        file_or_info: The path of the JSON key file, its text, or its dict. A file is read when the
            channel is opened, off the loop; text and dict are checked at once.
        scopes: OAuth 2.0 scopes.
        subject: The user to act for, with domain-wide delegation.
        self_signed: False exchanges even without scopes; True signs even with scopes, which then
            become a claim; None decides as said above.
        quota_project_id: The project that pays, sent as `x-goog-user-project`.

    Raises:
        ConfigurationError: The arguments, or what is in memory, cannot be used. What is wrong with a
            file shows when the channel is opened. It is never replaced by another identity.
    """
    signs = not scopes and subject is None if self_signed is None else self_signed
    if signs and subject is not None:
        raise ConfigurationError("a self-signed JWT cannot act for another.", field="subject")
    return ServiceAccountSource(
        KeyLoader(file_or_info),
        scopes=checked_scopes(scopes),
        subject=subject,
        self_signed=signs,
        quota_project_id=quota_project_id,
    )


def check_audience(audience: str) -> None:
    """Refuse to sign for nobody.

    Raises:
        ConfigurationError: There is no audience: the target has no host name.
    """
    if not audience:
        raise ConfigurationError(
            "the target has no host to make one from.", field="audience", hint="Pass audience='https://...'."
        )


_INFO_ORIGIN = "service account info"


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"{path} cannot be read: {reason}.",
            field="file_or_info",
            hint=f"Relative paths start at {Path.cwd()}; '~' is not expanded.",
        ) from error
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigurationError(f"{path} is too large for a key file.", field="file_or_info")
    try:
        return content.decode()
    except UnicodeDecodeError:
        pass
    # Outside of the handler: that error holds the content.
    raise ConfigurationError(f"{path} is not UTF-8 text.", field="file_or_info", hint=_NEEDS_JSON)


def _parse(text: str, origin: str) -> Mapping[str, object]:
    if not text.strip():
        raise ConfigurationError(f"{origin} is empty.", field="file_or_info", hint=_NEEDS_JSON)
    try:
        info = json.loads(text)
    except ValueError as error:
        where = (
            f"line {error.lineno} column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else "a number"
        )
    except RecursionError:
        where = "nesting"
    else:
        if isinstance(info, dict):
            return cast("dict[str, object]", info)
        where = f"a {type(info).__name__} at the top, not an object"
    # Outside of the handler: the JSON error holds the whole text, and with it the key.
    raise ConfigurationError(
        f"{origin} is malformed or truncated JSON ({where}).", field="file_or_info", hint=_NEEDS_JSON
    )


_NEEDS_JSON = "It must be the JSON key of a service account; create a new one if in doubt."


def _checked_fields(info: Mapping[str, object], origin: str) -> Mapping[str, object]:
    kind = info.get("type")
    if kind != "service_account":
        problem = (
            "lacks it"
            if kind is None
            else f"has {json.dumps(kind)[:60]}"
            if isinstance(kind, str)
            else "has no text"
        )
        raise ConfigurationError(
            f'{origin} {problem}; "service_account" is what is read here.',
            field="type",
            hint="For another kind of credential pass google-auth's object, or None for the default ones.",
        )
    for name in ("client_email", "private_key", "token_uri"):
        value = info.get(name)
        if not isinstance(value, str) or not value:
            problem = (
                "lacks it" if value is None else f"has a {type(value).__name__}" if value else "has it empty"
            )
            raise ConfigurationError(f"{origin} {problem}.", field=name, hint=_NEEDS_JSON)
    for name in ("private_key_id", "project_id", "universe_domain"):
        if not isinstance(info.get(name), str | None):
            raise ConfigurationError(
                f"{origin} has a {type(info[name]).__name__}.", field=name, hint=_NEEDS_JSON
            )
    if not _is_safe_url(str(info["token_uri"])):
        raise ConfigurationError(
            f"{origin} has no https URL (http is for this machine alone: the assertion is a secret).",
            field="token_uri",
            hint=_NEEDS_JSON,
        )
    return info


def _is_safe_url(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def _make_key(info: Mapping[str, object], origin: str) -> ServiceAccountKey:
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415 - loaded off the loop
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - loaded off the loop
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - as above
    from google.auth.crypt import RSASigner  # noqa: PLC0415 - as above

    try:
        # The full check of the primes holds the GIL for 27 ms, and the loop with it. It guards against
        # keys made by an adversary; a damaged one is found by the signature below, in 0.3 ms.
        key = load_pem_private_key(
            str(info["private_key"]).encode(), password=None, unsafe_skip_rsa_key_validation=True
        )
        if isinstance(key, rsa.RSAPrivateKey):
            key.public_key().verify(
                key.sign(b"", padding.PKCS1v15(), SHA256()), b"", padding.PKCS1v15(), SHA256()
            )
    except Exception:  # noqa: BLE001 - OpenSSL's errors have no common base, and may quote the key
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError(
            f"{origin} holds no usable RSA key in PEM form.",
            field="private_key",
            hint="The text is truncated or damaged (are its line ends '\\n'?); create a new key if in doubt.",
        )
    return ServiceAccountKey(info, RSASigner(key, _optional(info, "private_key_id")))


def _optional(info: Mapping[str, object], name: str) -> str | None:
    value = info.get(name)
    return value if isinstance(value, str) else None
