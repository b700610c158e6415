"""The services that can be called, with their messages; from the server itself, or from files."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from aio_authgrpc.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Descriptors.

    Attributes:
        pool: Every message and service that is known.
        services: The full names of the services.
    """

    pool: DescriptorPool
    services: tuple[str, ...]

    def service(self, name: str) -> ServiceDescriptor:
        """Return a service by its full name, or by the end of it where one alone has that end.

        Raises:
            ConfigurationError: There is none, or more than one, or the server does not describe it.
        """
        known = full_name(name, self.services)
        if not self.describes(known):
            raise ConfigurationError(
                f"the server has {known}, and does not describe it.",
                field="METHOD",
                hint="Pass --proto FILE or --descriptor-set FILE.",
            )
        return self.pool.FindServiceByName(known)

    def describes(self, service: str) -> bool:
        """Return whether the methods of a service are known."""
        try:
            self.pool.FindServiceByName(service)
        except KeyError:
            return False
        return True

    def method(self, name: str) -> MethodDescriptor:
        """Return a method by `Service/Method` or `Service.Method`.

        Raises:
            ConfigurationError: There is none.
        """
        service_name, method_name = split(name)
        service = self.service(service_name)
        found = service.methods_by_name.get(method_name)
        if found is None:
            names = [method.name for method in service.methods]
            raise _unknown("method", method_name, names, of=f" of {service.full_name}")
        return found


def split(name: str) -> tuple[str, str]:
    """Return the service and the method of `Service/Method` or `Service.Method`."""
    service, slash, method = name.lstrip("/").rpartition("/")
    if not slash:
        service, _, method = name.rpartition(".")
    return service, method


def full_name(name: str, services: Iterable[str]) -> str:
    """Return the full name of the service that `name` means."""
    known = sorted(services)
    if name in known:
        return name
    ends = [one for one in known if one.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    raise _unknown("service", name, ends or known)


def _unknown(kind: str, name: str, known: list[str], *, of: str = "") -> ConfigurationError:
    # The last part alone: packages have most of the letters.
    ends = {one.rpartition(".")[2]: one for one in known}
    near = [ends[end] for end in difflib.get_close_matches(name.rpartition(".")[2], ends, cutoff=0.5)]
    near = near or known[:5]
    return ConfigurationError(
        f"there is no {kind} {name!r}{of}.",
        field="METHOD",
        hint=f"Did you mean {' or '.join(near)}?" if near else "Call without METHOD to list the services.",
    )


def schema_of(files: Iterable[bytes], *, field: str) -> Schema:
    """Return the schema of serialized `FileDescriptorProto`s, in any order.

    Raises:
        ConfigurationError: A file that another one imports is missing, or one is damaged.
    """
    pending = {proto.name: proto for proto in (_parsed(file, field) for file in files)}
    pool, services = (
        DescriptorPool(),
        [
            f"{proto.package}.{service.name}".lstrip(".")
            for proto in pending.values()
            for service in proto.service
        ],
    )
    added: set[str] = set()
    while pending:
        ready = [name for name, proto in pending.items() if added.issuperset(proto.dependency)]
        if not ready:
            missing = {name for proto in pending.values() for name in proto.dependency} - added - set(pending)
            raise ConfigurationError(
                f"the descriptors of {', '.join(sorted(missing)) or 'a circle of files'} are missing.",
                field=field,
                hint="Write the descriptor set with protoc --include_imports.",
            )
        for name in ready:
            pool.Add(pending.pop(name))
            added.add(name)
    return Schema(pool=pool, services=tuple(services))


def _parsed(file: bytes, field: str) -> FileDescriptorProto:
    try:
        return FileDescriptorProto.FromString(file)
    except DecodeError as error:
        raise ConfigurationError("it holds no descriptors.", field=field) from error
