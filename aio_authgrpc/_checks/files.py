"""Files that users name: what to do about one that cannot be read, and which format it is in."""

from __future__ import annotations

import os
from pathlib import Path

# PKCS12 begins with the identifiers of PKCS7's types of content: 1.2.840.113549.1.7.*, in DER.
_PKCS7 = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"


def is_pkcs12(content: bytes) -> bool:
    return content.startswith(b"0") and _PKCS7 in content[:64]


def hint_for_unreadable(path: Path, error: Exception) -> str:
    match error:
        case FileNotFoundError() | NotADirectoryError() if str(path).startswith("~"):
            return "'~' is not expanded: pass Path(...).expanduser()."
        case FileNotFoundError() if not path.is_absolute():
            return f"Relative paths are resolved against {_working_directory()}."
        case FileNotFoundError() | NotADirectoryError():
            return "Check the path; in a container, check that the file is mounted."
        case IsADirectoryError():
            return "Name a file in this directory."
        case PermissionError():
            return "Let the user of this process read it."
        case _:
            return ""


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - pathlib's is the same
    except OSError:
        return "a working directory that was removed"
