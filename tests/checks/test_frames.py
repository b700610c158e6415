"""Errors lose the frames that they were raised in, which hold secrets, and keep everything else."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from aio_authgrpc._checks.frames import hiding_arguments, without_frames
from aio_authgrpc.errors import ConfigurationError


def raised(error: BaseException, *, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:  # noqa: BLE001 - it is what is wanted
        return caught


def test_an_error_and_all_that_it_is_linked_to_lose_their_frames() -> None:
    """Causes, contexts that `from None` suppresses, and the members of a group."""
    cause, member = raised(KeyError("cause")), raised(KeyError("member"))
    context = raised(ExceptionGroup("context", [member]))  # type: ignore[type-var]  # an Exception
    error = raised(ValueError("error"), cause=cause)
    cause.__context__ = context
    assert without_frames(error) is error
    assert [link.__traceback__ for link in (error, cause, context, member)] == [None] * 4


def test_links_that_form_a_ring_are_each_looked_at_once() -> None:
    """`raise error from error` makes one."""
    error = raised(ValueError())
    error.__cause__ = error
    assert without_frames(error).__traceback__ is None


def test_a_note_says_where_an_error_was_raised() -> None:
    """A user finds the line of a mistake without the traceback; an object raised again has one note."""
    error = raised(KeyError("x"))
    assert error.__traceback__ is not None
    line = error.__traceback__.tb_lineno
    without_frames(raised(without_frames(error)))
    (note,) = error.__notes__
    assert f'File "{__file__}", line {line}, in raised' in note


def test_an_error_of_this_package_has_no_note() -> None:
    """Its text says what is wrong; where in this package it was found tells a user nothing."""
    assert not hasattr(without_frames(raised(ConfigurationError("x", field="y"))), "__notes__")


def test_an_error_that_was_raised_in_this_package_alone_has_no_note() -> None:
    """As a `TypeError` for an argument of another name."""
    function = hiding_arguments(raised)
    with pytest.raises(TypeError) as caught:
        function(argument=1)  # type: ignore[call-arg]  # the mistake
    assert not hasattr(caught.value, "__notes__")


def test_an_error_that_refuses_notes_loses_its_frames() -> None:
    """Its class belongs to a user."""

    class StubbornError(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    assert without_frames(raised(StubbornError())).__traceback__ is None


@pytest.mark.parametrize("arguments", [{"secret": "s3cr3t"}, {"secret": "s3cr3t", "other": 1}])
def test_a_function_that_hides_its_arguments_raises_without_them(arguments: dict[str, Any]) -> None:
    """Only the caller's frame is left, on every Python."""

    @hiding_arguments
    def function(secret: str) -> None:
        raise ValueError("refused")

    with pytest.raises((ValueError, TypeError)) as caught:
        function(**arguments)
    (frame,) = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert frame.f_code.co_filename == __file__
