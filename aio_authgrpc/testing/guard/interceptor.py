"""The guard itself: an interceptor that lets a call through, or refuses it as ESPv2 does.

It is for tests alone and protects no production service. ESPv2 is Envoy with its `jwt_authn` filter.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, TypeVar

import grpc
import grpc.aio

from aio_authgrpc.testing.guard.refusal import RefusedError

_Q = TypeVar("_Q")
_R = TypeVar("_R")
_Behaviour: TypeAlias = "Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[None]]"

_user_info: contextvars.ContextVar[Mapping[str, object] | None] = contextvars.ContextVar(
    "user_info", default=None
)


def endpoint_user_info() -> Mapping[str, object] | None:
    """Return, in a handler, the validated payload of the caller's token; None if the guard needs no token.

    ESPv2 sends the payload upstream in the header `x-endpoint-api-userinfo`. This guard runs in the process
    of the service and cannot change received metadata, so the payload is a context variable of the call.
    Metadata of that name comes from the client and proves nothing.
    """
    return _user_info.get()


class Guard(grpc.aio.ServerInterceptor):
    """Let a call through if its check passes, and otherwise refuse it in place of the service. For tests.

    Args:
        check: Takes the call's metadata; returns the payload for `endpoint_user_info()`, or raises
            `RefusedError`.
        secure: Whether the server has TLS: the challenge contains the URL of the method.

    Attributes:
        passed: The number of calls that reached the service.
        refused: The number of refused calls.
    """

    def __init__(
        self, check: Callable[[Mapping[str, str]], Awaitable[Mapping[str, object] | None]], *, secure: bool
    ) -> None:
        self._check = check
        self._scheme = "https" if secure else "http"
        self.passed = 0
        self.refused = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[_Q, _R] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Q, _R] | None:
        """Check one call. Called by the server."""
        try:
            payload = await self._check(_joined(handler_call_details))
        except RefusedError as refusal:
            self.refused += 1
            # A handler of two streams fits every arity: it aborts before it reads or sends a message.
            return grpc.stream_stream_rpc_method_handler(self._refuse(refusal, handler_call_details.method))
        self.passed += 1
        # The interceptor and the handler run in the same task, which is the call's own.
        _user_info.set(payload)
        return await continuation(handler_call_details)

    def _refuse(self, refusal: RefusedError, method: str) -> _Behaviour:
        challenge = f'Bearer realm="{self._scheme}://localhost{method}"'
        if refusal.challenge is not None:
            challenge += f', error="{refusal.challenge}"'

        async def abort(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            await context.abort(refusal.code, refusal.details, (("www-authenticate", challenge),))

        return abort


def _joined(details: grpc.HandlerCallDetails) -> Mapping[str, str]:
    """Return the text metadata. Repeated keys are joined by a comma, as in HTTP: no valid token then."""
    joined: dict[str, str] = {}
    for name, value in details.invocation_metadata:
        text = value if isinstance(value, str) else ""
        joined[name] = f"{joined[name]},{text}" if name in joined else text
    return joined
