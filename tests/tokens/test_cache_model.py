"""The token cache under random events in random order, compared with a model that says what must hold.

Time is virtual, also that of the event loop: time-outs and budgets go by the clock that the machine moves.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aio_authgrpc import AuthRpcError, Token, TokenRequest
from aio_authgrpc._tokens.events import RefreshFailed, RefreshStarted, RefreshSucceeded, TokenEvent
from aio_authgrpc.errors import (
    ChannelClosedError,
    TokenDeadlineExceededError,
    TokenRefusedError,
    TokenUnavailableError,
)
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache, TokenState

BUDGET = 30.0
LONGEST_PAUSE = 5.0
LONGEST_LOOK = 5.0
SHORTEST_INTERVAL = 1.0
CLOSE_TIMEOUT = 2.0
ROUNDING = 1e-5
LIFETIMES = [None, -5.0, 0.0, 0.01, 3.0, 60.0, 600.0, 3600.0]
RETRY_AFTER = [None, 0.0, 2.0, 5.0, 5.1, 100.0]
STEPS = [0.001, 0.3, 1.0, 4.0, 11.0, 29.0, 60.0, 170.0, 3000.0]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the clock's."""

    def __init__(self, clock: FakeClock) -> None:
        self._virtual = clock
        super().__init__()

    def time(self) -> float:
        return self._virtual.monotonic()


