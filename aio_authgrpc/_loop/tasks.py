"""Tasks that start later, and whether one is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import TypeVar

T = TypeVar("T")


def start_task(
    coroutine: Coroutine[None, None, T], *, name: str, context: Context | None = None
) -> asyncio.Task[T]:
    """Return a task that takes its first step after this call.

    The eager task factory (Python 3.12) runs a coroutine before `create_task` returns. A listener of events
    that asks for a token meanwhile would find no task, and make another one.
    """
    return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), name=name, context=context)


def is_cancelled() -> bool:
    """Return whether the running task is being cancelled, or none runs."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def cancellations() -> int:
    """Return how often the running task was cancelled, less what was caught by a time-out; 0 without one."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
