"""What the end of a call says: of a real call without waiting for it, and of one that was never made."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar, cast

import grpc
import grpc.aio

from aio_authgrpc.errors import AuthRpcError

T = TypeVar("T")

_CANCELLED_DETAILS = "Locally cancelled by application!"  # what a real call says


def is_over(call: grpc.aio.Call) -> bool:
    """Return whether a call is done, or cannot be asked: an interceptor may return something of its own."""
    try:
        return call.done()
    except Exception:  # noqa: BLE001 - users' code, and grpc.aio's own around it
        return True


def end_unsent(call: grpc.aio.Call) -> None:
    """End a call that raised and is not over: gRPC could not send it, and would never give it an end."""
    if not is_over(call):
        call.cancel()


def final_code(call: grpc.aio.Call) -> grpc.StatusCode | None:
    """Return the code of a call that is done, without waiting; None where it has none.

    `code()` is a coroutine method, but on a call that is done it finishes at its first step.
    """
    return answer_of(call.code())


def details_of(call: grpc.aio.Call) -> str:
    """Return the details of a call that is done, without waiting."""
    return answer_of(call.details()) or ""


def challenge_of(call: grpc.aio.Call) -> str:
    """Return the `www-authenticate` of a call that is done, or "" without one (RFC 6750, 3)."""
    trailing: grpc.aio.Metadata | None = answer_of(call.trailing_metadata())
    value = None if trailing is None else trailing.get("www-authenticate")
    return value if isinstance(value, str) else ""


def has_headers(call: grpc.aio.Call) -> bool:
    """Return whether response headers with metadata came before the status of a call that is done.

    They commit the RPC (gRFC A6): the server's method has begun to answer. grpc.aio shows headers without
    metadata as it shows none, and an HTTP error's.
    """
    return bool(answer_of(call.initial_metadata()))


def answer_of(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """Return what a coroutine answers at its first step, or None if it would wait or raises."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return cast("T", finished.value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - an interceptor raised: such a call has no status
        return None
    coroutine.close()
    return None


def status_of(end: BaseException) -> tuple[grpc.StatusCode, str]:
    """Return the code and the details of a call that ended with this error and no RPC."""
    if isinstance(end, grpc.aio.AioRpcError):
        return end.code(), end.details() or ""
    if isinstance(end, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED, _CANCELLED_DETAILS
    return grpc.StatusCode.INTERNAL, f"The call could not be made: {type(end).__name__}."


def raise_end(end: BaseException) -> NoReturn:
    """Raise why a call was never made, as another object for each caller: each raise adds to a traceback."""
    if isinstance(end, AuthRpcError):
        raise end.copy()
    if isinstance(end, asyncio.CancelledError):
        raise asyncio.CancelledError
    raise end
