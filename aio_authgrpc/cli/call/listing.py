"""Services, methods and messages as text, in the form of a .proto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor

from aio_authgrpc.cli.call.messages import map_entry
from aio_authgrpc.cli.call.schema import Schema

_TYPES = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}
# The deepest level of an example: messages may contain themselves.
_DEPTH = 4


def service_lines(schema: Schema, names: list[str]) -> Iterator[str]:
    """Yield a line for each method of the services: what to call, and its messages."""
    for name in names:
        if not schema.describes(name):
            yield name
            continue
        for method in schema.service(name).methods:
            yield f"{name}/{method.name}{_signature(method)}"


def definition(method: MethodDescriptor) -> Iterator[str]:
    """Yield the lines that say how to call a method: itself, its messages, and an example of `-d`."""
    yield f"rpc {method.name}{_signature(method)}"
    shown: set[str] = set()
    for message in (method.input_type, method.output_type):
        yield from _message(message, shown)
    yield ""
    example = json.dumps(_example(method.input_type, _DEPTH))
    yield f"-d '{example}'"


def _signature(method: MethodDescriptor) -> str:
    taken = ("stream " if method.client_streaming else "") + method.input_type.full_name
    given = ("stream " if method.server_streaming else "") + method.output_type.full_name
    return f"({taken}) returns ({given})"


def _message(message: Descriptor, shown: set[str]) -> Iterator[str]:
    """Yield a message, and those that it contains, each once."""
    if message.full_name in shown or message.full_name.startswith("google.protobuf."):
        return
    shown.add(message.full_name)
    yield ""
    yield f"message {message.full_name} {{"
    for field in message.fields:
        yield f"  {_label(field)}{_type(field)} {field.name} = {field.number};"
    yield "}"
    for field in message.fields:
        entry = map_entry(field)
        inner = field if entry is None else entry.fields_by_name["value"]
        if inner.message_type is not None:
            yield from _message(inner.message_type, shown)
        elif inner.enum_type is not None:
            yield from _enum(inner.enum_type, shown)


def _enum(enum: EnumDescriptor, shown: set[str]) -> Iterator[str]:
    if enum.full_name in shown:
        return
    shown.add(enum.full_name)
    yield ""
    yield f"enum {enum.full_name} {{"
    for value in enum.values:
        yield f"  {value.name} = {value.number};"
    yield "}"


def _label(field: FieldDescriptor) -> str:
    return "repeated " if field.is_repeated and map_entry(field) is None else ""


def _type(field: FieldDescriptor) -> str:
    entry = map_entry(field)
    if entry is not None:
        return f"map<{_type(entry.fields_by_name['key'])}, {_type(entry.fields_by_name['value'])}>"
    if field.message_type is not None:
        return field.message_type.full_name
    return field.enum_type.full_name if field.enum_type is not None else _TYPES[field.type]


def _example(message: Descriptor, depth: int) -> Any:
    if message.full_name.startswith("google.protobuf.") or depth == 0:
        return {}
    seen: set[str] = set()
    example: dict[str, Any] = {}
    for field in message.fields:
        one_of = field.containing_oneof
        if one_of is not None and one_of.full_name in seen:
            continue  # a message holds one of them
        if one_of is not None:
            seen.add(one_of.full_name)
        example[field.json_name] = _example_of(field, depth)
    return example


def _example_of(field: FieldDescriptor, depth: int) -> Any:
    if map_entry(field) is not None:
        return {}
    value: Any
    if field.message_type is not None:
        value = _example(field.message_type, depth - 1)
    elif field.enum_type is not None:
        value = field.enum_type.values[0].name
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        value = ""
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        value = False
    else:
        value = 0
    return [value] if field.is_repeated else value
