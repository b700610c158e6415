"""What `soak.py` does to the endpoint, the network and the server, when, and which failures that explains."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from server_process import OrderedProcess

import aio_authgrpc
from aio_authgrpc.events import RefreshFailed, RefreshStarted, RefreshSucceeded, TokenEvent

Order = tuple[str, str, Mapping[str, Any]]
"""The part, the name of its method, and the arguments."""

# Each is carried out at one or two requests: fewer than a refresh makes, or one that it may not repeat.
ENDPOINT_FAULTS: Mapping[str, Sequence[Order]] = {
    "503": [("authority", "fail", {"status": 503})],
    "503 twice": [("authority", "fail", {"status": 503, "times": 2})],
    "429, Retry-After": [("authority", "fail", {"status": 429, "headers": {"Retry-After": "1"}})],
    "400 invalid_grant": [("authority", "fail", {"status": 400, "body": {"error": "invalid_grant"}})],
    "200 with an error": [("authority", "fail", {"status": 200, "body": {"error": "internal_failure"}})],
    "garbage": [("authority", "send_garbage", {})],
    "truncated JSON": [("authority", "truncate", {})],
    "wrong content type": [("authority", "mislabel", {})],
    "endless body": [("authority", "flood", {})],
    "redirect": [("authority", "redirect", {"location": "http://127.0.0.1:9/"})],
    "slow answer": [("authority", "delay", {"seconds": 0.3, "times": 1})],
    "reset": [("authority", "reset_connections", {})],
    "reset mid-body": [("endpoint", "reset_connections", {"after": 300}), ("endpoint", "cut", {})],
    "end mid-body": [("endpoint", "end_connections", {"after": 300}), ("endpoint", "cut", {})],
    "slow-loris": [("endpoint", "trickle", {}), ("endpoint", "cut", {})],
    "half-open": [("endpoint", "hold", {"times": 1}), ("endpoint", "cut", {})],
    "latency": [("endpoint", "delay", {"seconds": 0.2, "times": 1}), ("endpoint", "cut", {})],
    "cut": [("endpoint", "cut", {})],
}
OUTAGES = ("endpoint down", "endpoint frozen", "endpoint fails")
NETWORK_FAULTS = ("network cut", "network frozen", "network down")
RESTART = "server restarted"
# What gRPC makes of a connection that is lost, and of a server that stops.
_OF_THE_NETWORK = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
# Longer than a token lives: a fault that waits for the next request has met it then.
_ROUND = 4.0
# After every third disturbance, so that there is something to compare with.
_REST = 8.0
# gRPC tries to connect again at the latest after so long (soak.py sets that), and TLS takes its time.
RECONNECT = 1.5
# A token is not used in the last 5 % of its life.
_UNUSED_SHARE = 0.05


@dataclass(slots=True)
class Disturbance:
    """Something that was done, from when until when, by the event loop's clock."""

    what: str
    began_at: float
    ended_at: float | None = None

    def touches(self, began_at: float, ended_at: float) -> bool:
        """Whether it was there at any moment between the two."""
        return self.began_at <= ended_at and (self.ended_at is None or self.ended_at >= began_at)


@dataclass(slots=True)
class Refreshes:
    """What the token cache told about its refreshes, by the wall clock.

    Attributes:
        rotations: How many brought a token.
        attempts: How often the source was asked in all of them.
        failed: How many brought none.
        too_early: How many began before the back-off was over.
    """

    rotations: int = 0
    attempts: int = 0
    failed: int = 0
    too_early: int = 0
    under_way: bool = False
    seen: bool = False
    usable_until: float = 0.0
    last_began_at: float = 0.0
    _next_attempt_at: float = 0.0

    @property
    def ended(self) -> int:
        """How many have ended, one way or the other."""
        return self.rotations + self.failed

    def note(self, event: TokenEvent) -> None:
        """Take in an event."""
        if isinstance(event, RefreshStarted):
            self.under_way = self.seen = True
            self.last_began_at = event.at
            self.too_early += event.at < self._next_attempt_at - 0.001
        elif isinstance(event, RefreshSucceeded):
            self.under_way = False
            self.rotations += 1
            self.attempts += event.attempts
            self._next_attempt_at = 0.0
            if event.expires_at is not None:
                self.usable_until = event.expires_at - _UNUSED_SHARE * (event.expires_at - event.at)
        elif isinstance(event, RefreshFailed):
            self.under_way = False
            self.failed += 1
            self.attempts += event.attempts
            self._next_attempt_at = event.next_attempt_at


