"""One run at a time, whose outcome all waiting callers share."""

from __future__ import annotations

import asyncio
import contextvars
import warnings

from aio_authgrpc._loop.single_flight import SingleFlight


class Run:
    """A run that waits for its outcome, which the test sets; it counts its starts."""

    def __init__(self) -> None:
        self.starts = 0
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.started = asyncio.Event()

    async def __call__(self) -> str:
        self.starts += 1
        self.started.set()
        return await self.outcome


def none() -> str:
    return "without a run"


async def joined(flight: SingleFlight[str], run: Run, number: int) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(flight.join()) for _ in range(number)]
    await run.started.wait()
    await asyncio.sleep(0)
    return tasks


async def test_a_thousand_waiters_share_one_run() -> None:
    """All get its outcome."""
    run = Run()
    flight = SingleFlight(run, none)
    tasks = await joined(flight, run, 1_000)
    run.outcome.set_result("token")
    assert set(await asyncio.gather(*tasks)) == {"token"}
    assert run.starts == 1


async def test_a_cancelled_first_waiter_leaves_the_others_waiting() -> None:
    """The run goes on without the waiter that started it."""
    run = Run()
    flight = SingleFlight(run, none)
    first, *others = await joined(flight, run, 10)
    first.cancel()
    await asyncio.wait({first})
    run.outcome.set_result("token")
    assert await asyncio.gather(*others) == ["token"] * 9
    assert first.cancelled()


async def test_a_run_without_waiters_goes_on() -> None:
    """A later waiter joins it."""
    run = Run()
    flight = SingleFlight(run, none)
    tasks = await joined(flight, run, 3)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert flight.running
    assert not flight.awaited
    late = asyncio.create_task(flight.join())
    run.outcome.set_result("token")
    assert await late == "token"
    assert run.starts == 1


async def test_after_a_run_has_ended_the_next_one_is_new() -> None:
    """An outcome is not kept; that is the cache's job."""
    run = Run()
    flight = SingleFlight(run, none)
    run.outcome.set_result("token")
    await flight.join()
    await flight.join()
    assert run.starts == 2


async def test_a_start_right_after_the_end_of_a_run_starts_another() -> None:
    """Before the loop has come to note the end: an eager task, say, would get an outcome of the past."""
    run = Run()
    flight = SingleFlight(run, none)
    (first,) = await joined(flight, run, 1)
    outcome, run.outcome = run.outcome, asyncio.get_running_loop().create_future()
    outcome.add_done_callback(lambda _: flight.start())  # after the run's own, which ends it
    outcome.set_result("first")
    assert await first == "first"
    await asyncio.sleep(0)
    assert run.starts == 2
    run.outcome.set_result("second")
    assert await flight.join() == "second"


async def test_start_beside_a_run_does_nothing() -> None:
    """One run starts."""
    run = Run()
    flight = SingleFlight(run, none)
    flight.start()
    flight.start()
    await run.started.wait()
    assert run.starts == 1
    run.outcome.set_result("token")
    await flight.join()


async def test_leaving_wakes_all_waiters_at_once() -> None:
    """They get no outcome, and do not wait for the run, which goes on."""
    run = Run()
    flight = SingleFlight(run, none)
    tasks = await joined(flight, run, 3)
    left = flight.leave()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes == ["without a run"] * 3
    assert not flight.running
    assert left is not None
    run.outcome.set_result("token")
    assert await left == "token"


async def test_cancel_wakes_all_waiters_at_once() -> None:
    """They do not wait for the cancelled run to end."""
    run = Run()
    flight = SingleFlight(run, none)
    tasks = await joined(flight, run, 3)
    ending = flight.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes == ["without a run"] * 3
    assert ending is not None
    await asyncio.wait({ending})
    assert ending.cancelled()
    assert not flight.running


async def test_leaving_without_a_run_does_nothing() -> None:
    """It returns None, as cancelling does."""
    assert SingleFlight(Run(), none).leave() is None
    assert SingleFlight(Run(), none).cancel() is None


async def test_a_run_cancelled_from_outside_wakes_its_waiters() -> None:
    """`asyncio.run` cancels every task at its end; a waiter must not hang."""
    run = Run()
    flight = SingleFlight(run, none)
    (task,) = await joined(flight, run, 1)
    for other in asyncio.all_tasks() - {asyncio.current_task(), task}:
        if other.get_name() == "aio_authgrpc refresh":
            other.cancel()
    assert await task == "without a run"


async def test_the_run_does_not_see_the_first_waiters_context() -> None:
    """A trace or an identity of one caller must not leak into the shared outcome."""
    variable = contextvars.ContextVar("variable", default="nothing")
    seen: list[str] = []

    async def run() -> str:
        seen.append(variable.get())
        return "token"

    variable.set("the first caller's")
    await SingleFlight(run, none).join()
    assert seen == ["nothing"]


async def test_leaving_does_not_search_the_waiters_that_stay() -> None:
    """`asyncio.shield` adds a callback for each waiter to the task, and searches them at each departure."""
    run = Run()
    flight = SingleFlight(run, none)
    tasks = await joined(flight, run, 10)
    (refresh,) = (task for task in asyncio.all_tasks() if task.get_name() == "aio_authgrpc refresh")
    # One callback, however many callers wait: that makes leaving cheap.
    with warnings.catch_warnings():
        assert len(refresh._callbacks) == 1  # type: ignore[attr-defined]  # asyncio's own list
    run.outcome.set_result("token")
    await asyncio.gather(*tasks)


class Told:
    """A waiter without a task that notes what it is told."""

    def __init__(self, told: list[str], *, error: BaseException | None = None) -> None:
        self._told = told
        self._error = error

    def landed(self, outcome: str) -> None:
        self._told.append(outcome)
        if self._error is not None:
            raise self._error


async def test_waiters_without_a_task_are_told_in_their_order_a_portion_a_step() -> None:
    """Ten thousand calls that start in one step of the loop would keep it from everything else."""
    run, told, steps = Run(), list[str](), list[int]()
    flight = SingleFlight(run, none)
    for _ in range(250):
        flight.add(Told(told))
    (task,) = await joined(flight, run, 1)
    run.outcome.set_result("token")
    while not task.done():
        await asyncio.sleep(0)
        steps.append(len(told))
    assert told == ["token"] * 250
    assert {100, 200} <= set(steps)


async def test_a_waiter_that_has_left_is_not_told() -> None:
    """Nor is one that leaves twice an error."""
    run, told = Run(), list[str]()
    flight = SingleFlight(run, none)
    left = Told(told)
    flight.add(left)
    flight.discard(left)
    flight.discard(left)
    run.outcome.set_result("token")
    assert await flight.join() == "token"
    assert told == []


async def test_a_waiter_that_raises_keeps_nothing_from_the_others() -> None:
    """Such as an interrupt of the terminal in a callback."""
    run, told, handled = Run(), list[str](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: handled.append(context["exception"]))
    flight = SingleFlight(run, none)
    error = RuntimeError("a bug")
    flight.add(Told(told, error=error))
    flight.add(Told(told))
    run.outcome.set_result("token")
    assert await flight.join() == "token"
    assert (told, handled) == (["token"] * 2, [error])
