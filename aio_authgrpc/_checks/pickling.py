"""Objects that hold a secret and refuse to be pickled."""

from __future__ import annotations

from typing import NoReturn


class NotPickled:
    """Base of an object that refuses `pickle` and `copy`: a pickle would hold its secret in the clear."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be pickled: the pickle would hold its secrets.")
