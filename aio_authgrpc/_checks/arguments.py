"""Arguments, checked where a mistake would otherwise show late, or never."""

from __future__ import annotations

import math
from typing import Any, cast

from aio_authgrpc.errors import ConfigurationError


def check_type(field: str, value: object, *kinds: type, hint: str = "") -> None:
    """Check an argument's type.

    Raises:
        ConfigurationError: It has none of these types. A bool is not taken for a number.
    """
    wrong_bool = isinstance(value, bool) and bool not in kinds
    if wrong_bool or not isinstance(value, kinds):
        expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ConfigurationError(f"expected {expected}, not {type(value).__name__}.", field=field, hint=hint)


def check_seconds(field: str, value: float | None, *, none_means: str = "") -> None:
    """Check a duration: a positive, finite number of seconds.

    Args:
        field: The argument's name.
        value: What was passed.
        none_means: What None stands for, such as `"never"`; empty where None is refused.

    Raises:
        ConfigurationError: It is something else.
    """
    kinds = (int, float, type(None)) if none_means else (int, float)
    check_type(field, value, *kinds)
    if value is not None and not 0 < value < math.inf:
        raise ConfigurationError(
            f"{value!r} is not a positive number of seconds.",
            field=field,
            hint=f"None means {none_means}." if none_means else "",
        )


def listed(given: Any) -> list[Any]:
    """Return what was passed as a list; one with None in it where it is no list of anything."""
    return [None] if isinstance(given, str) or not hasattr(given, "__iter__") else list(given)


def pairs(field: str, given: Any, example: str) -> list[tuple[str, object]]:
    """Return what was passed as pairs of a name and a value.

    Raises:
        ConfigurationError: It is something else; `example` says what to write.
    """
    given = {} if given is None else given
    items: Any = given.items() if hasattr(given, "items") else given
    pairs = listed(items)
    if not all(isinstance(pair, tuple) and len(cast("Any", pair)) == 2 for pair in pairs) or not all(
        isinstance(name, str) for name, _ in pairs
    ):
        raise ConfigurationError(
            "expected pairs of a name and a value.", field=field, hint=f"For example {example}."
        )
    return pairs
