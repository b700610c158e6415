"""What a fleet asks of the token endpoint in a day: 1 000 hosts of 4 workers, on a virtual clock.

    python benchmarks/simulation.py [--hosts 1000] [--workers 4] [--hours 24] [--seed 1] [--json]

Each worker is a real `TokenCache` of this package. Virtual are the time (an event loop that jumps to its next
timer), the token endpoint (a coroutine that takes 50 to 150 ms, and has no limit of its own) and the store.
The fleet is deployed within one minute. Tokens live for an hour; every worker makes a call about each second.
Calls that find a fresh token change nothing and are left out. After 19.5 hours the endpoint is out of order
for 10 minutes, from the next request on: when a wave of refreshes has just begun. The scenarios:

    jitter          as it is
    no jitter       every draw of the cache's random numbers is 1: all refresh, and come back, in step
    shared          as it is, and all workers share their token through a store
    shared, no jitter

The store is modelled in memory with the rules of a lease: one process asks the endpoint, the others look
again after 20 to 250 ms, and a worker that has waited for 5 s asks by itself. A worker is lost from its first
call that fails for want of a token until one succeeds; a call that fails while its worker's token lives would
be a mistake of the cache.

The whole fleet takes half an hour of CPU time: the outage makes a hundred thousand requests fail. `--hosts
100` is a tenth of it; without a store the workers know nothing of each other, so that its counts scale.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import selectors
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from figures import print_json, print_table

import aio_authgrpc
from aio_authgrpc._tokens.freshness import limits
from aio_authgrpc.errors import TokenUnavailableError
from aio_authgrpc.tokens import TokenCache, TokenState

LIFETIME = 3600.0
DEPLOYED_WITHIN = 60.0
OUTAGE_AFTER = 19.5 * 3600
OUTAGE = 600.0
CALLS_A_SECOND = 1.0
# A loop's time starts above zero, as a machine's.
_START = 10_000.0
_EPOCH = 1_700_000_000.0
_STORE_TAKES = 0.001
_FIRST_LOOK, _LONGEST_LOOK, _LOOK_FACTOR, _LEASE = 0.02, 0.25, 1.5, 5.0


# Virtual time


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: what the loop would wait for its next timer, the time jumps ahead."""

    now = _START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # nothing is due, ever: another thread may wake the loop
            return super().select()
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer as soon as there is nothing else to do."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._jumping.now


class LoopClock:
    """Is a `Clock` of the running loop's time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def monotonic(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def time(self) -> float:
        """Return the loop's time as seconds since the epoch."""
        return _EPOCH + self._loop.time()

    async def sleep(self, seconds: float, /) -> None:
        """Wait for `seconds` of the loop's time."""
        await asyncio.sleep(seconds)


class AlwaysOne(random.Random):
    """Draws no random numbers."""

    def random(self) -> float:
        """Return 1."""
        return 1.0


# The world


class Endpoint:
    """Issues tokens that live for an hour, and counts the requests of each second since the deployment.

    Args:
        clock: Its time.
        outage_after: Seconds after which the next request begins the outage.
        rng: Draws how long an answer takes.
    """

    def __init__(self, clock: LoopClock, outage_after: float, rng: random.Random) -> None:
        self._clock = clock
        self._deployed_at = clock.monotonic()
        self._outage_after = outage_after
        self._rng = rng
        self.requests: Counter[int] = Counter()
        self.outage_at: float | None = None
        self._issued = 0

    @property
    def now(self) -> float:
        """Seconds since the deployment began."""
        return self._clock.monotonic() - self._deployed_at

    async def fetch(self, _: aio_authgrpc.TokenRequest) -> aio_authgrpc.Token:
        """Return a new token, or fail in the outage."""
        self.requests[int(self.now)] += 1
        if self.outage_at is None and self.now >= self._outage_after:
            self.outage_at = self.now
        await self._clock.sleep(self._rng.uniform(0.05, 0.15))
        if self.outage_at is not None and self.now < self.outage_at + OUTAGE:
            raise TokenUnavailableError("The endpoint is out of order.")
        self._issued += 1
        return aio_authgrpc.Token(f"token-{self._issued}", expires_at=self._clock.time() + LIFETIME)


