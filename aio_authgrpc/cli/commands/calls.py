"""The options of `call` and `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aio_authgrpc.cli.options import (
    AsJson,
    CallIdentityOptions,
    Compression,
    ConnectionOptions,
    CredentialOptions,
    with_options,
)


@with_options
def call(
    target: Annotated[str, typer.Argument(help="HOST, HOST:PORT or another gRPC target.")],
    method: Annotated[
        str, typer.Argument(help="SERVICE/METHOD to call, or SERVICE to list.", show_default=False)
    ] = "",
    *,
    data: Annotated[
        str,
        typer.Option(
            "--data", "-d", help="The request as JSON, @FILE, or - for stdin; several for a stream."
        ),
    ] = "",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="Metadata: 'KEY: VALUE'.", show_default=False)
    ] = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Print the method's messages and an example of -d.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print the server's metadata, too.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds for the RPC.", show_default="30, and no limit for streams", min=0.001),
    ] = None,
    compression: Annotated[Compression, typer.Option(help="Of the requests.")] = Compression.NONE,
    proto: Annotated[
        list[Path] | None,
        typer.Option(help="A .proto with the service, in place of reflection.", show_default=False),
    ] = None,
    import_path: Annotated[
        list[Path] | None, typer.Option("--import-path", "-I", help="A folder of imports of --proto.")
    ] = None,
    descriptor_set: Annotated[
        Path | None,
        typer.Option(help="What protoc --include_imports --descriptor_set_out wrote.", show_default=False),
    ] = None,
    credential: CredentialOptions,
    identity: CallIdentityOptions,
    connection: ConnectionOptions,
) -> None:
    """Call any RPC, or list what can be called, with the token that the host takes.

    The server is asked for its services (reflection), unless --proto or --descriptor-set names them. Each
    answer is one JSON object: on one line in a pipe.
    """
    from aio_authgrpc.cli import call as command  # noqa: PLC0415 - --help does not need it
    from aio_authgrpc.cli import console  # noqa: PLC0415 - as above

    async def work() -> int:
        order = command.Order(
            target=target,
            method=method,
            data=data,
            metadata=command.parsed_metadata(header or []),
            describe=describe,
            verbose=verbose,
            timeout=timeout,
            compression=compression,
            protos=tuple(proto or ()),
            imports=tuple(import_path or ()),
            descriptor_set=descriptor_set,
        )
        return await command.run(order, credential, identity, connection)

    console.run(work())


@with_options
def doctor(
    target: Annotated[str, typer.Argument(help="HOST, HOST:PORT or another gRPC target.")],
    method: Annotated[
        str,
        typer.Argument(
            help="SERVICE/METHOD to call with an empty message, in place of the health check. Google's APIs "
            "have no health check, and need PACKAGE.SERVICE/METHOD, for want of reflection.",
            show_default=False,
        ),
    ] = "",
    *,
    timeout: Annotated[float, typer.Option(help="Seconds for each step.", min=0.001)] = 5.0,
    as_json: AsJson = False,
    credential: CredentialOptions,
    identity: CallIdentityOptions,
    connection: ConnectionOptions,
) -> None:
    """Find out why a call does not work: one cause, and one thing to type next.

    Looks at the name, the proxy, TCP, TLS, the credential, the token and the clock, and makes one RPC. The
    output has no secret in it, and can go into a ticket. Exits with 1 where a fault was found.
    """
    from aio_authgrpc.cli import console  # noqa: PLC0415 - --help does not need it
    from aio_authgrpc.cli import doctor as command  # noqa: PLC0415 - as above

    console.run(
        command.run(
            target,
            method=method,
            timeout=timeout,
            as_json=as_json,
            credential=credential,
            identity=identity,
            connection=connection,
        )
    )