@dataclass(slots=True)
class Chaos:
    """Carries out a seeded sequence of disturbances, with rests between, and remembers them.

    Args:
        authority: The process that carries out the orders for the token endpoint.
        server: The one that carries out those for the network and the gRPC server.
        rng: Chooses.
        refreshes: When the token ends that is served.
    """

    authority: OrderedProcess
    server: OrderedProcess
    rng: random.Random
    refreshes: Refreshes
    done: deque[Disturbance] = field(default_factory=lambda: deque(maxlen=20))
    counts: Counter[str] = field(default_factory=Counter)
    _restarting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def in_force(self, began_at: float, ended_at: float) -> bool:
        """Whether anything was disturbed, or recovered, between the two."""
        return any(one.touches(began_at - RECONNECT, ended_at) for one in self.done)

    async def run(self) -> None:
        """Disturb until cancelled."""
        what = [*ENDPOINT_FAULTS, *OUTAGES * 2, *NETWORK_FAULTS * 2]
        while True:
            for number, name in enumerate(self.rng.sample(what, len(what))):
                await asyncio.sleep(self.rng.uniform(0.5, 1.5) if number % 3 != 2 else _REST)
                async with self._restarting:
                    await self._disturb(name)

    async def restart_server(self) -> None:
        """Stop the gRPC server, and start it again on the same port half a second later."""
        async with self._restarting:
            with _during(self, RESTART):
                await self.server.order("stop")
                await asyncio.sleep(0.5)
                await self.server.order("start")

    async def _disturb(self, name: str) -> None:
        with _during(self, name):
            if name in ENDPOINT_FAULTS:
                for order in ENDPOINT_FAULTS[name]:
                    await self._spoil(*order)
                await self._next_refresh()
                await self._behave("authority", "endpoint")
            elif name in OUTAGES:
                await self._outage(name)
            else:
                await self._disturb_network(name)

    async def _next_refresh(self) -> None:
        """Wait until a refresh has ended, one way or the other."""
        before = self.refreshes.ended
        for _ in range(int(_ROUND / 0.02)):
            if self.refreshes.ended > before:
                return
            await asyncio.sleep(0.02)

    async def _outage(self, name: str) -> None:
        """Let the endpoint fail for a while that may be longer than a token's remaining life."""
        orders: dict[str, Order] = {
            "endpoint down": ("endpoint", "go_down", {}),
            "endpoint frozen": ("endpoint", "freeze", {}),
            "endpoint fails": ("authority", "fail", {"status": 503, "times": None}),
        }
        await self._spoil(*orders[name])
        await asyncio.sleep(self.rng.choice([0.2, 0.5, 1.5, 4.0]))
        await self._behave("authority", "endpoint")
        await self._spoil("endpoint", "come_up", {})

    async def _disturb_network(self, name: str) -> None:
        order = {"network cut": "cut", "network frozen": "freeze", "network down": "go_down"}[name]
        await self._spoil("network", order, {})
        await asyncio.sleep(self.rng.uniform(0.1, 0.5))
        await self._behave("network")
        await self._spoil("network", "come_up", {})

    async def _spoil(self, part: str, order: str, arguments: Mapping[str, Any]) -> None:
        process = self.server if part == "network" else self.authority
        await process.order("spoil", part, order, arguments)

    async def _behave(self, *parts: str) -> None:
        for part in parts:
            await self._spoil(part, "behave", {})

    def cause_of(self, error: BaseException, began_at: float, ended_at: float, offset: float) -> str:
        """Return which disturbance explains a failed call; what begins with "UNEXPLAINED" is none.

        Args:
            error: What the call raised.
            began_at: When it was made, by the loop's clock.
            ended_at: When it failed.
            offset: What to add to the loop's clock for the wall clock.
        """
        name = f"{type(error).__name__} {getattr(error, 'code', lambda: None)()}"
        if isinstance(
            error, aio_authgrpc.errors.TokenUnavailableError | aio_authgrpc.errors.TokenRefusedError
        ):
            return self._cause_of_no_token(ended_at, offset) or f"UNEXPLAINED: {name}: {error}"[:100]
        of_grpc = isinstance(error, grpc.aio.AioRpcError) and not isinstance(
            error, aio_authgrpc.AuthGrpcError
        )
        if of_grpc and error.code() in _OF_THE_NETWORK:
            for one in reversed(tuple(self.done)):
                late = one.ended_at is not None and one.ended_at + RECONNECT < began_at
                if one.what in (*NETWORK_FAULTS, RESTART) and not late:
                    return one.what
        return f"UNEXPLAINED: {name}: {error}"[:100]

    def _cause_of_no_token(self, failed_at: float, offset: float) -> str | None:
        """Return the outage that outlasted the token, where the last refresh began during one that did."""
        for one in reversed(tuple(self.done)):
            ended_at = failed_at if one.ended_at is None else one.ended_at
            outlasted = ended_at + offset >= self.refreshes.usable_until
            began_in_it = one.began_at - 0.05 <= self.refreshes.last_began_at - offset <= ended_at
            if one.what in OUTAGES and outlasted and began_in_it:
                return one.what if one.ended_at is None else f"{one.what}, back-off"
        return None


class _during:  # noqa: N801 - reads as the statement that it is
    """Remember a disturbance for as long as the block takes."""

    def __init__(self, chaos: Chaos, what: str) -> None:
        self._chaos = chaos
        self._one = Disturbance(what, asyncio.get_running_loop().time())

    def __enter__(self) -> None:
        self._chaos.done.append(self._one)
        self._chaos.counts[self._one.what] += 1

    def __exit__(self, *_: object) -> None:
        self._one.ended_at = asyncio.get_running_loop().time()
