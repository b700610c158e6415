"""What Redis is asked, within a time, and the circuit that leaves a store alone that does not answer."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, TypeVar, cast

from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._checks.values import FrozenValue
from aio_authgrpc._loop.ownership import LoopBound
from aio_authgrpc._loop.tasks import cancellations, start_task
from aio_authgrpc.errors import WrongEventLoopError
from aio_authgrpc.tokens import Clock

T = TypeVar("T")

_log = logging.getLogger("aio_authgrpc")

# Seconds. A store that failed is left alone for so long, then one look says whether it works again.
_PAUSE = 5.0
# Seconds. A wait for the store is counted in parts of this length, each after it was slept. However long the
# loop is busy, two are counted at most: the answer may have come meanwhile, and waits to be read.
_PART = 0.005
# Characters. gRPC's servers take 8 KiB of metadata; a value above that is not one of ours.
LARGEST_VALUE = 65536

# In place of a lease's holder and of a fence: each process has to fetch, because nothing can be stored.
UNSHARED = "-"
# A burst of calls asks this many at once: redis-py opens a connection for each, and 100 at most.
_MOST_AT_ONCE = 16

# Every script gets two keys, that of the token and that of its lease, and runs alone: no other client's
# command comes between. The token is a hash of `fence` and `value`; the lease names its holder, which has
# chosen the name: it can give back a lease of which it was not told. `TIME` makes fences that grow even
# where a failover has lost the last lease.
_LOOK = f"""
local found = redis.call('HGET', KEYS[1], 'fence')
if found and not string.match(found, '^%d+$') then found = nil end
if found and found ~= ARGV[1] then
  if redis.call('HSTRLEN', KEYS[1], 'value') > {LARGEST_VALUE} then return {{found, '', 0}} end
  return {{found, redis.call('HGET', KEYS[1], 'value') or '', redis.call('PTTL', KEYS[1])}}
end
if ARGV[2] == '' then return {{}} end
local holder = redis.call('GET', KEYS[2])
if holder == '{UNSHARED}' then return {{holder}} end
if holder then return {{}} end
local time = redis.call('TIME')
local fence = math.max(time[1] * 1000000 + time[2], (tonumber(found or '') or 0) + 1)
fence = string.format('%.0f', fence)
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return {{fence}}
"""
_PUT = """
local found = tonumber(redis.call('HGET', KEYS[1], 'fence') or '') or 0
if found >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'value', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if redis.call('GET', KEYS[2]) == ARGV[4] then redis.call('DEL', KEYS[2]) end
return 1
"""
_RELEASE = f"""
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) == 0 then return redis.call('DEL', KEYS[2]) end
redis.call('SET', KEYS[2], '{UNSHARED}', 'PX', ARGV[2])
return 1
"""


class RedisClient(Protocol):
    """The one method that is used of a client: `redis.asyncio.Redis`, `RedisCluster`, or Valkey's."""

    def eval(self, script: str, numkeys: int, /, *keys_and_args: str | int) -> object:
        """Run a Lua script; awaiting what it returns gives the script's answer."""
        ...


class StoreUnavailableError(Exception):
    """The store failed, was too slow, or is left alone because of that."""


class Found(FrozenValue):
    """What a look has found: a value with its fence, or a lease, which is a fence alone, or nothing.

    Attributes:
        fence: Grows with each lease. "" where there is nothing, because another process has the lease;
            `UNSHARED` where its token could not be stored.
        value: None for a lease.
        seconds: How long the store keeps the value.
    """

    fence: str = ""
    value: str | None = None
    seconds: float = 0.0

    def __repr__(self) -> str:
        value = "no value" if self.value is None else "a value"
        return f"<Found {value} with the fence {self.fence!r} for {self.seconds:g} s>"


class Budget:
    """How long a call may wait for the store, in all that it asks."""

    def __init__(self, seconds: float) -> None:
        self._all = self.parts = math.ceil(seconds / _PART)

    def renew(self) -> None:
        """Begin anew: the call has waited for something else."""
        self.parts = self._all


