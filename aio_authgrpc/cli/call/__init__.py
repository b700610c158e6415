"""The command `call`: any RPC of any server, with its messages as JSON."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from aio_authgrpc import AuthorizedChannel, connect
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.cli.call import descriptor_files, listing
from aio_authgrpc.cli.call.data import pieces_of
from aio_authgrpc.cli.call.invoke import Metadata, Rpc
from aio_authgrpc.cli.call.messages import as_json, json_values
from aio_authgrpc.cli.call.reflection import Reflection
from aio_authgrpc.cli.call.rich_details import details_of
from aio_authgrpc.cli.call.schema import Schema, split
from aio_authgrpc.cli.console import err, exit_code, out, print_error, print_json, progress
from aio_authgrpc.cli.identity import ChosenIdentity, chosen_for_host
from aio_authgrpc.cli.options import CallIdentityOptions, ConnectionOptions, CredentialOptions
from aio_authgrpc.errors import ConfigurationError

# An RPC with one answer, and the questions about the services, end in this many seconds.
_TIMEOUT = 30.0
_COMPRESSION = {
    "none": grpc.Compression.NoCompression,
    "deflate": grpc.Compression.Deflate,
    "gzip": grpc.Compression.Gzip,
}
# What an RPC without an identity is told when the server wants one.
_WANTS_IDENTITY = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the command was told. The names are those of its arguments and options."""

    target: str
    method: str
    data: str
    metadata: Metadata = field(repr=False)
    describe: bool
    verbose: bool
    timeout: float | None
    compression: str
    protos: tuple[Path, ...]
    imports: tuple[Path, ...]
    descriptor_set: Path | None


async def run(
    order: Order, credential: CredentialOptions, call: CallIdentityOptions, connection: ConnectionOptions
) -> int:
    """List, describe or call, and return the exit code."""
    host = connection.named(order.target)
    identity = chosen_for_host(host, credential, call, metadata=[key for key, _ in order.metadata])
    opened = connect(
        order.target,
        credentials=identity.source,
        audience=identity.audience,
        ssl_credentials=connection.ssl_credentials(),
        plaintext=connection.plaintext,
        authority=connection.authority,
        header=call.token_header,
        quota_project_id=call.quota_project,
        compression=_COMPRESSION[order.compression],
    )
    schema: Schema | None = None
    try:
        async with opened as channel:
            schema = await _schema(order, channel)
            if order.method in {"", *schema.services} or order.describe:
                return _describe(order, schema)
            return await _call(order, channel, schema)
    except grpc.aio.AioRpcError as error:
        _print_failure(error, identity, schema)
        return exit_code(error.code())


def _print_failure(error: grpc.aio.AioRpcError, identity: ChosenIdentity, schema: Schema | None) -> None:
    print_error(error)
    for detail in details_of(error, *([] if schema is None else [schema.pool])):
        text = json.dumps(detail.value, ensure_ascii=False)
        err().print(redacted(f"{detail.name}: {text}"), markup=False)
    if error.code() in _WANTS_IDENTITY and identity.looked_up is None:
        err().print(f"hint: no token was looked up: {identity.reason}. --identity id, or access, sends one.")


async def _schema(order: Order, channel: AuthorizedChannel) -> Schema:
    if order.descriptor_set is not None:
        return descriptor_files.descriptor_set(order.descriptor_set)
    if order.protos:
        return await descriptor_files.compiled(order.protos, order.imports)
    reflection = Reflection(channel, timeout=order.timeout or _TIMEOUT)
    async with progress(f"Asking {order.target} for its services"):
        services = await reflection.services()
        symbols = services
        if order.method:
            symbols = [order.method if order.method in services else split(order.method)[0]]
        return await reflection.schema(services, symbols)


def _describe(order: Order, schema: Schema) -> int:
    if order.method and order.method not in schema.services:
        lines = listing.definition(schema.method(order.method))
    else:
        lines = listing.service_lines(schema, [order.method] if order.method else list(schema.services))
    for line in lines:
        out().print(line, markup=False)
    return 0


async def _call(order: Order, channel: AuthorizedChannel, schema: Schema) -> int:
    method = schema.method(order.method)
    streams = method.client_streaming or method.server_streaming
    timeout = order.timeout
    if timeout is None and not streams:
        timeout = _TIMEOUT
    rpc = Rpc(channel, schema, method, metadata=order.metadata, timeout=timeout)
    try:
        async with (
            progress(f"Waiting for {method.name}"),
            aclosing(rpc.answers(json_values(pieces_of(order.data)))) as answers,
        ):
            async for answer in answers:
                print_json(as_json(answer, schema.pool))
    finally:
        if order.verbose and rpc.call is not None:
            await _print_metadata(rpc)
    return 0


async def _print_metadata(rpc: Rpc) -> None:
    for name, metadata in zip(("initial", "trailing"), await rpc.metadata(), strict=True):
        for key, value in metadata:
            text = value if isinstance(value, str) else value.hex()
            err().print(redacted(f"{name} metadata: {key}: {text}"), style="dim", markup=False)


def parsed_metadata(given: list[str]) -> Metadata:
    """Return the metadata of `-H 'key: value'` options.

    Raises:
        ConfigurationError: One of them has another form.
    """
    pairs = [(key.strip().lower(), value.strip()) for key, _, value in (one.partition(":") for one in given)]
    if any(not key or ":" not in one for (key, _), one in zip(pairs, given, strict=True)):
        raise ConfigurationError("expected 'KEY: VALUE'.", field="--header", hint="-H 'x-request-id: 1'.")
    return tuple(pairs)
