r"""JSON as protobuf's C++ parser reads a `Struct`, because Envoy reads the JSON of a token with it.

Compared with RFC 8259 it accepts more: single quotes, names without quotes, a comma before a closing bracket,
control characters in strings, `\U` for `\u`. It refuses a repeated name, a number beyond the range of a
double, half of a surrogate pair, and more than 100 levels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final

# protobuf's default.
_MAX_DEPTH = 100

_BLANK = re.compile(r"[ \n\r\t]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_STRINGS = {
    '"': re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL),
    "'": re.compile(r"'((?:[^'\\]|\\.)*+)'", re.DOTALL),
}
_ESCAPE = re.compile(
    r"""\\(?:
        [uU](?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})
      | [uU](?P<unit>[0-9a-fA-F]{4})
      | (?P<letter>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_LETTERS = dict(zip("\"'\\/bfnrt", "\"'\\/\b\f\n\r\t", strict=True))
_CONSTANTS: Final[dict[str, object]] = {"true": True, "false": False, "null": None}


def read_struct(data: bytes) -> dict[str, object]:
    """Return the object that `data`, in UTF-8, describes; `null` is an object without fields.

    Raises:
        ValueError: It is no object, or not JSON in protobuf's eyes.
    """
    return _Reader(data.decode()).document()


class _Reader:
    """Reads a text from its beginning."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def document(self) -> dict[str, object]:
        found: dict[str, object] = {}
        if self._peek() == "{":
            found = self._object()
        elif self._take(_NAME)[0] != "null":
            raise self._error()
        if self._peek():
            raise self._error()
        return found

    def _value(self) -> object:
        match self._peek():
            case "{":
                return self._object()
            case "[":
                return [self._value() for _ in self._elements("]")]
            case '"' | "'" as quote:
                return self._string(quote)
            case "t" | "f" | "n":
                return self._constant()
            case _:
                return self._number()

    def _object(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for _ in self._elements("}"):
            quote = self._peek()
            name = self._string(quote) if quote in _STRINGS else self._take(_NAME)[0]
            if name in found or (quote not in _STRINGS and name in _CONSTANTS):
                raise self._error()
            if self._peek() != ":":
                raise self._error()
            self._at += 1
            found[name] = self._value()
        return found

    def _elements(self, closing: str) -> Iterator[None]:
        """Pass the brackets and commas, and yield where each element begins."""
        self._at += 1
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error()
        separated = True
        while self._peek() != closing:
            if not separated:
                raise self._error()
            yield
            separated = self._peek() == ","
            self._at += separated
        self._at += 1
        self._depth -= 1

    def _string(self, quote: str) -> str:
        return _ESCAPE.sub(self._unescaped, self._take(_STRINGS[quote])[1])

    def _unescaped(self, escape: re.Match[str]) -> str:
        if escape["letter"]:
            if escape["letter"] not in _LETTERS:
                raise self._error()
            return _LETTERS[escape["letter"]]
        if escape["unit"]:
            unit = chr(int(escape["unit"], 16))
            if "\ud800" <= unit <= "\udfff":
                raise self._error()
            return unit
        return bytes.fromhex(escape["high"] + escape["low"]).decode("utf-16-be")

    def _constant(self) -> object:
        word = self._take(_NAME)[0]
        if word not in _CONSTANTS:
            raise self._error()
        return _CONSTANTS[word]

    def _number(self) -> float:
        text = self._take(_NUMBER)[0]
        number = float(text)
        if not math.isfinite(number):
            raise self._error()
        return int(text) if text.lstrip("-").isdigit() else number

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._error()
        self._at = found.end()
        return found

    def _peek(self) -> str:
        """Skip blanks; return the next character, or "" at the end."""
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None, "it matches nothing, too"
        self._at = blank.end()
        return self._text[self._at : self._at + 1]

    def _error(self) -> ValueError:
        return ValueError(f"it is not JSON at character {self._at}")
