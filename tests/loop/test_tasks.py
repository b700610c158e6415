"""Tasks that start later, also under the eager task factory."""

from __future__ import annotations

import asyncio
import sys

import pytest

from aio_authgrpc import Token
from aio_authgrpc._loop.tasks import start_task
from aio_authgrpc.testing import ScriptedTokens
from aio_authgrpc.tokens import TokenCache

needs_eager_tasks = pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 brings eager tasks")


@pytest.fixture
async def eager() -> None:
    """Make the running loop's tasks eager."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # of Python 3.12 and later


async def test_a_task_takes_its_first_step_later() -> None:
    """Whoever starts it can note it before."""
    order: list[str] = []

    async def run() -> None:
        order.append("first step")

    task = start_task(run(), name="aio_authgrpc test")
    order.append("noted")
    await task
    assert order == ["noted", "first step"]
    assert task.get_name() == "aio_authgrpc test"


@needs_eager_tasks
async def test_an_eager_task_takes_its_first_step_later(eager: None) -> None:
    """As without the factory."""
    await test_a_task_takes_its_first_step_later()


@needs_eager_tasks
@pytest.mark.parametrize("keep_warm", [False, True])
async def test_a_listener_that_asks_for_a_token_joins_the_refresh(eager: None, keep_warm: bool) -> None:
    """It hears of the start, and finds the refresh under way: not another one, of which it would hear too."""
    source, waiting = ScriptedTokens(), list[asyncio.Task[Token]]()
    cache = TokenCache(source, keep_warm=keep_warm)
    cache.subscribe(lambda _: waiting.append(asyncio.ensure_future(cache.get())))
    async with cache:
        token = await cache.get()
        assert [await each for each in waiting] == [token] * 2
    assert source.fetches == 1
