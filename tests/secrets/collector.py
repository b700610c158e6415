"""What an error reporter sees: texts, log records, events, and the locals of every frame."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import FrameType

_TESTS = str(Path(__file__).parents[1])
# Sentry and rich go deeper than anything here is nested.
_DEPTH = 4


def texts_of(error: BaseException) -> Iterator[str]:
    """Yield all that an error tells, and all causes and contexts of it, with the locals of their frames."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or any(link is known for known in seen):
            continue
        seen.append(link)
        waiting += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]
        yield from (repr(link), str(link), repr(link.args), repr(getattr(link, "__notes__", "")))
        yield from (str(getattr(link, "hint", "")), "".join(traceback.format_exception_only(link)))
        for frame in _frames_of(link):
            for value in tuple(frame.f_locals.values()):
                yield from _shown(value, _DEPTH)


def _frames_of(error: BaseException) -> list[FrameType]:
    """Return the frames of an error's traceback but for the callers', which are tests."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    while frames and frames[0].f_code.co_filename.startswith(_TESTS):
        frames.pop(0)
    return frames


def _shown(value: object, depth: int) -> Iterator[str]:
    try:
        yield repr(value)
    except Exception as error:  # noqa: BLE001 - as reporters do: an object that was not made
        yield repr(error)
    if depth and isinstance(value, Mapping):
        for key, inner in value.items():
            yield from (*_shown(key, depth - 1), *_shown(inner, depth - 1))
    elif depth and isinstance(value, Collection) and not isinstance(value, str | bytes | bytearray):
        for inner in value:
            yield from _shown(inner, depth - 1)
