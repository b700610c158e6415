"""A text as it reads once it is decoded, with the place of each character in the text itself."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import compress

# JSON in HTML in JSON has three.
_MOST_LEVELS = 4

Decode = Callable[[re.Match[str]], str]


class DecodedText:
    """The bytes of a text, a character for each, and where in the original each begins and ends.

    Bytes, because escapes and base64 stand for bytes.
    """

    def __init__(self, chars: str, starts: list[int], ends: list[int]) -> None:
        self.chars = chars
        self.starts = starts
        self.ends = ends

    def levels(self) -> Iterator[DecodedText]:
        """Yield the text, and what each round of unescaping makes of it."""
        text = self
        for _ in range(_MOST_LEVELS):
            yield text
            before, text = text.chars, text._decoded(escapes(), _unescape)
            if text.chars == before:
                return

    def encodings(self) -> Iterator[DecodedText]:
        """Yield what base64, hexadecimal digits, lists of numbers and quoted-printable in it mean."""
        for pattern, decode, alone in _codes():
            decoded = self._decoded(pattern, decode, alone=alone)
            if decoded.chars and decoded.chars != self.chars:
                yield decoded

    def compact(self) -> DecodedText:
        """Return the text in lower case, without what a form or a line break puts between characters."""
        kept = [" " < char != "+" for char in self.chars]
        chars = "".join(compress(self.chars, kept)).lower()
        return DecodedText(chars, list(compress(self.starts, kept)), list(compress(self.ends, kept)))

    def _decoded(self, pattern: re.Pattern[str], decode: Decode, *, alone: bool = False) -> DecodedText:
        """Decode what the pattern matches, and keep the rest unless it is wanted `alone`."""
        chars: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        at = 0
        for found in pattern.finditer(self.chars):
            start, end = found.span()
            decoded = decode(found)
            between = slice(start if alone else at, start)
            chars += (self.chars[between], decoded)
            # A decoded character takes the place of the whole match.
            starts += self.starts[between] + [self.starts[start]] * len(decoded)
            ends += self.ends[between] + [self.ends[end - 1]] * len(decoded)
            at = end
        if not alone:
            chars.append(self.chars[at:])
            starts += self.starts[at:]
            ends += self.ends[at:]
        return DecodedText("".join(chars), starts, ends)


def decoded(text: str) -> DecodedText:
    chars = _as_bytes(text)
    return DecodedText(chars, list(range(len(chars))), list(range(1, len(chars) + 1)))


def without(text: str, places: Iterable[tuple[int, int]]) -> str:
    """Return the text with `[redacted]` at places of its `decoded()` form."""
    chars = list(_as_bytes(text))
    for start, end in places:
        chars[start:end] = _CUT * (end - start)
    cut = re.sub(f"{_CUT}+", "[redacted]", "".join(chars))
    return cut.encode("latin-1").decode(errors="replace")


# It stands for no byte.
_CUT = "\N{FULL BLOCK}"


def _as_bytes(text: str) -> str:
    return text.encode(errors="replace").decode("latin-1")


# Patterns are compiled at their first use, not at import.
@functools.cache
def escapes() -> re.Pattern[str]:
    """Match percent escapes, backslash escapes and HTML's entities, also those that are escaped again."""
    return re.compile(
        r"(?:%(?:25)*|\\+x)(?P<byte>[0-9a-f]{2})"
        r"|(?:%(?:25)*|\\+)u(?P<point>[0-9a-f]{4})"
        r"|\\+u\{(?P<braced>[0-9a-f]{1,6})\}"
        r"|\\+(?P<octal>[0-3][0-7]{2})"
        r"|\\+(?P<char>.)"
        r"|&(?:amp;)*(?P<entity>#x[0-9a-f]{1,6};?|#[0-9]{1,7};?|[a-z]\w{1,30};)",
        re.IGNORECASE | re.DOTALL,
    )


def _unescape(escape: re.Match[str]) -> str:
    kind = escape.lastgroup or ""
    text = escape[kind]
    if kind == "char":
        return "\n" if text in "bfnrtv" else text
    if kind == "entity":
        import html  # noqa: PLC0415 - 1 ms, for answers in HTML

        return _as_bytes(html.unescape(f"&{text}"))
    number = int(text, 8 if kind == "octal" else 16)
    return chr(number) if kind in ("byte", "octal") else _as_bytes(chr(min(number, 0x10FFFF)))


@functools.cache
def _codes() -> tuple[tuple[re.Pattern[str], Decode, bool], ...]:
    """Return patterns, what their matches mean, and whether that is to be read alone."""
    # Base64 may be wrapped, and may follow another letter at once: each of the four alignments is read.
    base64_run = re.compile(r"[\w+/-](?:(?:\r?\n)?[\w+/-]){10,}", re.ASCII)
    pairs = re.compile(r"[0-9a-f]{2}(?:[\s:,-]*(?:0x)?[0-9a-f]{2}){7,}", re.IGNORECASE)
    numbers = re.compile(r"\d{1,3}(?:[\s,]+\d{1,3}){7,}", re.ASCII)
    quoted_printable = re.compile(r"=(?:\r?\n|[0-9A-F]{2})")
    return (
        *((base64_run, functools.partial(_from_base64, skipped=count), True) for count in range(4)),
        *((pairs, functools.partial(_from_pairs, skipped=count), True) for count in range(2)),
        (numbers, lambda run: "".join(chr(int(number) % 256) for number in re.findall(r"\d+", run[0])), True),
        (quoted_printable, lambda byte: chr(int(byte[0][1:], 16)) if byte[0][1:].strip() else "", False),
    )


def _from_base64(run: re.Match[str], *, skipped: int) -> str:
    letters = re.sub(r"\s", "", run[0])[skipped:].replace("-", "+").replace("_", "/")
    whole = letters[: len(letters) - (len(letters) % 4 == 1)]
    meant = base64.b64decode(whole + "=" * (-len(whole) % 4)).decode("latin-1")
    # Of random bytes, 37 % are printable. What is no text holds no secret, and searching it takes 50 ms.
    is_text = sum((char.isascii() and char.isprintable()) or char == "\0" for char in meant) > len(meant) / 2
    return meant if is_text else ""


def _from_pairs(run: re.Match[str], *, skipped: int) -> str:
    digits = re.sub(r"0x|[^0-9a-f]", "", run[0].lower())[skipped:]
    return bytes.fromhex(digits[: len(digits) // 2 * 2]).decode("latin-1")
