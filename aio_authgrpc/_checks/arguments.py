"""Checks of arguments, where a mistake would otherwise show late, or never."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any, cast

from aio_authgrpc.errors import ConfigurationError

# What a user writes for a type that has another name.
_SHOWN_TYPES: dict[type, str] = {type(None): "None", Mapping: "dict"}


def check_type(field: str, value: object, *kinds: type, hint: str = "") -> None:
    """Check an argument's type: one of `kinds`, where `type(None)` allows None. A bool is not an int."""
    wrong_bool = isinstance(value, bool) and bool not in kinds
    if wrong_bool or not isinstance(value, kinds):
        expected = " or ".join(_SHOWN_TYPES.get(kind, kind.__name__) for kind in kinds)
        raise ConfigurationError(f"expected {expected}, not {type(value).__name__}.", field=field, hint=hint)


def check_seconds(field: str, value: float | None, *, none_means: str = "") -> None:
    """Check a positive, finite number of seconds; None passes where `none_means` says what it stands for."""
    kinds = (int, float, type(None)) if none_means else (int, float)
    check_type(field, value, *kinds)
    if value is not None and not 0 < value <= sys.float_info.max:
        # An int that no float can hold may have more digits than Python puts into a text.
        shown = repr(value) if abs(value) <= sys.float_info.max or isinstance(value, float) else "such an int"
        raise ConfigurationError(
            f"{shown} is not a positive number of seconds.",
            field=field,
            hint=f"None means {none_means}." if none_means else "",
        )


def check_optional_text(field: str, value: object) -> None:
    """Check a str that may be left out, with None. An empty one is neither."""
    check_type(field, value, str, type(None))
    if value == "":
        raise ConfigurationError("an empty str was given.", field=field, hint="Leave it out, or pass None.")


def check_callback(field: str, given: object, *, hint: str) -> None:
    """Check a function that is called and not awaited."""
    if not callable(given):
        raise ConfigurationError(f"expected a function, not {type(given).__name__}.", field=field, hint=hint)
    if inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(type(given).__call__):
        raise ConfigurationError(
            "expected a plain function, not a coroutine function, which nothing awaits.",
            field=field,
            hint=f"Write 'def' in place of 'async def', and start a task in it. {hint}",
        )


def check_count(field: str, value: int) -> None:
    """Check a number of things, of which there must be one at least."""
    check_type(field, value, int)
    if value < 1:
        raise ConfigurationError(f"{value!r} is less than 1.", field=field, hint="Pass 1 or more.")


def as_list(given: Any) -> list[Any] | None:
    """Return the items of an iterable; None where it is not iterable, or a text."""
    return list(given) if hasattr(given, "__iter__") and not isinstance(given, (str, bytes)) else None


def checked_pairs(field: str, given: Any, example: str) -> list[tuple[str, object]]:
    """Return a mapping or an iterable of pairs of a name and a value as a list; None stands for no pairs."""
    given = {} if given is None else given
    pairs = as_list(given.items() if hasattr(given, "items") else given)
    if pairs is None or not all(_is_pair(pair) for pair in pairs):
        raise ConfigurationError(
            "expected pairs of a name and a value.", field=field, hint=f"For example {example}."
        )
    return pairs


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple) and len(cast("Any", given)) == 2 and isinstance(given[0], str)
