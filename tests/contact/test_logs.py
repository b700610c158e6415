"""What libraries log of calls on our channels."""

from __future__ import annotations

import re

import pytest

from .processes import output_of

pytestmark = pytest.mark.timeout(60)  # each starts a process


async def logged_calls(place: str) -> list[int]:
    """Return the numbers that the script prints."""
    output = await output_of("logged_calls", place, {"PYTHONWARNINGS": "error"})
    return [int(number) for number in re.findall(r"\d+", output)]


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
