"""Objects that hold a secret refuse to be pickled and copied."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from aio_authgrpc._checks.values import NotPickled


class Secret(NotPickled):
    """An object with a secret."""


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_an_object_with_a_secret_is_not_pickled(how: Any) -> None:
    """The error names its type and the reason."""
    with pytest.raises(TypeError, match="Secret cannot be pickled: the pickle would hold its secrets"):
        how(Secret())
