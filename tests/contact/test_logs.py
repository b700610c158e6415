"""What libraries log of calls on our channels."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.support.patience import patience

pytestmark = pytest.mark.timeout(60)  # each starts a process

ROOT = Path(__file__).parents[2]


async def logged_calls(place: str) -> list[int]:
    """Return the numbers that the script prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "tests.contact.logged_calls", place),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(patience(50)):
        output, _ = await process.communicate()
    assert process.returncode == 0, output
    return [int(number) for number in re.findall(rb"\d+", output)]


async def test_no_token_is_in_the_logs_of_clients_and_of_appended_interceptors() -> None:
    """1 000 calls in four arities, half of them with a second identity in a header of its own."""
    calls, others, by_interceptors, by_clients, tokens = await logged_calls("above")
    assert (calls, others) == (1000, 500)
    assert by_interceptors == calls
    assert by_clients == calls / 4  # their own interceptors are for one arity
    assert tokens == 0


async def test_the_count_of_tokens_sees_what_is_logged_below() -> None:
    """The test above can fail: interceptors that were given to connect() see the token."""
    *_, tokens = await logged_calls("below")
    assert tokens > 1000