class LeasedValues:
    """Values under names, and a lease for each name. It asks on one event loop, within a budget.

    Args:
        client: The user's, which stays open.
        prefix: Before each name.
        lease: Seconds after which a lease ends by itself.
        clock: Measures budgets and the pause of the circuit.
    """

    def __init__(self, client: RedisClient, *, prefix: str, lease: float, clock: Clock) -> None:
        self._client = client
        self._prefix = prefix
        self._lease = lease
        self._clock = clock
        self._loop = LoopBound("shared token store")
        self._turns = asyncio.Semaphore(_MOST_AT_ONCE)
        self._giving_back: set[asyncio.Task[None]] = set()
        self._asked_again_at = 0.0  # monotonic
        self._failures = 0  # in a row
        self._is_elsewhere = False

    async def look(self, name: str, budget: Budget, *, passed_over: str = "", holder: str = "") -> Found:
        """Return the value unless its fence is `passed_over`; else a free lease, if there is a `holder`.

        Raises:
            StoreUnavailableError: As do the other methods.
        """
        arguments = (passed_over, holder, round(self._lease * 1000))
        return await self._ask(_LOOK, name, budget, *arguments, holder=holder, read=_found)

    async def put(
        self, name: str, budget: Budget, *, fence: str, value: str, seconds: float, holder: str
    ) -> bool:
        """Store a value for so long, and give back the lease; False where there is a newer one."""
        arguments = (fence, value, max(1, int(seconds * 1000)), holder)
        return await self._ask(_PUT, name, budget, *arguments, holder=holder, read=bool)

    async def release(self, name: str, budget: Budget, *, holder: str, unshared: bool = False) -> None:
        """Give back the lease, if the holder still has it; or let nobody wait for as long as one is held."""
        milliseconds = round(self._lease * 1000) if unshared else 0
        await self._ask(_RELEASE, name, budget, holder, milliseconds, holder=holder, read=bool)

    async def _ask(
        self,
        script: str,
        name: str,
        budget: Budget,
        *arguments: str | int,
        holder: str,
        read: Callable[[Any], T],
    ) -> T:
        self._check_loop()
        before = cancellations()  # a cancelled task that gives back its lease has had one
        async with self._turns:
            self._check_circuit(budget)
            try:
                async with self._within(budget):
                    answer = read(await self._eval(script, name, *arguments))
                if cancellations() > before:  # redis-py drops a cancellation while it checks a connection
                    raise asyncio.CancelledError
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it may raise anything
                if cancellations() > before:  # a client may make another error of it
                    raise asyncio.CancelledError from None
                if holder and not cancellations():  # the store may have done it, or do it yet
                    self._give_back_later(name, holder)
                self._fail(error)
                raise StoreUnavailableError from None
        self._succeed()
        return answer

    def _check_circuit(self, budget: Budget) -> None:
        now = self._clock.monotonic()
        if now < self._asked_again_at or not budget.parts:
            raise StoreUnavailableError
        if self._failures:  # this one tries the store, and the others wait for what it finds
            self._asked_again_at = now + _PAUSE

    async def _eval(self, script: str, name: str, *arguments: str | int) -> Any:
        # In braces, the part of a key that tells a cluster its place: both keys are in one.
        key = f"{self._prefix}:{{{name}}}"
        asked = self._client.eval(script, 2, f"{key}:token", f"{key}:lease", *arguments)
        return await cast("Awaitable[Any]", asked)

    def _give_back_later(self, name: str, holder: str) -> None:
        """Let nobody wait for the holder, once the store answers. No call waits for that."""
        task = start_task(self._give_back(name, holder), name="aio_authgrpc lease")
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)

    async def _give_back(self, name: str, holder: str) -> None:
        with suppress(Exception):
            async with asyncio.timeout(self._lease):  # then it has ended by itself
                await self._eval(_RELEASE, name, holder, 0)

    def _check_loop(self) -> None:
        """Refuse another loop, and a forked process: the client's connections belong to the first one."""
        try:
            self._loop.check()
        except WrongEventLoopError as error:
            if not self._is_elsewhere:
                self._is_elsewhere = True
                _log.warning("Tokens are not shared here: %s", error)
            raise StoreUnavailableError from None

    @asynccontextmanager
    async def _within(self, budget: Budget) -> AsyncGenerator[None]:
        """Raise TimeoutError in the block when the budget is spent."""
        async with asyncio.timeout(None) as limit:
            watch = start_task(self._spend(budget, limit), name="aio_authgrpc store limit")
            try:
                yield
            finally:
                watch.cancel()
                await asyncio.wait({watch})

    async def _spend(self, budget: Budget, limit: asyncio.Timeout) -> None:
        due_at = self._clock.monotonic()
        while budget.parts:
            # A sleep that took a little longer is made up for by a shorter one.
            due_at = max(due_at, self._clock.monotonic() - _PART / 2) + _PART
            await self._clock.sleep(due_at - self._clock.monotonic())
            budget.parts -= 1
        limit.reschedule(asyncio.get_running_loop().time())

    def _fail(self, error: BaseException) -> None:
        if _concerns_one_call(error):
            return
        self._failures += 1
        self._asked_again_at = self._clock.monotonic() + _PAUSE
        if self._failures == 1:  # once for a series
            text = "The shared token store failed, so each process fetches its own tokens: %s: %s"
            _log.warning(text, type(error).__name__, redacted(str(error)) or "it did not answer in time")

    def _succeed(self) -> None:
        if self._failures:
            _log.info("The shared token store works again.")
        self._failures, self._asked_again_at = 0, 0.0


def _concerns_one_call(error: BaseException) -> bool:
    """Return whether the store works nevertheless: the pool is empty, or a key is not one of ours."""
    return type(error).__name__ == "MaxConnectionsError" or str(error).startswith("WRONGTYPE")


def _found(answer: Sequence[object]) -> Found:
    """Read the answer to a look: a fence, a value and milliseconds; a fence; or nothing."""
    parts = [_text(part) for part in answer]
    if not parts:
        return Found()
    fence, *rest = parts
    if not rest:
        return Found(fence=fence)
    value, milliseconds = rest
    return Found(fence=fence, value=value, seconds=float(milliseconds) / 1000)


def _text(part: object) -> str:
    """Return a part of an answer; a client with `decode_responses` gives text in place of bytes."""
    return part.decode("latin-1") if isinstance(part, bytes) else str(part)
