"""Calls that wait: one task and one timer for all of them, and a connection that comes meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, LazyChannel
from aio_authgrpc._calls.waiting_calls import WaitingCalls
from aio_authgrpc.errors import TokenDeadlineExceededError
from aio_authgrpc.testing import EchoServer, EchoStub, ScriptedTokens
from aio_authgrpc.tokens import TokenCache

CROWD = 1_000


def our_tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("aio_authgrpc")]


async def test_a_crowd_that_waits_has_one_task_of_ours(stub: EchoStub, tokens: ScriptedTokens) -> None:
    """That of the refresh; it starts the calls in the order of their arrival."""
    gate = tokens.hold()
    calls = [stub.UnaryUnary(b"%d" % number, timeout=60) for number in range(CROWD)]
    await gate.arrived.wait()
    assert our_tasks() == ["aio_authgrpc refresh"]
    gate.release()
    assert await asyncio.gather(*calls) == [b"%d" % number for number in range(CROWD)]


async def test_a_call_ends_at_its_deadline_and_another_goes_on_waiting(
    stub: EchoStub, tokens: ScriptedTokens
) -> None:
    """Its error says for how long it waited."""
    gate = tokens.hold()
    patient = stub.UnaryUnary(b"patient", timeout=60)
    # A moment passes between the deadline's begin and the wait's: 0.01 s, or 0.00998 s.
    with pytest.raises(TokenDeadlineExceededError, match=r"for 0\.0\d+ s it waited for an access token"):
        await stub.UnaryUnary(b"x", timeout=0.01)
    gate.release()
    assert await patient == b"patient"


async def test_a_call_whose_time_is_over_when_it_begins_says_so(
    stub: EchoStub, tokens: ScriptedTokens
) -> None:
    """It ends without a wait."""
    gate = tokens.hold()
    with pytest.raises(TokenDeadlineExceededError, match="time was over"):
        await stub.UnaryUnary(b"x", timeout=0)
    gate.release()


class Waiting:
    """A call that waits, in the eyes of `WaitingCalls`."""

    def __init__(self, calls: WaitingCalls) -> None:
        self._calls = calls
        self.out_of_time = asyncio.Event()

    def abandon(self, error: BaseException) -> None:
        raise error

    def run_out_of_time(self) -> None:
        self._calls.discard(self)
        self.out_of_time.set()


async def test_deadlines_come_in_their_order_whatever_that_of_the_calls() -> None:
    """One timer is set for the nearest, and again for the next."""
    calls, ended, now = WaitingCalls(), list[float](), monotonic()

    class Noted(Waiting):
        def __init__(self, seconds: float) -> None:
            super().__init__(calls)
            self._seconds = seconds
            calls.add(self, now + seconds)

        def run_out_of_time(self) -> None:
            super().run_out_of_time()
            ended.append(self._seconds)

    patient = Waiting(calls)
    calls.add(patient, None)
    await asyncio.gather(*(Noted(seconds).out_of_time.wait() for seconds in (0.003, 0.001, -1.0, 0.002)))
    assert ended == [-1.0, 0.001, 0.002, 0.003]
    assert list(calls) == [patient]


async def test_calls_that_leave_leave_no_deadline_behind() -> None:
    """A deadline of an hour would keep the call, and its request, for an hour."""
    calls = WaitingCalls()
    stays = Waiting(calls)
    calls.add(stays, monotonic() + 3600)
    for _ in range(CROWD):
        one = Waiting(calls)
        calls.add(one, monotonic() + 3600)
        calls.discard(one)
    assert len([each for each in gc.get_objects() if isinstance(each, Waiting)]) < CROWD / 2
    calls.discard(stays)
    del one
    assert [each for each in gc.get_objects() if isinstance(each, Waiting)] == [stays]


async def test_an_interrupt_in_one_call_leaves_the_deadlines_of_the_others() -> None:
    """The timer is set again."""
    calls, loop = WaitingCalls(), asyncio.get_running_loop()
    handled = list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: handled.append(context))

    class Broken(Waiting):
        def run_out_of_time(self) -> None:
            super().run_out_of_time()
            raise AssertionError("a fake's own")

    broken, other = Broken(calls), Waiting(calls)
    calls.add(broken, monotonic())
    calls.add(other, monotonic())
    await other.out_of_time.wait()
    assert len(handled) == 1


async def connected(channel: grpc.aio.Channel) -> None:
    while (state := channel.get_state()) is not grpc.ChannelConnectivity.READY:
        await channel.wait_for_state_change(state)


async def test_a_channel_connects_while_its_first_call_waits_for_the_token(
    stub: EchoStub, channel: AuthorizedChannel, tokens: ScriptedTokens
) -> None:
    """The two take as long as the slower one."""
    gate = tokens.hold()
    call = stub.UnaryUnary(b"x")
    await connected(channel)
    gate.release()
    assert await call == b"x"


async def test_so_does_a_channel_that_opens_lazily(tokens: ScriptedTokens) -> None:
    """Once it has read its files."""
    gate = tokens.hold()
    async with EchoServer() as server:
        channel = LazyChannel(server.target, credentials=tokens, ssl_credentials=server.ssl_credentials)
        call = EchoStub(channel).UnaryUnary(b"x")
        await gate.arrived.wait()
        await connected(channel)
        gate.release()
        assert await call == b"x"
        await channel.close()


@pytest.fixture
async def warm(stub: EchoStub, cache: TokenCache) -> AsyncIterator[EchoStub]:
    """Give a stub whose token is at hand."""
    await cache.get()
    return stub


async def test_two_who_await_one_call_get_its_response(warm: EchoStub) -> None:
    """And its callbacks are called once, before either goes on."""
    call: Any = warm.UnaryUnary(b"x")
    seen = list[object]()
    call.add_done_callback(seen.append)

    async def awaited() -> tuple[bytes, int]:
        return await call, len(seen)

    assert await asyncio.gather(awaited(), awaited()) == [(b"x", 1), (b"x", 1)]


async def test_a_call_that_one_task_gave_up_is_over_for_the_other(warm: EchoStub) -> None:
    """As with a real call: cancelling a task that awaits it cancels the RPC."""
    call: Any = warm.UnaryUnary(b"x")
    seen = list[object]()
    call.add_done_callback(seen.append)

    async def awaited() -> bytes:
        return await call  # type: ignore[no-any-return]  # grpc.aio has no types

    one, other = asyncio.create_task(awaited()), asyncio.create_task(awaited())
    await asyncio.sleep(0)
    one.cancel()
    outcomes = await asyncio.gather(one, other, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
    assert (call.done(), seen) == (True, [call])


async def test_a_call_whose_awaiting_is_broken_off_still_ends(warm: EchoStub) -> None:
    """Nothing awaits it any more, so its end is told by gRPC."""
    call: Any = warm.UnaryUnary(b"x")
    over = asyncio.Event()
    call.add_done_callback(lambda _: over.set())
    awaiting = call.__await__()
    awaiting.send(None)
    awaiting.close()
    await over.wait()
    assert call.done()
