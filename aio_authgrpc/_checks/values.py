"""Values that never change, and objects that are not pickled."""

from __future__ import annotations

from typing import ClassVar, NoReturn, Self, dataclass_transform


@dataclass_transform(kw_only_default=True, frozen_default=True)
class FrozenValue:
    """Base of immutable values: a subclass names fields and defaults as a dataclass does.

    `@dataclass(frozen=True, slots=True)` compiles several functions a class, 0.5 to 1 ms each at import. The
    methods here are shared by all subclasses. Type checkers see the constructor that a dataclass would have.

    A subclass whose fields hold a secret names them in `__slots__`, too: `vars()` of it shows nothing then.
    """

    __slots__ = ("__weakref__",)

    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, object]] = {}
    # Keyword-only fields have no order that a positional pattern could rely on.
    __match_args__: ClassVar[tuple[()]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = (*cls._fields, *cls.__annotations__)
        slots = getattr(cls, "__slots__", ())
        own = {name: getattr(cls, name) for name in cls.__annotations__ if hasattr(cls, name)}
        cls._defaults = cls._defaults | {name: own[name] for name in own if name not in slots}

    def __init__(self, **fields: object) -> None:
        given = self._defaults | fields
        if given.keys() != set(self._fields):
            raise TypeError(f"{type(self).__name__}() takes the keywords {', '.join(self._fields)}.")
        for name in self._fields:
            object.__setattr__(self, name, given[name])

    def _values(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self._fields}

    def replace(self, **changes: object) -> Self:
        """Return a copy with other values in some fields."""
        return type(self)(**{**self._values(), **changes})

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed.", name=name, obj=self)

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed.", name=name, obj=self)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), *self._values().values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._values().items())
        return f"{type(self).__name__}({fields})"


class NotPickled:
    """Base of an object that refuses `pickle` and `copy`: a pickle would hold its secret in the clear."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be pickled: the pickle would hold its secrets.")
