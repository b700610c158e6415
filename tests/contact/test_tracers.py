"""Sentry and ddtrace, switched on for a whole process: one span a call, in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.arity import ARITIES

from .processes import output_of
from .ways import WAYS

pytestmark = pytest.mark.timeout(60)  # each starts a process

# What each of them has spans for.
TRACED = {
    "sentry": {"UnaryUnary", "UnaryStream"},
    "ddtrace": {"UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"},
}
# ddtrace would look for an agent.
ALONE = {"DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false", "DD_REMOTE_CONFIGURATION_ENABLED": "false"}


async def calls(name: str) -> list[dict[str, Any]]:
    """Return what came of a call by each way, of each arity, answered and refused."""
    output = await output_of("instrumented_calls", name, ALONE)
    found = [json.loads(line) for line in output.splitlines()]
    assert len(found) == 2 * len(WAYS) * len(ARITIES)
    return found


@pytest.mark.parametrize("name", TRACED)
async def test_each_call_has_its_answer_its_token_and_its_span(name: str) -> None:
    """Below the caller's, and the server is told of it."""
    answers = {arity.method: [text.decode() for text in arity.responses] for arity in ARITIES}
    for call in await calls(name):
        assert call["said"] == (["NOT_FOUND"] if call["refused"] else answers[call["arity"]]), call
        assert call["authorization"] == 1, call
        if call["arity"] not in TRACED[name]:
            assert call["spans"] == []
            continue
        ((span,), (traced,)) = call["spans"], call["traced"]
        assert span["parent"] == call["parent"], call
        assert span["id"] in traced, call
        if call["refused"] and span["code"] is not None:  # Sentry writes none for streams
            assert span["code"].endswith("NOT_FOUND"), call
