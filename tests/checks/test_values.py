"""Immutable values: built with keywords, equal by value, and never changed."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import Any

import pytest

from aio_authgrpc._checks.values import FrozenValue


class Point(FrozenValue):
    """A value with two fields."""

    x: int
    y: int


class NamedPoint(Point):
    """A value with one more."""

    name: str


class OtherPoint(Point):
    """A value of another type with the same fields."""


def test_a_value_has_its_fields_and_those_of_its_base() -> None:
    """The base's come first."""
    point = NamedPoint(name="a", y=2, x=1)
    assert point.x == 1
    assert point.name == "a"
    assert repr(point) == "NamedPoint(x=1, y=2, name='a')"


@pytest.mark.parametrize("fields", [{}, {"x": 1}, {"x": 1, "y": 2, "z": 3}])
def test_other_fields_are_refused(fields: dict[str, Any]) -> None:
    """The error names those that it takes."""
    with pytest.raises(TypeError, match=r"Point\(\) takes the keywords x, y\."):
        Point(**fields)


def test_positional_arguments_are_refused() -> None:
    """Fields have names, not places."""
    with pytest.raises(TypeError):
        Point(1, 2)  # type: ignore[misc]  # the mistake


def test_values_are_equal_by_type_and_fields() -> None:
    """Equal values have equal hashes."""
    assert Point(x=1, y=2) == Point(y=2, x=1)
    assert hash(Point(x=1, y=2)) == hash(Point(y=2, x=1))
    assert Point(x=1, y=2) != Point(x=1, y=3)
    assert Point(x=1, y=2) != OtherPoint(x=1, y=2)
    assert Point(x=1, y=2) != (1, 2)


def test_a_field_can_neither_be_set_nor_deleted() -> None:
    """Nor can another attribute be added."""
    point: Any = Point(x=1, y=2)
    with pytest.raises(AttributeError, match="Point cannot be changed"):
        point.x = 3
    with pytest.raises(AttributeError, match="Point cannot be changed"):
        point.z = 3
    with pytest.raises(AttributeError, match="Point cannot be changed"):
        del point.x
    assert point == Point(x=1, y=2)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_value_is_copied_and_pickled(again: Any) -> None:
    """The copy is equal."""
    assert again(Point(x=1, y=2)) == Point(x=1, y=2)


def test_a_value_is_matched_by_its_fields() -> None:
    """A pattern names them."""
    match NamedPoint(x=1, y=2, name="a"):
        case Point(x=1, y=y):
            found = y
    assert found == 2


def test_a_value_is_not_matched_by_position() -> None:
    """Keyword-only fields have no order."""
    assert Point.__match_args__ == ()


class Secret(FrozenValue):
    """A value whose fields hold a secret."""

    __slots__ = ("secret",)

    secret: str


def test_a_value_with_slots_has_no_dictionary() -> None:
    """`vars()` shows nothing of it, and it equals another one by its field all the same."""
    value = Secret(secret="s3cr3t")
    assert not hasattr(value, "__dict__")
    assert weakref.ref(value)() is value
    assert value == Secret(secret="s3cr3t")
    assert value.replace(secret="other") != value