@dataclass(slots=True)
class Store:
    """What the workers share: the last token, and whether one of them is asking for the next."""

    token: aio_authgrpc.Token | None = None
    leased: bool = False


class SharedSource:
    """One worker's way to the store, and to the endpoint."""

    def __init__(self, store: Store, endpoint: Endpoint, clock: LoopClock, rng: random.Random) -> None:
        self._store = store
        self._endpoint = endpoint
        self._clock = clock
        self._rng = rng

    async def fetch(self, request: aio_authgrpc.TokenRequest) -> aio_authgrpc.Token:
        """Return the store's token, or ask for one with the lease, or without it after a while."""
        looking_until, pause = self._clock.monotonic() + _LEASE, _FIRST_LOOK
        while self._clock.monotonic() < looking_until:
            await self._clock.sleep(_STORE_TAKES)
            if (token := self._stored(request)) is not None:
                return token
            if not self._store.leased:
                return await self._fetch_for_all(request)
            await self._clock.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(_LONGEST_LOOK, pause * _LOOK_FACTOR)
        return await self._endpoint.fetch(request)

    async def _fetch_for_all(self, request: aio_authgrpc.TokenRequest) -> aio_authgrpc.Token:
        self._store.leased = True
        try:
            self._store.token = await self._endpoint.fetch(request)
        finally:
            self._store.leased = False
        return self._store.token

    def _stored(self, request: aio_authgrpc.TokenRequest) -> aio_authgrpc.Token | None:
        token, unwanted = self._store.token, request.unwanted
        if token is None or token.expires_at is None or token is unwanted:
            return None
        issued_at = token.expires_at - LIFETIME
        stale_at, expired_at = limits(now=issued_at, expires_at=token.expires_at, jitter=0.0)
        return token if self._clock.time() < (expired_at if unwanted is None else stale_at) else None


@dataclass(slots=True)
class Losses:
    """Which workers had no token that could be used, and when.

    Attributes:
        periods: Seconds since the deployment at which service was lost and was back, for each loss.
        while_token_lived: How many calls failed though their worker's token had not expired.
    """

    periods: list[tuple[float, float]] = field(default_factory=list)
    while_token_lived: int = 0


class Worker:
    """Calls about once a second, for ever, and notes when it cannot."""

    def __init__(self, cache: TokenCache, endpoint: Endpoint, losses: Losses, rng: random.Random) -> None:
        self._cache = cache
        self._endpoint = endpoint
        self._losses = losses
        self._rng = rng

    async def run(self, starts_in: float) -> None:
        """Be deployed after some seconds, and call."""
        await asyncio.sleep(starts_in)
        lost_at: float | None = None
        while True:
            due_at = self._endpoint.now
            try:
                await self._cache.get()
            except TokenUnavailableError:
                lost_at = due_at if lost_at is None else lost_at
                self._losses.while_token_lived += self._cache.status().state is not TokenState.EXPIRED
            else:
                if lost_at is not None:
                    self._losses.periods.append((lost_at, self._endpoint.now))
                lost_at = None
            await asyncio.sleep(self._idle_for() + self._rng.expovariate(CALLS_A_SECOND))

    def _idle_for(self) -> float:
        """Return the seconds in which calls change nothing: the token is fresh."""
        refresher, entry = self._cache._refresher, self._cache._entry  # as `keep_warm` asks
        fresh = self._cache.status().state is TokenState.FRESH
        return max(0.0, refresher.due_in(entry)) if fresh else 0.0