class Source:
    """Lets the machine answer, and notes every fetch that must not have begun."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Token] | None = None
        self.closed = False
        self.started: list[float] = []
        self.clock = FakeClock()
        self.not_before = 0.0  # the monotonic time before which no fetch may begin
        self.wrong: list[str] = []  # not raised: for the cache an error would be a failed fetch

    async def fetch(self, request: TokenRequest) -> Token:
        if self.answer is not None:
            self.wrong.append("two fetches are in flight")
        if self.closed:
            self.wrong.append("a fetch began after the cache was closed")
        if self.clock.monotonic() < self.not_before - ROUNDING:
            self.wrong.append("a fetch began too early")
        self.started.append(self.clock.monotonic())
        self.answer = asyncio.get_running_loop().create_future()
        try:
            return await self.answer
        finally:
            self.answer = None


@dataclass
class Kept:
    """The token that the cache must hold, and the time of its fetch by both clocks."""

    token: Token
    lifetime: float | None
    wall: float
    monotonic: float

    def left(self, clock: FakeClock) -> float:
        """Return the seconds for which it must still be served, by the clock that leaves fewer."""
        if self.lifetime is None:
            return float("inf")
        age = max(clock.time() - self.wall, clock.monotonic() - self.monotonic)
        return self.lifetime - min(30.0, 0.05 * self.lifetime) - age


@dataclass
class Caller:
    task: asyncio.Task[Token]
    deadline: float | None


class CacheMachine(RuleBasedStateMachine):
    """Callers come and go, fetches succeed, fail or hang, clocks run and jump."""

    @initialize(attempts=st.integers(1, 3), keep_warm=st.booleans(), seed=st.integers(0, 1000))
    def open(self, attempts: int, keep_warm: bool, seed: int) -> None:
        self.source = Source()
        self.clock = self.source.clock
        self.loop = VirtualLoop(self.clock)
        self.unhandled: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.unhandled.append(context))
        self.attempts = attempts
        self.cache = TokenCache(
            self.source,
            clock=self.clock,
            rng=random.Random(seed),
            attempts=attempts,
            refresh_timeout=BUDGET,
            keep_warm=keep_warm,
        )
        self.cache.subscribe(self.happened)
        self.callers: list[Caller] = []
        self.kept: Kept | None = None
        self.old: list[Token] = []
        self.refresh_began: float | None = None
        self.asked = 0  # within this refresh
        self.failures = 0
        self.looked_at = float("-inf")  # the wall time of the last look at both clocks
        self.settle()

    # What the cache says

    def happened(self, event: TokenEvent) -> None:
        now = self.clock.monotonic()
        if isinstance(event, RefreshStarted):
            assert self.refresh_began is None, "two refreshes are under way"
            assert now >= self.source.not_before - ROUNDING, "a refresh began within the back-off"
            self.refresh_began, self.asked = now, len(self.source.started)
        elif isinstance(event, RefreshFailed):
            self.refresh_began = None
            self.failures += 1
            delay = event.next_attempt_at - self.clock.time()
            asked_for = getattr(event.error, "retry_after", None) or 0.0
            window = min(60.0, 1.6 ** (self.failures - 1))
            assert asked_for - ROUNDING <= delay <= max(window, asked_for) + ROUNDING
            self.source.not_before = now + delay
        elif isinstance(event, RefreshSucceeded):
            self.refresh_began, self.failures, self.source.not_before = None, 0, now + SHORTEST_INTERVAL

    def settle(self) -> None:
        self.loop.run_until_complete(self._turns())
        self.callers = [caller for caller in self.callers if not self._checked(caller)]

    async def _turns(self) -> None:
        for _ in range(25):
            await asyncio.sleep(0)

    def _checked(self, caller: Caller) -> bool:
        """Return whether the caller has an outcome, which must be an allowed one."""
        if not caller.task.done():
            return False
        if caller.task.cancelled():
            return True
        error = caller.task.exception()
        if error is None:
            assert self.kept is not None
            assert caller.task.result() is self.kept.token
            assert self.kept.left(self.clock) > -ROUNDING or self._not_noticed(), "an expired token"
        elif isinstance(error, TokenDeadlineExceededError):
            assert caller.deadline is not None
            assert self.clock.monotonic() >= caller.deadline - ROUNDING
        else:
            assert isinstance(error, AuthRpcError)
            assert isinstance(error, ChannelClosedError) == self.source.closed
        return True

    def _not_noticed(self) -> bool:
        """Return whether the wall clock was set back to within 5 s of the last look: that goes unnoticed."""
        return 0 <= self.clock.time() - self.looked_at < LONGEST_LOOK

    # What happens

    @rule(timeout=st.sampled_from([None, None, 0.0, 0.5, 10.0, 100.0]), count=st.integers(1, 3))
    def arrive(self, timeout: float | None, count: int) -> None:
        deadline = None if timeout is None else self.clock.monotonic() + timeout
        usable = self.kept is not None and self.kept.left(self.clock) > ROUNDING and not self.source.closed
        for _ in range(count):
            task = self.loop.create_task(self.cache.get(timeout=timeout))
            self.callers.append(Caller(task, deadline))
        arrived = self.callers[-count:]
        self.settle()
        if usable:
            assert self.kept is not None
            assert all(caller.task.result() is self.kept.token for caller in arrived), "withheld"
            self.look()

    @rule()
    def look(self) -> None:
        usable = self.kept is not None and not self.source.closed
        token = self.loop.run_until_complete(self._current())
        if token is not None:
            assert self.kept is not None
            assert token is self.kept.token
            assert self.kept.left(self.clock) > -ROUNDING or self._not_noticed(), "an expired token"
        elif usable:
            assert self.kept is not None
            assert self.kept.left(self.clock) < ROUNDING, "a usable token was withheld"
        if self.cache.status().state is TokenState.FRESH:
            self.looked_at = self.clock.time()

    async def _current(self) -> Token | None:
        token = self.cache.current()
        await self._turns()
        return token

    @precondition(lambda self: self.callers)
    @rule(data=st.data())
    def cancel_a_caller(self, data: st.DataObject) -> None:
        caller = data.draw(st.sampled_from(self.callers))
        caller.task.cancel()
        self.settle()
        assert caller.task.cancelled()

    @precondition(lambda self: self.source.answer is not None)
    @rule(lifetime=st.sampled_from(LIFETIMES))
    def succeed(self, lifetime: float | None) -> None:
        assert self.source.answer is not None
        wall, monotonic = self.clock.time(), self.clock.monotonic()
        token = Token(
            f"t{len(self.source.started)}", expires_at=None if lifetime is None else wall + lifetime
        )
        if lifetime is None or lifetime > 0:
            if self.kept is not None:
                self.old.append(self.kept.token)
            self.kept, self.looked_at = Kept(token, lifetime, wall, monotonic), wall
        self.source.answer.set_result(token)
        self.settle()

    @precondition(lambda self: self.source.answer is not None)
    @rule(kind=st.sampled_from(["unavailable", "refused", "broken"]), after=st.sampled_from(RETRY_AFTER))
    def fail(self, kind: str, after: float | None) -> None:
        assert self.source.answer is not None
        errors: dict[str, Exception] = {
            "unavailable": TokenUnavailableError("down", retry_after=after),
            "refused": TokenRefusedError("no"),
            "broken": KeyError("a bug"),
        }
        self.source.answer.set_exception(errors[kind])
        asked = len(self.source.started) - self.asked
        again = kind == "unavailable" and asked < self.attempts and (after or 0.0) <= LONGEST_PAUSE
        if again:
            self.source.not_before = self.clock.monotonic() + (after or 0.0)
        self.settle()
        assert (self.refresh_began is not None and self.source.answer is None) == again or after == 0.0

    @precondition(lambda self: self.source.answer is not None)
    @rule()
    def fetch_is_cancelled_from_inside(self) -> None:
        assert self.source.answer is not None
        self.source.answer.cancel()
        self.settle()

    @rule(seconds=st.sampled_from(STEPS))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()

    @rule(seconds=st.sampled_from(STEPS))
    def machine_is_suspended(self, seconds: float) -> None:
        self.clock.jump(seconds)

    @rule(seconds=st.sampled_from(STEPS))
    def wall_clock_is_set_back(self, seconds: float) -> None:
        self.clock.jump(-seconds)

    @precondition(lambda self: self.kept is not None and not self.source.closed)
    @rule()
    def reject(self) -> None:
        assert self.kept is not None
        young = self.clock.monotonic() - self.kept.monotonic < 10.0
        assert self.cache.reject(self.kept.token) == (not young)
        if not young:
            self.old.append(self.kept.token)
            self.kept = None

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def reject_an_old_one(self, data: st.DataObject) -> None:
        before = self.cache.status().state
        assert self.cache.reject(data.draw(st.sampled_from(self.old)))
        assert self.cache.status().state is before

    @rule(comes_home=st.booleans())
    def close(self, comes_home: bool) -> None:
        # Most runs close late: there is more to see while the cache is open.
        if len(self.source.started) < 3 and not self.source.closed:
            return
        self.end(comes_home=comes_home)

    def end(self, *, comes_home: bool = False) -> None:
        closing = self.loop.create_task(self.cache.aclose())
        self.source.closed, self.kept = True, None
        self.settle()
        assert closing.done() == (self.source.answer is None), "only a fetch that was sent is waited for"
        if self.source.answer is not None:
            if comes_home:
                self.source.answer.set_result(Token("late"))
            else:
                self.clock.advance(CLOSE_TIMEOUT)
            self.settle()
        closing.result()

    # What always holds

    @invariant()
    def no_caller_is_left_behind(self) -> None:
        if not hasattr(self, "cache"):
            return
        in_flight = self.source.answer is not None or self.refresh_began is not None
        will_be = self.failures == 0 and self.clock.monotonic() < self.source.not_before
        assert not self.callers or in_flight or will_be, "a caller waits without a refresh"
        now = self.clock.monotonic()
        assert all(caller.deadline is None or caller.deadline > now for caller in self.callers)

    @invariant()
    def a_refresh_keeps_to_its_budget_and_its_attempts(self) -> None:
        if hasattr(self, "cache") and self.refresh_began is not None and not self.source.closed:
            assert self.clock.monotonic() - self.refresh_began < BUDGET
            assert len(self.source.started) - self.asked <= self.attempts

    @invariant()
    def nothing_went_wrong_unseen(self) -> None:
        if hasattr(self, "cache"):
            assert self.source.wrong == []
            assert self.unhandled == []

    @invariant()
    def nothing_runs_after_the_end(self) -> None:
        if hasattr(self, "cache") and self.source.closed:
            assert self.callers == []
            assert self.source.answer is None
            assert self.clock.sleepers == 0
            assert asyncio.all_tasks(self.loop) == set()
            assert self.cache.current() is None

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        try:
            self.end()
            self.nothing_runs_after_the_end()
            self.nothing_went_wrong_unseen()
        finally:
            self.loop.close()


@pytest.mark.hypothesis  # it has no time limit inside an example
def test_the_cache_keeps_its_promises_in_any_order_of_events() -> None:
    """One fetch at a time, no caller left behind, no usable token withheld, no expired one handed out."""
    run_state_machine_as_test(
        CacheMachine,
        settings=settings(max_examples=settings.default.max_examples, stateful_step_count=40),
    )
