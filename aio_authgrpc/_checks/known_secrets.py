"""Secrets whose values are known, found in a text however they are written there, whole or in part."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from aio_authgrpc._checks.decoded import DecodedText, decoded, without

# A text may hold a part of a secret: it was cut off, or the middle is masked. Fewer characters tell nothing.
_PART = 8
# A shorter value is a word, or a number.
_SHORTEST = 3
# Base64 in base64, such as a header of Basic in an encoded request.
_MOST_ENCODINGS = 2


class KnownSecrets:
    """Values that are never shown. What the `public` ones have in common with them may be."""

    def __init__(self, secrets: Iterable[str], *, public: Iterable[str] = ()) -> None:
        texts = {text for secret in secrets for text in _written(secret)}
        shown = {text for value in public for text in _written(value)}
        parts_shown = {part for text in shown for part in _parts(text)}
        self._parts = {part for text in texts for part in _parts(text)} - parts_shown
        self._words = {text for text in texts - shown if _SHORTEST <= len(text) < _PART}

    def cut_out_of(self, text: str) -> str:
        """Return the text without them: raw, escaped, as base64 or digits, and each in each other."""
        return without(text, self._places(decoded(text), _MOST_ENCODINGS))

    def _places(self, text: DecodedText, encodings: int) -> Iterator[tuple[int, int]]:
        for level in text.levels():
            yield from self._raw_places(level)
            for inner in level.encodings() if encodings else ():
                yield from self._places(inner, encodings - 1)

    def _raw_places(self, text: DecodedText) -> Iterator[tuple[int, int]]:
        compact = text.compact()
        for at, part in enumerate(_parts(compact.chars)):
            if part in self._parts:
                yield compact.starts[at], compact.ends[at + _PART - 1]
        for word in self._words:
            for found in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text.chars, re.IGNORECASE):
                yield text.starts[found.start()], text.ends[found.end() - 1]


def _written(secret: str) -> Iterator[str]:
    """Yield the secret, and what it reads as where it is itself escaped, compact."""
    for level in decoded(secret).levels():
        yield level.compact().chars


def _parts(text: str) -> list[str]:
    return [text[at : at + _PART] for at in range(len(text) - _PART + 1)]