# The scenarios


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet, and how it gets its tokens."""

    name: str
    shared: bool
    jitter: bool
    hosts: int = 1000
    workers: int = 4
    hours: float = 24.0
    seed: int = 1


def scenarios(hosts: int, workers: int, hours: float, seed: int) -> list[Scenario]:
    """Return the four for one fleet."""
    fleet: dict[str, Any] = {"hosts": hosts, "workers": workers, "hours": hours, "seed": seed}
    return [
        Scenario("jitter", shared=False, jitter=True, **fleet),
        Scenario("no jitter", shared=False, jitter=False, **fleet),
        Scenario("shared", shared=True, jitter=True, **fleet),
        Scenario("shared, no jitter", shared=True, jitter=False, **fleet),
    ]


async def _live(scenario: Scenario) -> dict[str, Any]:
    logging.getLogger("aio_authgrpc").setLevel(logging.ERROR)  # thousands would tell of the outage
    rng = random.Random(scenario.seed)
    clock, losses, store = LoopClock(), Losses(), Store()
    endpoint = Endpoint(clock, OUTAGE_AFTER * scenario.hours / 24, rng)
    async with aio_authgrpc.AiohttpRequest() as request:
        tasks = []
        for _ in range(scenario.hosts * scenario.workers):
            own = random.Random(rng.random())
            source = SharedSource(store, endpoint, clock, own) if scenario.shared else endpoint
            draws = own if scenario.jitter else AlwaysOne()
            cache = TokenCache(source, request=request, clock=clock, rng=draws)
            worker = Worker(cache, endpoint, losses, own)
            tasks.append(asyncio.create_task(worker.run(own.uniform(0, DEPLOYED_WITHIN))))
        await asyncio.sleep(scenario.hours * 3600)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return summary(endpoint, losses)


def simulate(scenario: Scenario) -> dict[str, Any]:
    """Return what happened in a scenario; see `summary`."""
    started = time.perf_counter()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        found = runner.run(_live(scenario))
    return {"name": scenario.name, "took": time.perf_counter() - started, **found}


def _most(requests: Counter[int], start: float, end: float) -> int:
    """Return the most requests in a second from `start` to `end`."""
    return max((count for second, count in requests.items() if start <= second < end), default=0)


def summary(endpoint: Endpoint, losses: Losses) -> dict[str, Any]:
    """Return the requests of the day and the losses of the outage. Times are seconds since the deployment."""
    requests, began = endpoint.requests, endpoint.outage_at or 0.0
    over = began + OUTAGE
    minutes: Counter[int] = Counter()
    for second, count in requests.items():
        minutes[second // 60] = max(minutes[second // 60], count)
    back = sorted(end - over for _, end in losses.periods)
    return {
        "requests": requests.total(),
        "most_at_deployment": _most(requests, 0, 2 * DEPLOYED_WITHIN),
        "most_before_outage": _most(requests, began - 3 * LIFETIME, int(began)),
        "most_in_outage": _most(requests, int(began), over),
        "most_after_outage": _most(requests, over, over + 2 * LIFETIME),
        "outage_at": began,
        "lost": len(losses.periods),
        "lost_while_token_lived": losses.while_token_lived,
        "first_lost_after": min((start - began for start, _ in losses.periods), default=None),
        "half_back_after": back[len(back) // 2] if back else None,
        "all_back_after": back[-1] if back else None,
        "most_by_minute": [[minute, most] for minute, most in sorted(minutes.items())],
        "outage_by_second": [requests[round(began) + second] for second in range(-60, round(OUTAGE) + 300)],
    }


def run(chosen: Sequence[Scenario]) -> list[dict[str, Any]]:
    """Return what happened in each scenario, each simulated in a process of its own."""
    with ProcessPoolExecutor() as processes:
        return list(processes.map(simulate, chosen))


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} s"


def _show(found: Sequence[dict[str, Any]]) -> None:
    counts = ("requests", "most_at_deployment", "most_before_outage", "most_in_outage", "most_after_outage")
    rows = [
        (
            one["name"],
            *(str(one[count]) for count in counts),
            f"{one['lost']}",
            *(_seconds(one[name]) for name in ("first_lost_after", "half_back_after", "all_back_after")),
        )
        for one in found
    ]
    columns = (
        *("fleet", "requests", "/s at first", "/s later", "/s outage", "/s after"),
        *("lost", "first", "half back", "all back"),
    )
    print_table("A day", columns, rows)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    arguments = parser.parse_args()
    fleet = (arguments.hosts, arguments.workers, arguments.hours, arguments.seed)
    found = run(scenarios(*fleet))
    if arguments.json:
        names = ("hosts", "workers", "hours", "seed")
        print_json({**dict(zip(names, fleet, strict=True)), "outage": OUTAGE, "scenarios": found})
    else:
        _show(found)


if __name__ == "__main__":
    main()
