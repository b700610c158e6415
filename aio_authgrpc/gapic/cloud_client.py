"""`client()`: an async google-cloud client on a channel of this package."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import google.auth.credentials

from aio_authgrpc import ConnectArguments, SslCredentials, api_key, connect, default
from aio_authgrpc.errors import ConfigurationError

if TYPE_CHECKING:
    from google.api_core.client_options import ClientOptions
    from google.api_core.gapic_v1.client_info import ClientInfo

T = TypeVar("T")

# What the transports of google-cloud give to a channel that they make themselves.
_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


def client(
    client_class: type[T],
    *,
    client_options: ClientOptions | Mapping[str, object] | None = None,
    client_info: ClientInfo | None = None,
    **arguments: Unpack[ConnectArguments],
) -> AbstractAsyncContextManager[T]:
    """Open a channel for an async google-cloud client, and yield the client, ready to use.

    `async with client(SecretManagerServiceAsyncClient) as secrets: await secrets.get_secret(name=...)`

    The endpoint is the client's own, for its universe (`GOOGLE_CLOUD_UNIVERSE_DOMAIN`), for mutual TLS
    (`GOOGLE_API_USE_MTLS_ENDPOINT`), or `client_options.api_endpoint`. Default credentials get the client's
    own scopes, as do google-auth's credentials that need some. Sources of this package keep the scopes they
    were made with; clients with the same source share its token. No default credentials are looked up by
    the client itself.

    Args:
        client_class: A generated client class for asyncio, such as `SecretManagerServiceAsyncClient`.
        client_options: google-api-core's `ClientOptions`, or a dict: `api_endpoint`, `universe_domain`,
            `quota_project_id`, `scopes`, `api_key`, `api_audience` and `client_cert_source` mean the same
            as without this package.
        client_info: The client's `client_info`.
        **arguments: The keyword arguments of `connect`, among them `credentials`. `options` override the
            client's own, which lift the limits of message sizes.

    Raises:
        ConfigurationError: At once, or on entry: an argument, a file or the environment cannot be used.
        ClientCertificateError: See `connect`.
    """
    if not _is_async_client(client_class):
        name = getattr(client_class, "__name__", type(client_class).__name__)
        raise ConfigurationError(
            f"{name} is not a generated google-cloud client for asyncio.",
            field="client_class",
            hint="Pass a class such as SecretManagerServiceAsyncClient; for other clients there is "
            "aio_authgrpc.gapic.credentials().",
        )
    return _opened(client_class, _client_options(client_options), client_info, arguments)


def _is_async_client(given: object) -> bool:
    if not isinstance(given, type) or not hasattr(given, "get_transport_class"):
        return False
    transport = inspect.signature(given).parameters.get("transport")
    # A synchronous client has the same methods, and another default.
    return transport is not None and transport.default == "grpc_asyncio"


def _client_options(given: ClientOptions | Mapping[str, object] | None) -> ClientOptions:
    from google.api_core.client_options import ClientOptions, from_dict  # noqa: PLC0415 - the client has loaded it

    options = from_dict(given) if isinstance(given, Mapping) else copy.copy(given or ClientOptions())
    if options.credentials_file is not None:
        raise ConfigurationError(
            "it names a credentials_file, which google-cloud clients no longer take.",
            field="client_options",
            hint="Pass credentials=service_account(path), or the function of the file's type.",
        )
    return options


@asynccontextmanager
async def _opened(
    client_class: Any, options: Any, client_info: ClientInfo | None, given: ConnectArguments
) -> AsyncGenerator[Any]:
    transport_class: Any = client_class.get_transport_class("grpc_asyncio")
    arguments = _arguments(transport_class, options, given)
    # A transport that is handed over brings its own credentials.
    options.scopes = options.api_key = None
    others = {} if client_info is None else {"client_info": client_info}

    def on(transport: object) -> Any:
        return client_class(transport=transport, client_options=options, **others)

    # In a thread: constructors look for client certificates, in files.
    endpoint: str = await asyncio.to_thread(lambda: on(_nowhere(transport_class)).api_endpoint)
    async with connect(endpoint, **arguments) as channel:
        yield await asyncio.to_thread(
            lambda: on(transport_class(channel=channel, host=endpoint, **others)),
        )


def _nowhere(transport_class: Any) -> object:
    """Return a transport without a host, for which a client works out the endpoint. It is never used."""
    nowhere = type(transport_class.__name__, (transport_class,), {"host": ""})
    return object.__new__(nowhere)


def _arguments(transport_class: Any, options: Any, given: ConnectArguments) -> ConnectArguments:
    """Return the arguments for `connect`, with the client's own in place of what was not given."""
    arguments: ConnectArguments = {
        "audience": options.api_audience or f"https://{transport_class.DEFAULT_HOST}",
        "quota_project_id": options.quota_project_id,
        **given,
    }
    # The caller's first: of several options of one name, gRPC takes the first.
    arguments["options"] = [*(given.get("options") or ()), *_OPTIONS]
    secure = given.get("ssl_credentials") is None and not given.get("plaintext")
    if options.client_cert_source is not None and secure:
        arguments["ssl_credentials"] = SslCredentials(client_certificate=options.client_cert_source)
    arguments["credentials"] = _credentials(given.get("credentials"), transport_class.AUTH_SCOPES, options)
    return arguments


def _credentials(given: Any, own_scopes: tuple[str, ...], options: Any) -> Any:
    if options.api_key is not None:
        if given is not None:
            raise ConfigurationError(
                "it has an api_key, which excludes credentials=.",
                field="client_options",
                hint="Leave one of them out.",
            )
        return api_key(options.api_key, header="x-goog-api-key")
    if given is None:
        return default(options.scopes, default_scopes=own_scopes)
    if not isinstance(given, google.auth.credentials.Credentials):
        return given
    # A service account without scopes signs its tokens for the audience, as in the clients' own channels; but
    # not for a user that it acts for, who has no public name.
    signs = hasattr(given, "with_always_use_jwt_access") and not getattr(given, "_subject", None)
    scopes = options.scopes or (None if signs else own_scopes)
    if not scopes:
        return given
    untyped: Any = google.auth.credentials
    return untyped.with_scopes_if_required(given, scopes)
