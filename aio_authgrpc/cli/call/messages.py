"""Messages from JSON and to JSON. A mistake is answered with the path of its field."""

from __future__ import annotations

import difflib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from aio_authgrpc.errors import ConfigurationError

_FIELD = "--data"
# The value is shown so that it can be found, not to repeat a page of it.
_MAX_SHOWN = 40

_KINDS = {
    FieldDescriptor.CPPTYPE_INT32: "a 32-bit integer",
    FieldDescriptor.CPPTYPE_INT64: "a 64-bit integer",
    FieldDescriptor.CPPTYPE_UINT32: "a 32-bit integer without a sign",
    FieldDescriptor.CPPTYPE_UINT64: "a 64-bit integer without a sign",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_STRING: "a string",
}


def message_class(descriptor: Descriptor) -> type[Message]:
    """Return the class of a message."""
    return message_factory.GetMessageClass(descriptor)


def as_message(value: object, descriptor: Descriptor, pool: DescriptorPool) -> Message:
    """Return the message of a JSON value.

    Raises:
        ConfigurationError: It does not fit; the error names the path of the field.
    """
    message = message_class(descriptor)()
    # protobuf takes an empty list for an empty message.
    if not _is_object(value) and not descriptor.full_name.startswith("google.protobuf."):
        raise _misfit("", f"expected an object ({descriptor.full_name}), not {_shown(value)}")
    try:
        return json_format.ParseDict(cast("dict[str, Any]", value), message, descriptor_pool=pool)
    except json_format.ParseError as error:
        path, problem = _first_misfit(value, descriptor, pool) or (
            "",
            " ".join(str(error).split()),
        )
        raise _misfit(path, problem) from error


def as_json(message: Message, pool: DescriptorPool) -> Any:
    """Return a message as a JSON value."""
    return json_format.MessageToDict(message, descriptor_pool=pool)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _misfit(path: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {problem}." if path else f"{problem}.", field=_FIELD)


def _first_misfit(value: object, descriptor: Descriptor, pool: DescriptorPool) -> tuple[str, str] | None:
    """Return the path of the first field that does not fit, and why.

    protobuf's own texts lack the path, or part of it, depending on the fault. So each field is tried alone.
    """
    if not isinstance(value, dict):
        return "", f"expected an object ({descriptor.full_name}), not {_shown(value)}"
    fields = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    for name, given in cast("Mapping[str, object]", value).items():
        field = fields.get(name)
        if field is None:
            near = difflib.get_close_matches(name, fields, n=1)
            known = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(fields)) or 'none'}"
            return name, f"{descriptor.full_name} has no such field; {known}"
        if _fits({name: given}, descriptor, pool):
            continue
        return _misfit_of_field(name, given, field, descriptor, pool)
    return None


def _misfit_of_field(
    name: str, given: object, field: FieldDescriptor, descriptor: Descriptor, pool: DescriptorPool
) -> tuple[str, str]:
    if not field.is_repeated:
        return _nested(name, given, field, pool)
    entry = map_entry(field)
    if entry is not None:
        return _misfit_of_map(name, given, entry, descriptor, pool)
    if not isinstance(given, list):
        return name, f"expected a list, not {_shown(given)}"
    for index, item in enumerate(cast("list[object]", given)):
        if not _fits({name: [item]}, descriptor, pool):
            return _nested(f"{name}[{index}]", item, field, pool)
    return name, "the list does not fit"


def _misfit_of_map(
    name: str, given: object, entry: Descriptor, descriptor: Descriptor, pool: DescriptorPool
) -> tuple[str, str]:
    if not isinstance(given, dict):
        return name, f"expected an object, not {_shown(given)}"
    for key, item in cast("Mapping[str, object]", given).items():
        if not _fits({name: {key: item}}, descriptor, pool):
            return _nested(f"{name}[{key!r}]", item, entry.fields_by_name["value"], pool)
    return name, "the map does not fit"


def _nested(path: str, given: object, field: FieldDescriptor, pool: DescriptorPool) -> tuple[str, str]:
    kind = field.message_type
    if kind is None or kind.full_name.startswith("google.protobuf."):
        return path, f"expected {_expected(field)}, not {_shown(given)}"
    below = _first_misfit(given, kind, pool)
    if below is None:
        return path, f"expected {_expected(field)}, not {_shown(given)}"
    rest, problem = below
    return (f"{path}.{rest}" if rest else path), problem


def _fits(value: Mapping[str, object], descriptor: Descriptor, pool: DescriptorPool) -> bool:
    try:
        json_format.ParseDict(dict(value), message_class(descriptor)(), descriptor_pool=pool)
    except json_format.ParseError:
        return False
    return True


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    """Return the message of a map's entries; None where the field is no map."""
    kind = field.message_type
    return kind if kind is not None and kind.GetOptions().map_entry else None


def _expected(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return f"one of {', '.join(value.name for value in field.enum_type.values)}"
    if field.message_type is not None:
        return f"a {field.message_type.full_name}"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "bytes in base64"
    return _KINDS[field.cpp_type]


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


class JsonSequence:
    """Cuts a text that comes in pieces into its JSON values, which stand one after another."""

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder()
        self._pending = ""
        self._line = 1

    def feed(self, text: str) -> Iterator[object]:
        """Yield the values that are complete now."""
        self._pending += text
        yield from self._values(at_end=False)

    def end(self) -> Iterator[object]:
        """Yield the last one.

        Raises:
            ConfigurationError: It is incomplete, or no JSON.
        """
        yield from self._values(at_end=True)

    def _values(self, *, at_end: bool) -> Iterator[object]:
        while self._skip_blanks():
            try:
                value, end = self._decoder.raw_decode(self._pending)
            except ValueError as error:
                # A value that is cut off, and one that is wrong, look alike until the text ends or goes on.
                if at_end or self._is_wrong(error):
                    raise self._no_json(error) from error
                return
            if not at_end and end == len(self._pending) and not isinstance(value, dict | list | str):
                return  # more digits may come
            self._line += self._pending.count("\n", 0, end)
            self._pending = self._pending[end:]
            yield value

    def _skip_blanks(self) -> bool:
        rest = self._pending.lstrip(" \t\r\n")
        self._line += self._pending.count("\n", 0, len(self._pending) - len(rest))
        self._pending = rest
        return bool(rest)

    def _is_wrong(self, error: ValueError) -> bool:
        """Return whether more text cannot mend it: a string may go on, and another value only in its line."""
        if not isinstance(error, json.JSONDecodeError):
            return True
        return "Unterminated" not in error.msg and "\n" in self._pending[error.pos :]

    def _no_json(self, error: ValueError) -> ConfigurationError:
        if isinstance(error, json.JSONDecodeError):
            line, column = self._line + error.lineno - 1, error.colno
            return ConfigurationError(
                f"it is not JSON: line {line}, column {column}: {error.msg}.",
                field=_FIELD,
                # A path without its @ fails at once.
                hint="-d @FILE reads a file, and -d - reads stdin." if (line, column) == (1, 1) else "",
            )
        return ConfigurationError(f"it is not JSON: {error}.", field=_FIELD)


async def json_values(pieces: AsyncIterator[str]) -> AsyncIterator[object]:
    """Yield the JSON values of a text that comes in pieces, each as soon as it is complete."""
    sequence = JsonSequence()
    async for piece in pieces:
        for value in sequence.feed(piece):
            yield value
    for value in sequence.end():
        yield value
