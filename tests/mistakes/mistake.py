"""A mistake of a user, and what is said about it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest

from aio_authgrpc import AuthGrpcError


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where a mistake is made."""

    directory: Path
    environment: pytest.MonkeyPatch


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A mistake, how it is made, and the patterns of what has to be said: the cause, and what to do."""

    name: str
    make: Callable[[Stage], object]
    cause: str
    next_step: str


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the user reads: all of it, and the part that advises. For errors of the package, it is `hint`."""

    text: str
    advice: str


async def said(mistake: Mistake, stage: Stage) -> Said:
    """Make the mistake; return the text of the error, or of the warning where there is none."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            made = mistake.make(stage)
            if inspect.isawaitable(made):
                await made
        except AuthGrpcError as error:
            return Said(text=str(error), advice=error.hint)
        except Exception as error:  # noqa: BLE001 - whatever the user sees
            details = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            text = "\n".join([f"{details}", *getattr(error, "__notes__", [])])
            return Said(text=text, advice=text)
    text = "\n".join(str(warning.message) for warning in warned)
    return Said(text=text, advice=text)
