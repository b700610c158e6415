"""Credential files, or their content: read, parsed and checked by type, before google-auth sees them.

google-auth trusts them, so that a broken one raises any exception, at the first RPC at the latest. Here
each mistake is a `ConfigurationError` that names the place and the field, and shows nothing of the content.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from aio_authgrpc._checks.files import hint_for_unreadable, is_pkcs12
from aio_authgrpc._checks.secrets import is_secret, shown
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc._sources.files.kind import CredentialInfo, CredentialKind, checked_info, checked_options
from aio_authgrpc._sources.google_auth import GoogleCredentialsSource, LazyCredentialsSource
from aio_authgrpc.errors import ConfigurationError

T = TypeVar("T")

FileOrInfo = str | os.PathLike[str] | Mapping[str, object]
"""A path, the JSON text itself, or the dict that it holds."""

_ARGUMENT = "file_or_info"
# Seconds. A key file takes milliseconds; a pipe, a device or a network file system may take for ever.
READ_TIMEOUT = 10.0
# A key file has 2 400 bytes.
_MAX_FILE_BYTES = 256 * 1024
# What may stand before the brace of JSON text; Windows writes a byte order mark.
_BLANKS = " \t\r\n\ufeff"
# No file system takes a longer name.
_LONGEST_NAME = 255
_JSON_BEGINS = ("{", "[", '"', "'")


class InfoLoader(NotPickled):
    """A path, JSON text or dict that a user passed: a file is checked when it is read, the others at once.

    Its type has to be one of `kinds`. `field` is the argument, or the environment variable, that held it.
    """

    def __init__(
        self, file_or_info: FileOrInfo, kinds: Sequence[CredentialKind], *, field: str = _ARGUMENT
    ) -> None:
        self._kinds = kinds
        self._field = field
        self._given: Path | CredentialInfo = Path()
        given: object = file_or_info
        text = given.lstrip(_BLANKS) if isinstance(given, str) else ""
        if isinstance(given, Mapping):
            self._given = checked_info(dict(given), "the given info", kinds)
        elif text.startswith("{"):
            self._given = checked_info(_parse(text, "the given info", field), "the given info", kinds)
        elif isinstance(given, str | os.PathLike) and os.fspath(given) and not is_content(given):
            self._given = Path(os.fsdecode(given))
        else:
            kind = "an empty str" if given == "" else "other text" if text else type(given).__name__
            raise ConfigurationError(
                f"expected a path, JSON text or a dict, not {kind}.",
                field=field,
                hint="JSON text begins with a brace: pass it without quotes, encoding or a list."
                if text
                else "",
            )

    def read(self) -> CredentialInfo:
        if isinstance(self._given, CredentialInfo):
            return self._given
        path, field = self._given, self._field
        content = _parse(_read_file(path, field), shown(path), field)
        is_variable = field.isupper()  # then messages about a field name it, too
        return checked_info(content, f"{field}={shown(path)}" if is_variable else shown(path), self._kinds)

    def __repr__(self) -> str:
        return repr(shown(self._given)) if isinstance(self._given, Path) else "..."


def file_source(
    file_or_info: FileOrInfo,
    kind: CredentialKind,
    scopes: Sequence[str] | None = None,
    quota_project_id: str | None = None,
    *,
    sign_without_scopes: bool = True,
    timeout: float = READ_TIMEOUT,
) -> LazyCredentialsSource:
    """Return the source that reads a file of one type, never another, in a worker thread."""
    options = checked_options(scopes, quota_project_id)
    loader = InfoLoader(file_or_info, [kind])

    def make() -> GoogleCredentialsSource:
        credentials = loader.read().credentials(options)
        return GoogleCredentialsSource(credentials, sign_without_scopes=sign_without_scopes)

    name = f"{kind.name}({loader!r})"
    return LazyCredentialsSource(name, lambda _: read_in_thread(make, name, timeout))


async def read_in_thread(
    function: Callable[[], T], name: str, timeout: float = READ_TIMEOUT, *, field: str = _ARGUMENT
) -> T:
    """Run a function that reads credential files in a worker thread, which is abandoned after `timeout`."""
    try:
        async with asyncio.timeout(timeout):
            return await run_in_thread(function)
    except TimeoutError:
        raise ConfigurationError(
            f"reading the file of {name} took more than {timeout:g} s.",
            field=field,
            hint="It may name a pipe, a device or a network file system that does not answer.",
        ) from None


def is_content(text: object) -> bool:
    """Return whether text in the place of a path is the content of a file: a secret, never to be shown."""
    if not isinstance(text, str):
        return False
    is_long = any(len(name) > _LONGEST_NAME for name in text.replace("\\", "/").split("/"))
    text = text.lstrip(_BLANKS)
    return is_long or "\n" in text or text.startswith(_JSON_BEGINS) or is_secret(text)


def is_device(path: str | None) -> bool:
    """Return whether a path is a device's, which may be endless. In a worker thread."""
    try:
        mode = 0 if path is None else os.stat(path).st_mode  # noqa: PTH116 - pathlib's is the same
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _read_file(path: Path, field: str) -> str:
    name = shown(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        reason = getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, OSError):
            error.filename = name
        raise ConfigurationError(
            f"{name} cannot be read: {reason}.", field=field, hint=hint_for_unreadable(path, error)
        ) from error
    if len(content) > _MAX_FILE_BYTES:
        raise _not_json(name, "is too large for a credential file", field)
    if is_pkcs12(content):
        raise ConfigurationError(
            f"{name} is a PKCS12 key.",
            field=field,
            hint="PKCS12 is not supported: create a JSON key for the same service account.",
        )
    if content.lstrip().startswith(b"-----BEGIN"):
        raise _not_json(name, "is a key or a certificate in PEM form", field)
    try:
        return content.decode()
    except UnicodeDecodeError:
        pass
    raise _not_json(name, "is not UTF-8 text", field)  # outside of the handler: that error holds the content


def _parse(text: str, origin: object, field: str) -> Mapping[str, object]:
    if not text.strip():
        raise _not_json(origin, "is empty", field)
    try:
        info: Any = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
    except (ValueError, RecursionError):
        place = "a number is too long, or the nesting too deep"
    else:
        if isinstance(info, dict):
            return cast("dict[str, object]", info)
        place = f"a {type(info).__name__} at the top, not an object"
    # Outside of the handler: the JSON error holds the whole text, and with it the key.
    raise _not_json(origin, f"is malformed or truncated JSON ({place})", field)


def _not_json(origin: object, problem: str, field: str) -> ConfigurationError:
    hint = "It must be a JSON object, such as the key file of a service account."
    return ConfigurationError(f"{origin} {problem}.", field=field, hint=hint)
