"""A service of all four arities, with messages of every kind of field, and with server reflection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection

from aio_authgrpc.testing import LoopbackGrpcServer

SERVICE = "tests.cli.Chat"

PROTO = """
syntax = "proto3";
package tests.cli;
import "google/protobuf/timestamp.proto";
enum Mood { CALM = 0; ANGRY = 1; }
message Line {
  string text = 1;
  int32 times = 2;
  Mood mood = 3;
  map<string, int64> marks = 4;
  repeated Line replies = 5;
  google.protobuf.Timestamp at = 6;
  oneof to { string name = 7; int64 id = 8; }
  bytes blob = 9;
  double weight = 10;
  bool loud = 11;
}
service Chat {
  rpc Say(Line) returns (Line);
  rpc Listen(Line) returns (stream Line);
  rpc Count(stream Line) returns (Line);
  rpc Talk(stream Line) returns (stream Line);
  rpc Refuse(Line) returns (Line);
}
"""

_F = FieldDescriptorProto


def descriptors() -> FileDescriptorProto:
    """Return the descriptors of `PROTO`."""
    file = FileDescriptorProto(name="tests/cli/chat.proto", package="tests.cli", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    mood = file.enum_type.add(name="Mood")
    mood.value.add(name="CALM", number=0)
    mood.value.add(name="ANGRY", number=1)
    line = file.message_type.add(name="Line")
    entry = line.nested_type.add(name="MarksEntry")
    entry.options.map_entry = True
    _add(entry, "key", 1, _F.TYPE_STRING)
    _add(entry, "value", 2, _F.TYPE_INT64)
    line.oneof_decl.add(name="to")
    _add(line, "text", 1, _F.TYPE_STRING)
    _add(line, "times", 2, _F.TYPE_INT32)
    _add(line, "mood", 3, _F.TYPE_ENUM, ".tests.cli.Mood")
    _add(line, "marks", 4, _F.TYPE_MESSAGE, ".tests.cli.Line.MarksEntry", repeated=True)
    _add(line, "replies", 5, _F.TYPE_MESSAGE, ".tests.cli.Line", repeated=True)
    _add(line, "at", 6, _F.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    _add(line, "name", 7, _F.TYPE_STRING).oneof_index = 0
    _add(line, "id", 8, _F.TYPE_INT64).oneof_index = 0
    _add(line, "blob", 9, _F.TYPE_BYTES)
    _add(line, "weight", 10, _F.TYPE_DOUBLE)
    _add(line, "loud", 11, _F.TYPE_BOOL)
    chat = file.service.add(name="Chat")
    for name, takes_stream, gives_stream in (
        ("Say", False, False),
        ("Listen", False, True),
        ("Count", True, False),
        ("Talk", True, True),
        ("Refuse", False, False),
    ):
        chat.method.add(
            name=name,
            input_type=".tests.cli.Line",
            output_type=".tests.cli.Line",
            client_streaming=takes_stream,
            server_streaming=gives_stream,
        )
    return file


def _add(
    message: DescriptorProto, name: str, number: int, kind: Any, of: str = "", *, repeated: bool = False
) -> FieldDescriptorProto:
    label = _F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL
    return message.field.add(name=name, number=number, type=kind, type_name=of or None, label=label)


def timestamp_descriptors() -> FileDescriptorProto:
    """Return the descriptors of the file that `PROTO` imports."""
    return FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb)


def pool() -> DescriptorPool:
    """Return a pool with `PROTO`, and what it imports."""
    made = DescriptorPool()
    made.Add(timestamp_descriptors())
    made.Add(descriptors())
    return made


class ChatServer(LoopbackGrpcServer):
    """Answer lines with lines.

    Args:
        reflects: Whether it has server reflection.
        tls: As for `LoopbackGrpcServer`.

    Attributes:
        metadata: The metadata of each call, as a dict.
    """

    def __init__(self, *, reflects: bool = True, tls: bool = True) -> None:
        super().__init__(tls=tls)
        self._reflects = reflects
        self._pool = pool()
        self.Line: Any = GetMessageClass(self._pool.FindMessageTypeByName("tests.cli.Line"))
        self.metadata: list[dict[str, Any]] = []

    def _register(self, server: grpc.aio.Server) -> None:
        kinds: dict[str, Any] = {
            "Say": (grpc.unary_unary_rpc_method_handler, self._say),
            "Listen": (grpc.unary_stream_rpc_method_handler, self._listen),
            "Count": (grpc.stream_unary_rpc_method_handler, self._count),
            "Talk": (grpc.stream_stream_rpc_method_handler, self._talk),
            "Refuse": (grpc.unary_unary_rpc_method_handler, self._refuse),
        }
        handlers = {
            name: make(handler, self.Line.FromString, self.Line.SerializeToString)
            for name, (make, handler) in kinds.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        if self._reflects:
            reflection.enable_server_reflection([SERVICE, reflection.SERVICE_NAME], server, self._pool)

    def _note(self, context: Any) -> None:
        self.metadata.append(dict(context.invocation_metadata()))

    async def _say(self, request: Any, context: Any) -> Any:
        self._note(context)
        await context.send_initial_metadata((("x-mood", "good"),))
        return request

    async def _listen(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self._note(context)
        for number in range(request.times):
            yield self.Line(text=request.text, times=number)

    async def _count(self, requests: AsyncIterator[Any], context: Any) -> Any:
        self._note(context)
        return self.Line(times=len([request async for request in requests]))

    async def _talk(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self._note(context)
        async for request in requests:
            yield self.Line(text=request.text.upper())

    async def _refuse(self, request: Any, context: Any) -> Any:
        status = status_pb2.Status(code=grpc.StatusCode.FAILED_PRECONDITION.value[0], message="not now")
        info = error_details_pb2.ErrorInfo(reason="CLOSED", domain="chat.example", metadata={"until": "9:00"})
        for message, url in ((info, "google.rpc.ErrorInfo"), (request, "tests.cli.Line")):
            status.details.append(
                any_pb2.Any(type_url=f"type.googleapis.com/{url}", value=message.SerializeToString())
            )
        status.details.append(any_pb2.Any(type_url="type.googleapis.com/other.Thing", value=b"\x01"))
        await context.abort(
            grpc.StatusCode.FAILED_PRECONDITION,
            "not now",
            (("grpc-status-details-bin", status.SerializeToString()),),
        )
