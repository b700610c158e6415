"""Credential files, or their content: read, parsed and checked by type, before google-auth sees them.

google-auth trusts them, so that a broken one raises any exception, at the first RPC at the latest. Here
each mistake is a `ConfigurationError` that names the place and the field, and shows nothing of the content.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from aio_authgrpc._checks.secrets import is_secret, shown
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc._sources.files.kind import CredentialInfo, CredentialKind, checked_info, checked_options
from aio_authgrpc._sources.google_auth import GoogleCredentialsSource, LazyCredentialsSource
from aio_authgrpc.errors import ConfigurationError

FileOrInfo = str | os.PathLike[str] | Mapping[str, object]
"""A path, the JSON text itself, or the dict that it holds."""

# A key file has 2 400 bytes.
_MAX_FILE_BYTES = 256 * 1024
# What may stand before the brace of JSON text; Windows writes a byte order mark.
_BLANKS = " \t\r\n\ufeff"
# No file system takes a longer name.
_LONGEST_NAME = 255
_JSON_BEGINS = ("{", "[", '"', "'")


class InfoLoader(NotPickled):
    """A path, JSON text or dict that a user passed: a file is checked when it is read, the others at once.

    Its type has to be one of `kinds`.
    """

    def __init__(self, file_or_info: FileOrInfo, kinds: Sequence[CredentialKind]) -> None:
        self._kinds = kinds
        self._given: Path | CredentialInfo = Path()
        given: object = file_or_info
        text = given.lstrip(_BLANKS) if isinstance(given, str) else ""
        if isinstance(given, Mapping):
            self._given = checked_info(dict(given), "the given info", kinds)
        elif text.startswith("{"):
            self._given = checked_info(_parse(text, "the given info"), "the given info", kinds)
        elif isinstance(given, str | os.PathLike) and os.fspath(given) and not is_content(given):
            self._given = Path(os.fsdecode(given))
        else:
            kind = "an empty str" if given == "" else "other text" if text else type(given).__name__
            raise ConfigurationError(
                f"expected a path, JSON text or a dict, not {kind}.",
                field="file_or_info",
                hint="JSON text begins with a brace: pass it without quotes, encoding or a list."
                if text
                else "",
            )

    def read(self) -> CredentialInfo:
        if isinstance(self._given, CredentialInfo):
            return self._given
        origin = shown(self._given)
        return checked_info(_parse(_read_file(self._given), origin), origin, self._kinds)

    def __repr__(self) -> str:
        return repr(shown(self._given)) if isinstance(self._given, Path) else "..."


def file_source(
    file_or_info: FileOrInfo,
    kind: CredentialKind,
    scopes: Sequence[str] | None = None,
    quota_project_id: str | None = None,
    *,
    sign_without_scopes: bool = True,
) -> LazyCredentialsSource:
    """Return the source that reads a file of one type, never another, in a worker thread."""
    options = checked_options(scopes, quota_project_id)
    loader = InfoLoader(file_or_info, [kind])

    def make() -> GoogleCredentialsSource:
        credentials = loader.read().credentials(options)
        return GoogleCredentialsSource(credentials, sign_without_scopes=sign_without_scopes)

    return LazyCredentialsSource(f"{kind.name}({loader!r})", lambda _: run_in_thread(make))


def is_content(text: object) -> bool:
    """Return whether text in the place of a path is the content of a file: a secret, never to be shown."""
    if not isinstance(text, str):
        return False
    is_long = any(len(name) > _LONGEST_NAME for name in text.replace("\\", "/").split("/"))
    text = text.lstrip(_BLANKS)
    return is_long or "\n" in text or text.startswith(_JSON_BEGINS) or is_secret(text)


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        reason = getattr(error, "strerror", None) or type(error).__name__
        hint = f"Relative paths are resolved against {_working_directory()}."
        if isinstance(error, OSError):
            error.filename = shown(path)
        raise ConfigurationError(
            f"{shown(path)} cannot be read: {reason}.",
            field="file_or_info",
            hint="'~' is not expanded." if path.is_absolute() else hint,
        ) from error
    if len(content) > _MAX_FILE_BYTES:
        raise _not_json(shown(path), "is too large for a credential file")
    try:
        return content.decode()
    except UnicodeDecodeError:
        pass
    raise _not_json(shown(path), "is not UTF-8 text")  # outside of the handler: that error holds the content


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - pathlib's is the same
    except OSError:
        return "a working directory that was removed"


def _parse(text: str, origin: str) -> Mapping[str, object]:
    if not text.strip():
        raise _not_json(origin, "is empty")
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
    raise _not_json(origin, f"is malformed or truncated JSON ({place})")


def _not_json(origin: object, problem: str) -> ConfigurationError:
    hint = "It must be a JSON object, such as the key file of a service account."
    return ConfigurationError(f"{origin} {problem}.", field="file_or_info", hint=hint)
