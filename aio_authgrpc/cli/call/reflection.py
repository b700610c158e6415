"""Asking a server for its services, over gRPC's server reflection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import grpc
import grpc.aio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from aio_authgrpc.cli.call.schema import Schema, full_name, schema_of
from aio_authgrpc.errors import ConfigurationError

# The messages of both versions are the same on the wire. Most servers have the old one, many both.
_VERSIONS = ("v1", "v1alpha")


class _UnknownError(ConfigurationError):
    """The server does not know what it was asked for."""


class Reflection:
    """A server that is asked for its services.

    Args:
        channel: Leads to the server.
        timeout: Seconds for each answer.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout: float) -> None:
        self._channel = channel
        self._timeout = timeout
        self._version = _VERSIONS[0]

    async def services(self) -> list[str]:
        """Return the full names of the server's services.

        Raises:
            ConfigurationError: The server has no reflection.
            grpc.aio.AioRpcError: It could not be asked.
        """
        for version in _VERSIONS:
            self._version = version
            try:
                answer = await self._ask(ServerReflectionRequest(list_services="*"))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
            else:
                return sorted(service.name for service in answer.list_services_response.service)
        raise ConfigurationError(
            "the server has no reflection.",
            field="TARGET",
            hint="Pass --proto FILE, or --descriptor-set FILE as protoc --include_imports "
            "--descriptor_set_out=FILE writes it.",
        )

    async def schema(self, services: Iterable[str], symbols: Iterable[str]) -> Schema:
        """Return the schema of the symbols, which are names of `services` or ends of them.

        Some servers name services that they cannot describe: such a one is left out of the pool.
        """
        files: dict[str, FileDescriptorProto] = {}
        for name in [full_name(symbol, services) for symbol in symbols]:
            with contextlib.suppress(_UnknownError):
                await self._collect(ServerReflectionRequest(file_containing_symbol=name), files)
        made = schema_of([file.SerializeToString() for file in files.values()], field="TARGET")
        return Schema(pool=made.pool, services=tuple(services))

    async def _collect(
        self, question: ServerReflectionRequest, files: dict[str, FileDescriptorProto]
    ) -> None:
        """Add the files of an answer, and what they import: a server may leave these to be asked for."""
        pending = [question]
        while pending:
            answer = await self._ask(pending.pop())
            parsed = [
                FileDescriptorProto.FromString(content)
                for content in answer.file_descriptor_response.file_descriptor_proto
            ]
            files |= {file.name: file for file in parsed}
            wanted = {name for file in parsed for name in file.dependency} - files.keys()
            pending += [ServerReflectionRequest(file_by_filename=name) for name in sorted(wanted)]

    async def _ask(self, question: ServerReflectionRequest) -> ServerReflectionResponse:
        # One question for each RPC, sent as a unary request: on the wire that is a stream of one message. A
        # stream that is refused while it is written ends with INTERNAL in place of the server's status
        # (https://github.com/grpc/grpc/issues/36066).
        method = self._channel.unary_stream(
            f"/grpc.reflection.{self._version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        async for answer in method(question, timeout=self._timeout):
            if answer.HasField("error_response"):
                break
            return answer
        raise _UnknownError("its reflection answers with an error.", field="TARGET")
