"""`channel_factory()`: for clients that ask a function for their channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack
from urllib.parse import urlsplit

import grpc

from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._client.arguments import (
    ConnectArguments,
    ConnectOptions,
    check_keywords,
    checked_options,
)
from aio_authgrpc._client.lazy import LazyChannel
from aio_authgrpc._client.service_config import OPTION, Options
from aio_authgrpc._sources.credentials import CredentialsType
from aio_authgrpc.errors import ConfigurationError


class ChannelFactory(NotPickled):
    """What `channel_factory()` returns: makes a `LazyChannel` for each target, without an event loop.

    A google-cloud client passes keyword arguments, too. What the factory was made with overrides them.
    """

    def __init__(self, credentials: CredentialsType, arguments: ConnectOptions) -> None:
        self._credentials = credentials
        self._arguments = arguments
        self._options = arguments.get("options") or ()

    @hiding_arguments
    def __call__(  # noqa: PLR0913 - what the transports of google-cloud clients pass
        self,
        target: str,
        *,
        credentials: CredentialsType = None,
        credentials_file: str | None = None,
        scopes: Sequence[str] | None = None,
        default_scopes: Sequence[str] | None = None,
        default_host: str | None = None,
        ssl_credentials: grpc.ChannelCredentials | None = None,
        quota_project_id: str | None = None,
        options: Options | None = None,
    ) -> LazyChannel:
        """Make a channel that opens at its first RPC.

        Args:
            target: See `connect`; also an `https://` URL, such as an agent's card has. Its path is not used:
                that of an RPC is its method's.
            credentials: Those of the client, for a factory that was made without.
            credentials_file: None: a file is passed as `channel_factory(service_account(...))` and its kin.
            scopes: For a google-auth credential of the client's that has none.
            default_scopes: The same, without `scopes`.
            default_host: Not used: the target names the host.
            ssl_credentials: Those of the client, for a factory that was made without.
            quota_project_id: The same.
            options: gRPC channel arguments. Those of the factory override them, and its `service_config` a
                service config among them.

        Raises:
            ConfigurationError: An argument cannot be used.
        """
        del default_host
        if credentials_file is not None:
            raise ConfigurationError(
                "a channel factory reads no file.",
                field="credentials_file",
                hint="Write channel_factory(service_account(file)), or the function for its type.",
            )
        arguments: ConnectArguments = {**self._arguments, "credentials": self._credentials}
        if self._credentials is None:
            arguments["credentials"] = _scoped(credentials, scopes or default_scopes)
        if ssl_credentials is not None and not arguments.get("plaintext"):
            arguments.setdefault("ssl_credentials", ssl_credentials)
        if quota_project_id is not None:
            arguments.setdefault("quota_project_id", quota_project_id)
        arguments["options"] = [*self._options, *self._kept(options)]  # gRPC takes the first of a name
        return LazyChannel(_without_scheme(target), **arguments)

    def _kept(self, options: Options | None) -> Options:
        """Return a client's options, without its service config where the factory has one."""
        replaced = OPTION if self._arguments.get("service_config") is not None else None
        return [(name, value) for name, value in checked_options(options) if name != replaced]

    def __repr__(self) -> str:
        return "<ChannelFactory>"


@hiding_arguments
def channel_factory(
    credentials: CredentialsType = None, **arguments: Unpack[ConnectOptions]
) -> ChannelFactory:
    """Return a function that makes authenticated channels: `factory(target)`, synchronous and lazy.

    It suits a2a-sdk's `ClientConfig(grpc_channel_factory=...)` and `channel=` of a google-cloud client's
    asyncio transport; such a client takes `AnonymousCredentials()`, or it looks up default credentials for
    the function. The channels open at their first RPC, once for each event loop; see `LazyChannel`.

    Args:
        credentials: See `connect`. None means those that the client passes, else the default ones.
        **arguments: The other keyword arguments of `connect`; see `LazyChannel`.

    Raises:
        ConfigurationError: An argument cannot be used.
    """
    check_keywords("channel_factory", arguments, ConnectOptions)
    arguments["options"] = checked_options(arguments.get("options"))
    LazyChannel("localhost", credentials=credentials, **arguments)  # refuses an argument where it was written
    return ChannelFactory(credentials, arguments)


def _without_scheme(target: str) -> str:
    """Return host and port of an https URL; another target as it is."""
    url = urlsplit(target)
    return url.netloc if url.scheme == "https" and "@" not in url.netloc else target


def _scoped(credentials: CredentialsType, scopes: Sequence[str] | None) -> CredentialsType:
    """Return a google-auth credential with the client's scopes, if it needs some."""
    given: Any = credentials
    if scopes and getattr(given, "requires_scopes", False):
        given = given.with_scopes(list(scopes))
    scoped: CredentialsType = given
    return scoped
