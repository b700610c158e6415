"""Options that several commands share: a dataclass for each group, one option for each field."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import grpc
import typer

from aio_authgrpc import SslCredentials, client_certificate_files
from aio_authgrpc._client.target import Target, parse_target
from aio_authgrpc.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., None])

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]

_IDENTITY = "Identity"
_CONNECTION = "Connection"


class IdentityKind(StrEnum):
    """What `--identity` takes."""

    AUTO = "auto"
    ID = "id"
    ACCESS = "access"
    NONE = "none"


class TokenType(StrEnum):
    """What `token --type` takes."""

    AUTO = "auto"
    ID = "id"
    ACCESS = "access"


class Compression(StrEnum):
    """What `--compression` takes."""

    NONE = "none"
    DEFLATE = "deflate"
    GZIP = "gzip"


class BookstoreRpc(StrEnum):
    """The RPCs."""

    LIST_SHELVES = "ListShelves"
    CREATE_SHELF = "CreateShelf"
    GET_SHELF = "GetShelf"
    DELETE_SHELF = "DeleteShelf"
    LIST_BOOKS = "ListBooks"
    CREATE_BOOK = "CreateBook"
    GET_BOOK = "GetBook"
    DELETE_BOOK = "DeleteBook"


class Switch(StrEnum):
    """What `--use_tls` takes."""

    TRUE = "true"
    FALSE = "false"


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialOptions:
    """Whose token it is, and what it is for. The names are those of the options."""

    credentials: Annotated[
        Path | None,
        typer.Option(
            help="A credential file of any type. Without it: Application Default Credentials.",
            rich_help_panel=_IDENTITY,
            show_default=False,
        ),
    ] = None
    audience: Annotated[
        str | None,
        typer.Option(
            help="The audience of an ID token, such as https://NAME.a.run.app.",
            rich_help_panel=_IDENTITY,
            show_default=False,
        ),
    ] = None
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            help="A scope of an access token; repeat it, or separate several by commas.",
            rich_help_panel=_IDENTITY,
            show_default=False,
        ),
    ] = None
    impersonate: Annotated[
        str | None,
        typer.Option(
            help="The email of a service account whose token is wanted.",
            rich_help_panel=_IDENTITY,
            show_default=False,
        ),
    ] = None

    @property
    def scope_list(self) -> list[str]:
        """The scopes, one by one."""
        return [scope for given in self.scopes or () for scope in given.replace(",", " ").split()]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallIdentityOptions:
    """How a call is authenticated, beside `CredentialOptions`."""

    identity: Annotated[
        IdentityKind,
        typer.Option(
            help="The token: 'auto' is an ID token for *.run.app, an access token for *.googleapis.com, and "
            "none for other hosts unless an option of this panel asks for one.",
            rich_help_panel=_IDENTITY,
        ),
    ] = IdentityKind.AUTO
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with a token to send as it is, such as what `token` printed.",
            rich_help_panel=_IDENTITY,
            show_default=False,
        ),
    ] = None
    token_header: Annotated[
        str | None,
        typer.Option(
            help="The metadata key of the token, such as x-serverless-authorization or proxy-authorization.",
            rich_help_panel=_IDENTITY,
            show_default="authorization",
        ),
    ] = None
    quota_project: Annotated[
        str | None,
        typer.Option(
            help="The project that pays, sent as x-goog-user-project.",
            rich_help_panel=_IDENTITY,
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """How the server is reached."""

    plaintext: Annotated[
        bool,
        typer.Option("--plaintext", help="Use no TLS.", rich_help_panel=_CONNECTION),
    ] = False
    root_certificates: Annotated[
        Path | None,
        typer.Option(
            help="The authorities that may certify the server, PEM.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ] = None
    client_certificate: Annotated[
        Path | None,
        typer.Option(
            help="The client's certificate chain, PEM, for mutual TLS.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ] = None
    client_key: Annotated[
        Path | None,
        typer.Option(
            help="Its private key, PEM, where it is in a file of its own.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ] = None
    authority: Annotated[
        str | None,
        typer.Option(
            help="The name of the server in its certificate and in requests, where the target is another.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ] = None

    def ssl_credentials(self) -> SslCredentials | grpc.ChannelCredentials | None:
        """Return the argument of `connect()`."""
        if self.client_key is not None and self.client_certificate is None:
            raise ConfigurationError(
                "it needs --client-certificate.", field="--client-key", hint="Pass both, or neither."
            )
        if self.root_certificates is None and self.client_certificate is None:
            return None
        return SslCredentials(
            root_certificates=self.root_certificates,
            client_certificate=None
            if self.client_certificate is None
            else client_certificate_files(self.client_certificate, self.client_key),
        )

    def named(self, target: str) -> Target:
        """Return the target as its server is named: tokens are for that name."""
        dialled = parse_target(target)
        return dialled if self.authority is None else parse_target(self.authority)


def with_options(command: F) -> F:
    """Give a command one option for each field of its parameters that are dataclasses."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(command).parameters.values()
        if parameter.name not in groups
    ]
    for group in groups.values():
        members = get_type_hints(group, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=members[field.name],
            )
            for field in fields(group)
        ]

    @functools.wraps(command)
    def expanded(**given: Any) -> None:
        made = {
            name: cast("Any", group)(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**given, **made)

    shown = cast("Any", expanded)
    # Typer reads the signature and the hints, which must not lead back to the command's own.
    del shown.__wrapped__
    shown.__signature__ = inspect.Signature(
        sorted(parameters, key=lambda parameter: parameter.kind), return_annotation=None
    )
    shown.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return cast("F", expanded)
