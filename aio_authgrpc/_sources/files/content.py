"""Credential files, or their content: read, parsed and checked by type, before google-auth sees them.

google-auth trusts them: a broken one raises whatever its code stumbles over, at the first RPC at the
latest. Here each mistake is one `ConfigurationError` that names the place and the field, and shows
nothing of the content.
"""

from __future__ import annotations

import datetime
import json
import os
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from aio_authgrpc._checks.pickling import NotPickled
from aio_authgrpc._http.urls import is_loopback
from aio_authgrpc.errors import ConfigurationError

FileOrInfo = str | os.PathLike[str] | Mapping[str, object]
"""A path, the JSON text itself, or the dict that it holds."""

INFO_ORIGIN = "the given info"
# A key file has 2 400 bytes; what is far larger is another file.
_MAX_FILE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CredentialInfo(NotPickled):
    """The content of a credential file, checked. Shows no secret.

    Attributes:
        kind: Its `type`, such as `"service_account"`.
        origin: Where it came from, for messages: a path, or that it was given.
        fields: What the JSON object holds.
        prefix: What stands before the names of fields in messages, for an object inside of another.
    """

    kind: str
    origin: str
    fields: Mapping[str, object]
    prefix: str = ""

    def text(self, name: str) -> str | None:
        """Return an optional field that holds text."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else None

    def error(self, problem: str, *, field: str) -> ConfigurationError:
        """Return the error for a field of this file."""
        return ConfigurationError(
            f"{self.origin} {problem}.", field=self.prefix + field, hint=_HINTS[self.kind]
        )


class InfoLoader(NotPickled):
    """Holds what a user passed as credentials: checks at once what is in memory, and a file when it is read.

    Args:
        file_or_info: A path, the JSON text, or its dict.
        kinds: The types that are taken. A caller who wants one type is never given another.
        untyped: The type that an object without `type` has; None where it must name one.

    Raises:
        ConfigurationError: A dict or JSON text is malformed. For a file, `read` raises it.
    """

    def __init__(self, file_or_info: FileOrInfo, kinds: Sequence[str], *, untyped: str | None = None) -> None:
        self._kinds = kinds
        self._untyped = untyped
        self._path: Path | None = None
        self._info: CredentialInfo | None = None
        given: object = file_or_info
        text = given.lstrip(_BLANKS) if isinstance(given, str) else ""
        if isinstance(given, Mapping):
            self._info = self._checked(dict(given), INFO_ORIGIN)
        elif text.startswith("{"):
            self._info = self._checked(_parse(text, INFO_ORIGIN), INFO_ORIGIN)
        elif isinstance(given, str | os.PathLike) and os.fspath(given) and not is_content(given):
            self._path = Path(os.fsdecode(given))
        else:
            kind = "an empty str" if given == "" else "other text" if text else type(given).__name__
            raise ConfigurationError(
                f"expected a path, JSON text or a dict, not {kind}.",
                field="file_or_info",
                hint="JSON text begins with a brace: it is not quoted, encoded or a list." if text else "",
            )

    def read(self) -> CredentialInfo:
        """Return the checked content. Reads the file, if it is one: for worker threads.

        Raises:
            ConfigurationError: It cannot be used; the message names the path and the field.
        """
        if self._path is None:
            assert self._info is not None, "it is one or the other"
            return self._info
        origin = str(self._path)
        return self._checked(_parse(_read_file(self._path), origin), origin)

    def _checked(self, fields: Mapping[str, object], origin: str) -> CredentialInfo:
        return checked_info(fields, origin, self._kinds, untyped=self._untyped)

    def __repr__(self) -> str:
        return "..." if self._path is None else repr(str(self._path))


# Before the brace of JSON text; Windows writes a byte order mark.
_BLANKS = " \t\r\n\ufeff"
# No file system takes a longer name.
_LONGEST_NAME = 255
_CONTENT_BEGINS = ("{", "[", '"', "'", "-----BEGIN", "eyJ", "ewo")


def is_content(text: object) -> bool:
    """Return whether text that should be a path is what stands in a file: a secret, never to be shown."""
    if not isinstance(text, str):
        return False
    is_long = any(len(name) > _LONGEST_NAME for name in text.replace("\\", "/").split("/"))
    return is_long or "\n" in text or text.lstrip(_BLANKS).startswith(_CONTENT_BEGINS)


def checked_info(
    fields: Mapping[str, object],
    origin: str,
    kinds: Sequence[str],
    *,
    untyped: str | None = None,
    prefix: str = "",
) -> CredentialInfo:
    """Check a JSON object against the type that it names.

    Args:
        fields: The object.
        origin: For messages.
        kinds: The types that may be named.
        untyped: The type of an object that names none.
        prefix: What stands before the names of fields, for an object inside of another.

    Raises:
        ConfigurationError: The type is another, or a field is missing, empty, of a wrong type, or a URL
            to which a secret is not sent.
    """
    kind = fields.get("type", untyped)
    if not isinstance(kind, str) or kind not in kinds:
        problem = "lacks it" if kind is None else f"has {_shown(kind)}"
        expected = " or ".join(f'"{name}"' for name in kinds)
        raise ConfigurationError(
            f"{origin} {problem}; {expected} is what is read here.",
            field=f"{prefix}type",
            hint="Each type has a function of its own, and default() takes what the environment has.",
        )
    info = CredentialInfo(kind=kind, origin=origin, fields=fields, prefix=prefix)
    required, optional = _FIELDS[kind]
    for name, check in (required | optional).items():
        value = fields.get(name)
        if name not in required and (value is None or value == ""):
            continue  # gcloud writes `"account": ""`
        problem = "lacks it" if value is None else "has it empty" if value in ("", {}, []) else check(value)
        if problem:
            raise info.error(problem, field=name)
    if kind == "external_account":
        _check_source(info)
    return info


def _check_source(info: CredentialInfo) -> None:
    """Check where a subject token comes from: google-auth would open what stands in `file`, a number too."""
    source = cast("Mapping[str, object]", info.fields["credential_source"])
    for name, check in _SOURCE_FIELDS.items():
        outer, _, inner = name.partition(".")
        part = source.get(outer)
        value = cast("Mapping[str, object]", part).get(inner) if inner and isinstance(part, Mapping) else part
        problem = "" if value is None or (inner and not isinstance(part, Mapping)) else check(value)
        if problem:
            raise info.error(problem, field=f"credential_source.{name}")


def _shown(kind: object) -> str:
    if not isinstance(kind, str):
        return "no text"
    # Whatever else stands there may be a secret that slipped a line.
    return json.dumps(kind) if kind.isidentifier() and len(kind) <= 40 else "no name of a type"


# What a field may hold: each check returns what is wrong, or "".

_Check = Callable[[object], str]


def _text(value: object) -> str:
    if not isinstance(value, str):
        return f"has a {type(value).__name__}"
    # JSON can hold half a character, which no request can carry.
    return "has characters that are no text" if any("\ud800" <= each <= "\udfff" for each in value) else ""


def _texts(value: object) -> str:
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value))
    return "" if is_list else "has no list of text"


def _scopes(value: object) -> str:
    return "" if isinstance(value, str) else _texts(value)


def _object(value: object) -> str:
    return "" if isinstance(value, dict) else f"has a {type(value).__name__}, not an object"


def _headers(value: object) -> str:
    if _object(value):
        return _object(value)
    texts = cast("dict[str, object]", value).values()
    return "" if all(isinstance(text, str) for text in texts) else "has values that are no text"


def _milliseconds(value: object) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return "" if good else "has no positive number of milliseconds"


def _flag(value: object) -> str:
    return "" if isinstance(value, bool) else f"has a {type(value).__name__}"


def _lifetime(value: object) -> str:
    if _object(value):
        return _object(value)
    seconds = cast("dict[str, object]", value).get("token_lifetime_seconds", 3600)
    good = isinstance(seconds, int) and not isinstance(seconds, bool) and seconds > 0
    return "" if good else "has no positive number of token_lifetime_seconds"


def _instant(value: object) -> str:
    try:
        datetime.datetime.strptime(str(value).rstrip("Z").split(".", maxsplit=1)[0], "%Y-%m-%dT%H:%M:%S")  # noqa: DTZ007 - only whether it can be read
    except ValueError:
        return "has no instant such as 2030-01-31T23:59:59Z"
    return _text(value)


def _safe_url(value: object) -> str:
    """A token endpoint is sent secrets: over TLS, or to this machine."""
    if not isinstance(value, str):
        return _text(value)
    try:
        parts = urllib.parse.urlsplit(value)
        host, port_is_good = parts.hostname or "", parts.port != 0
    except ValueError:
        return "has no https URL"
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    printable = value.isascii() and value.isprintable() and " " not in value
    if host and port_is_good and safe and printable:
        return ""
    return "has no https URL (http is for this machine alone: what is sent there is a secret)"


def _impersonation_url(value: object) -> str:
    if _safe_url(value):
        return _safe_url(value)
    principal, colon, _ = str(value).rpartition("/")[2].partition(":generateAccessToken")
    return "" if principal and colon else "has no URL that ends in '/<email>:generateAccessToken'"


def _format_version(value: object) -> str:
    return "" if value == "1" else 'has another than "1"'


_Fields = dict[str, _Check]
_ANY: _Fields = {"quota_project_id": _text, "universe_domain": _text}
_SAVED_TOKEN: _Fields = {"token": _text, "expiry": _instant, "scopes": _scopes}
_CLIENT: _Fields = {"client_id": _text, "client_secret": _text}

# By type: what has to be there, and what may be. Other fields are left to google-auth, or are comments.
_FIELDS: dict[str, tuple[_Fields, _Fields]] = {
    "service_account": (
        {"client_email": _text, "private_key": _text, "token_uri": _safe_url},
        {**_ANY, "private_key_id": _text, "project_id": _text},
    ),
    "authorized_user": (
        {**_CLIENT, "refresh_token": _text},
        {**_ANY, **_SAVED_TOKEN, "account": _text, "rapt_token": _text},
    ),
    "external_account": (
        {
            "audience": _text,
            "subject_token_type": _text,
            "token_url": _safe_url,
            "credential_source": _object,
        },
        {
            **_ANY,
            **_CLIENT,
            "token_info_url": _safe_url,
            "service_account_impersonation_url": _impersonation_url,
            "service_account_impersonation": _lifetime,
            "workforce_pool_user_project": _text,
        },
    ),
    "external_account_authorized_user": (
        {**_CLIENT, "refresh_token": _text, "token_url": _safe_url},
        {
            **_ANY,
            **_SAVED_TOKEN,
            "audience": _text,
            "token_info_url": _safe_url,
            "revoke_url": _safe_url,
        },
    ),
    "impersonated_service_account": (
        {"service_account_impersonation_url": _impersonation_url, "source_credentials": _object},
        {**_ANY, "delegates": _texts, "scopes": _texts},
    ),
    "gdch_service_account": (
        {
            "format_version": _format_version,
            "project": _text,
            "private_key_id": _text,
            "private_key": _text,
            "name": _text,
            "token_uri": _safe_url,
        },
        {"ca_cert_path": _text},
    ),
}
_SOURCE_FIELDS: _Fields = {
    "file": _text,
    "url": _text,
    "headers": _headers,
    "environment_id": _text,
    "region_url": _text,
    "regional_cred_verification_url": _text,
    "imdsv2_session_token_url": _text,
    "format": _object,
    "format.type": _text,
    "format.subject_token_field_name": _text,
    "executable": _object,
    "executable.command": _text,
    "executable.timeout_millis": _milliseconds,
    "executable.interactive_timeout_millis": _milliseconds,
    "executable.output_file": _text,
    "certificate": _object,
    "certificate.certificate_config_location": _text,
    "certificate.use_default_certificate_config": _flag,
    "certificate.trust_chain_path": _text,
}
CREDENTIAL_TYPES = tuple(_FIELDS)
"""The types of credential file that google-auth knows, and so all that are read here."""

_NEW_KEY = "It must be the JSON key of a service account; create a new one if in doubt."
_HINTS = {
    "service_account": _NEW_KEY,
    "gdch_service_account": _NEW_KEY,
    "authorized_user": "'gcloud auth application-default login' writes a new one.",
    "external_account": "'gcloud iam workload-identity-pools create-cred-config' writes a new one.",
    "external_account_authorized_user": "'gcloud auth application-default login' writes a new one.",
    "impersonated_service_account": "'gcloud auth application-default login --impersonate-service-account' "
    "writes a new one.",
}
_NEEDS_JSON = "It must be a JSON object, such as the key file of a service account."


def _here() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - pathlib's is the same
    except OSError:
        return "a directory that is no more"


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(
            f"{path} cannot be read: {reason}.",
            field="file_or_info",
            hint="'~' is not expanded." if path.is_absolute() else f"It starts at {_here()}.",
        ) from error
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigurationError(f"{path} is too large for a credential file.", field="file_or_info")
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
