"""Errors without the frames that they were raised in, whose locals hold keys, tokens and requests.

Error reporters (Sentry, rich, loguru) show the locals of each frame of an error, and of its causes.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from aio_authgrpc.errors import AuthGrpcError

E = TypeVar("E", bound=BaseException)
P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE = str(Path(__file__).parents[1])
_NOTE = "Raised at (the frames were dropped, because their locals hold secrets):"


def without_frames(error: E) -> E:
    """Return the error without its traceback, and without those of all causes and contexts.

    After it, a `raise` without an error begins the traceback with the caller's frame: this function's own
    is not in it.

    A note says where in another package, or in a user's function, an error was raised.
    """
    for link in links_of(error):
        if link.__traceback__ is not None and not isinstance(link, AuthGrpcError):
            with suppress(Exception):  # a class may refuse attributes
                _add_note(link)
        link.with_traceback(None)  # not by assignment: a class may refuse that
    return error


def links_of(error: BaseException) -> list[BaseException]:
    """Return the error and all that it is linked to: causes, contexts, also suppressed ones, and members."""
    links: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and not any(link is known for known in links):
            links.append(link)
            waiting += [link.__cause__, link.__context__]
            if isinstance(link, BaseExceptionGroup):
                waiting += cast("BaseExceptionGroup[BaseException]", link).exceptions
    return links


def hiding_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that takes a secret: what it raises has no frame that holds an argument."""

    @functools.wraps(function)
    def hiding(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            without_frames(error)
            raise

    return hiding


def _add_note(error: BaseException) -> None:
    if any(note.startswith(_NOTE) for note in getattr(error, "__notes__", ())):
        return  # one object that is raised each time
    frames = [
        f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_qualname}'
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_PACKAGE)
    ]
    if frames:
        error.add_note("\n".join((_NOTE, *frames)))
