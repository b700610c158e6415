"""The faults of a token endpoint, and the caller's view of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aio_authgrpc import AuthRpcError
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError
from aio_authgrpc.testing import Authority, ChaosProxy


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFault:
    """One way to fail.

    Attributes:
        name: The test's id.
        order: Lets it happen to the next so many requests (None: to all). Coroutine functions are awaited.
        error: What the calls get that find no token.
        arrives: Whether the request reaches the authority.
        retried: Whether a refresh asks again.
        hangs: Whether the request ends by its time-out alone.
    """

    name: str
    order: Callable[[Authority, ChaosProxy, int | None], Awaitable[None] | None]
    error: type[AuthRpcError] = TokenUnavailableError
    arrives: bool = True
    retried: bool = True
    hangs: bool = False

    async def happen(self, authority: Authority, endpoint: ChaosProxy, times: int | None = None) -> None:
        """Let it happen."""
        ordered = self.order(authority, endpoint, times)
        if ordered is not None:
            await ordered

    def requests(self, attempts: int) -> int:
        """Return how many requests the authority sees where so many were attempted."""
        return attempts if self.arrives else 0


async def go_down(authority: Authority, endpoint: ChaosProxy, times: int | None) -> None:
    await endpoint.go_down()


def freeze(authority: Authority, endpoint: ChaosProxy, times: int | None) -> None:
    endpoint.freeze()


def hold(authority: Authority, endpoint: ChaosProxy, times: int | None) -> None:
    endpoint.hold(times=times)


OF_THE_NETWORK = [
    EndpointFault(name="half-open", order=hold, arrives=False, hangs=True),
    EndpointFault(
        name="slow-loris", order=lambda _, endpoint, times: endpoint.trickle(times=times), hangs=True
    ),
    EndpointFault(name="reset", order=lambda _, endpoint, times: endpoint.reset_connections(times=times)),
    EndpointFault(
        name="reset-mid-body",
        order=lambda _, endpoint, times: endpoint.reset_connections(after=300, times=times),
    ),
    EndpointFault(
        name="ended-mid-body",
        order=lambda _, endpoint, times: endpoint.end_connections(after=300, times=times),
    ),
    EndpointFault(
        name="latency", order=lambda _, endpoint, times: endpoint.delay(3600, times=times), hangs=True
    ),
]
# Faults of the whole address: they cannot be ordered for a number of requests.
OUTAGES = [
    EndpointFault(name="down", order=go_down, arrives=False),
    EndpointFault(name="frozen", order=freeze, arrives=False, hangs=True),
]
OF_HTTP = [
    EndpointFault(name="503", order=lambda authority, _, times: authority.fail(503, times=times)),
    EndpointFault(name="429", order=lambda authority, _, times: authority.fail(429, times=times)),
    EndpointFault(name="garbage", order=lambda authority, _, times: authority.send_garbage(times=times)),
    EndpointFault(name="truncated-json", order=lambda authority, _, times: authority.truncate(times=times)),
    EndpointFault(
        name="200-with-an-error",
        order=lambda authority, _, times: authority.fail(200, {"error": "internal_failure"}, times=times),
    ),
    EndpointFault(name="endless-body", order=lambda authority, _, times: authority.flood(times=times)),
    EndpointFault(
        name="huge-body",
        order=lambda authority, _, times: authority.fail(200, "x" * (1024 * 1024 + 1), times=times),
    ),
]
REFUSALS = [
    EndpointFault(
        name="invalid-grant",
        order=lambda authority, _, times: authority.fail(400, {"error": "invalid_grant"}, times=times),
        error=TokenRefusedError,
        retried=False,
    ),
    EndpointFault(
        name="200-with-a-refusal",
        order=lambda authority, _, times: authority.fail(200, {"error": "invalid_grant"}, times=times),
        error=TokenRefusedError,
        retried=False,
    ),
    EndpointFault(
        name="redirect",
        order=lambda authority, _, times: authority.redirect(authority.jwks_url, times=times),
        error=TokenRefusedError,
        retried=False,
    ),
]
PASSING = OF_THE_NETWORK + OF_HTTP
"""The faults that a later request of the same refresh can escape."""
ALL = PASSING + OUTAGES + REFUSALS
