"""Checks of arguments: what passes, what is refused, and what the error says."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from aio_authgrpc import ConfigurationError
from aio_authgrpc._checks.arguments import (
    as_list,
    check_callback,
    check_count,
    check_seconds,
    check_type,
    checked_pairs,
)


@pytest.mark.parametrize(
    ("value", "kinds"),
    [("a", (str,)), (5, (int, float)), (None, (str, type(None))), (True, (bool,))],
)
def test_a_value_of_an_allowed_type_passes(value: object, kinds: tuple[type, ...]) -> None:
    """None passes where its type is allowed."""
    check_type("field", value, *kinds)


@pytest.mark.parametrize(
    ("value", "kinds", "text"),
    [
        (b"a", (str,), "field: expected str, not bytes."),
        (None, (int, float), "field: expected int or float, not NoneType."),
        (5, (str, type(None)), "field: expected str or None, not int."),
        (True, (int, float), "field: expected int or float, not bool."),
    ],
)
def test_a_value_of_another_type_is_refused(value: object, kinds: tuple[type, ...], text: str) -> None:
    """The error names the field and both types; a bool does not pass for a number."""
    with pytest.raises(ConfigurationError) as caught:
        check_type("field", value, *kinds)
    assert str(caught.value) == text


def test_the_hint_follows_the_error() -> None:
    """It says what to write instead."""
    with pytest.raises(ConfigurationError, match=r"not int\. Write 'host'\."):
        check_type("target", 5, str, hint="Write 'host'.")


@pytest.mark.parametrize("value", [1, 0.001, 1e9])
def test_a_positive_number_of_seconds_passes(value: float) -> None:
    """An int as well as a float."""
    check_seconds("timeout", value)


@pytest.mark.parametrize(
    "value",
    [0, -1, float("inf"), float("nan"), *(pytest.param(10**n, id=f"10**{n}") for n in (400, 5_000))],
)
def test_a_number_that_is_not_a_duration_is_refused(value: float) -> None:
    """Zero would be over at once, and infinity is spelled None."""
    with pytest.raises(ConfigurationError, match="not a positive number of seconds") as caught:
        check_seconds("timeout", value)
    assert caught.value.field == "timeout"


@pytest.mark.parametrize("value", ["5", True, None])
def test_a_duration_of_another_type_is_refused(value: Any) -> None:
    """None as well, unless it means something."""
    with pytest.raises(ConfigurationError, match="expected int or float"):
        check_seconds("timeout", value)


def test_none_passes_where_it_means_something() -> None:
    """The hint of the error says what."""
    check_seconds("interval", None, none_means="never")
    with pytest.raises(ConfigurationError, match="None means never"):
        check_seconds("interval", 0, none_means="never")


@pytest.mark.parametrize("value", [0, -1])
def test_a_count_below_one_is_refused(value: int) -> None:
    """One passes."""
    check_count("attempts", 1)
    with pytest.raises(ConfigurationError, match="is less than 1"):
        check_count("attempts", value)


@pytest.mark.parametrize("value", [1.0, True, "1"])
def test_a_count_of_another_type_is_refused(value: Any) -> None:
    """Half an attempt is a mistake."""
    with pytest.raises(ConfigurationError, match="expected int"):
        check_count("attempts", value)


@pytest.mark.parametrize(
    ("given", "items"), [([1, 2], [1, 2]), ((1,), [1]), ({1: 2}, [1]), (iter([1]), [1]), ([], [])]
)
def test_an_iterable_becomes_a_list(given: Any, items: list[int]) -> None:
    """An iterator is read once."""
    assert as_list(given) == items


@pytest.mark.parametrize("given", [5, None, "text", b"bytes"])
def test_what_cannot_be_iterated_and_a_text_become_none(given: Any) -> None:
    """A text in place of a list of texts is a mistake."""
    assert as_list(given) is None


@pytest.mark.parametrize(
    ("given", "pairs"),
    [
        (None, []),
        ({"a": 1}, [("a", 1)]),
        ([("a", 1), ("a", 2)], [("a", 1), ("a", 2)]),
        ((("a", 1),), [("a", 1)]),
    ],
)
def test_pairs_may_be_a_mapping_or_a_list(given: Any, pairs: list[tuple[str, object]]) -> None:
    """Or None, for no pairs."""
    assert checked_pairs("options", given, "…") == pairs


@pytest.mark.parametrize("given", [5, "ab", ["ab"], [("a",)], [("a", 1, 2)], [(1, "a")], [["a", 1]]])
def test_anything_else_than_pairs_is_refused(given: Any) -> None:
    """The error says what to write."""
    with pytest.raises(
        ConfigurationError, match=r"pairs of a name and a value\. For example \[\('a', 1\)\]\."
    ):
        checked_pairs("options", given, "[('a', 1)]")


class Listener:
    """An object that is called as a function is."""

    async def __call__(self, event: object) -> None:
        pass

    async def hear(self, event: object) -> None:
        pass


@pytest.mark.parametrize(
    "given",
    [Listener(), Listener().hear, partial(Listener.hear, Listener())],
    ids=["object", "method", "partial"],
)
def test_a_coroutine_function_that_nothing_would_await_is_refused(given: Any) -> None:
    """It would never run; Python's warning says "never awaited", and not where."""
    with pytest.raises(ConfigurationError, match="not a coroutine function") as caught:
        check_callback("on_event", given, hint="It is called with each event.")
    assert caught.value.field == "on_event"
    assert "Write 'def'" in caught.value.hint


@pytest.mark.parametrize("given", [print, [].append, lambda _: None, partial(print, "x"), Listener])
def test_a_plain_function_is_taken(given: Any) -> None:
    """Also a class, which is called to make an object."""
    check_callback("on_event", given, hint="")
