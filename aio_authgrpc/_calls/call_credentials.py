"""`AuthMetadataPlugin`: call credentials for channels that are made elsewhere."""

from __future__ import annotations

import re
import urllib.parse
import weakref
from functools import partial
from typing import Self

import google.auth.transport
import grpc

from aio_authgrpc._calls.handover import Handover, LastFailure
from aio_authgrpc._calls.plugin_loops import GivenLoop, OwnLoop
from aio_authgrpc._calls.plugin_tokens import PluginTokens, audience_of
from aio_authgrpc._checks.arguments import check_seconds, check_type
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._checks.secrets import shown
from aio_authgrpc._http.request import own_request
from aio_authgrpc._sources.credentials import CredentialsType, as_token_source
from aio_authgrpc._tokens.source import header_of, load
from aio_authgrpc.errors import AuthGrpcError, ConfigurationError

# Seconds. A loop that has not started a task by then is stopped, or blocked by the RPC that waits for it.
_LOOP_TIMEOUT = 10.0
# On entry the source reads its files. Some need an audience for that, and no RPC has named one yet.
_ANY_SERVICE = "https://localhost"


class AuthMetadataPlugin(grpc.AuthMetadataPlugin):
    """Adds tokens to the RPCs of any channel: google-auth's class of this name, for asyncio (seed 000).

    It is for `grpc.metadata_call_credentials`: in composite channel credentials, or as `credentials=` of one
    call, of `grpc.aio` and of synchronous channels. Prefer `connect` or `AuthorizedChannel` where you choose
    the channel: gRPC starts a thread in each RPC with call credentials, and reports every failure as
    UNAVAILABLE, see below. An RPC ends at its deadline, also while it waits for a token. The plugin is not
    told about that, nor about a cancellation, and goes on waiting for the token.

    gRPC calls the plugin in threads of its own. The plugin hands each call to an event loop, where one
    `TokenCache` for each host serves them all: one token request however many RPCs wait, refreshed in the
    background. By default the loop is the one that runs when the plugin is made, or is entered:

        async with AuthMetadataPlugin(credentials) as plugin:
            call_credentials = grpc.metadata_call_credentials(plugin)

    That loop has to run while RPCs are made. A synchronous call on the loop's own thread blocks the loop and
    fails after `loop_timeout`; so does an RPC that waits for a token while the loop is stopped. With a closed
    loop an RPC fails within a second.

    With `own_loop=True` the plugin has an event loop in a daemon thread of its own, from the first RPC on.
    It needs no other: RPCs get their tokens in a program without asyncio, in the thread of a loop, and after
    `asyncio.run` has returned. A forked child starts a thread and caches of its own. The thread ends with
    `close()` or `aclose()`, when the last channel with the plugin is gone, or with the process.

    `identity()` does not reach a plugin: its RPCs carry its own credentials.

    The plugin is not told what a server does with the token: a refused token stays in use until it expires.
    gRPC passes on only the text of a failure, and makes UNAVAILABLE of it, also of a permanent one. Retries
    on UNAVAILABLE, such as the default ones of google-cloud clients and of OTLP exporters, repeat it in vain.
    A channel of `connect` has UNAUTHENTICATED for these. The text begins with the status code that the
    failure has in this package, and says whether a retry may help; the error itself is `last_error`.

    Args:
        credentials: A google-auth credential, a `TokenSource`, or None for the default ones.
        request: See `secure_authorized_channel`. An `AiohttpRequest` belongs to one event loop, so it cannot
            be used with `own_loop`.
        default_host: The host that tokens are for, where it is not the RPC's own, such as
            `pubsub.googleapis.com`.
        own_loop: Whether the plugin starts an event loop of its own, in a thread.
        loop_timeout: Seconds until an RPC fails while the loop is blocked or stopped.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    @hiding_arguments
    def __init__(
        self,
        credentials: CredentialsType,
        request: google.auth.transport.Request | None = None,
        default_host: str | None = None,
        *,
        own_loop: bool = False,
        loop_timeout: float = _LOOP_TIMEOUT,
    ) -> None:
        check_type("default_host", default_host, str, type(None))
        _check_host(default_host)
        check_type("own_loop", own_loop, bool)
        check_seconds("loop_timeout", loop_timeout)
        self._source = as_token_source(credentials)
        self._request = own_request(request)
        if own_loop and self._request is not None:
            raise ConfigurationError(
                "it belongs to another event loop than the plugin's own.",
                field="request",
                hint="Leave it out: the plugin makes one.",
            )
        self._default_host = default_host
        self._last_failure = LastFailure()
        make = partial(
            PluginTokens,
            self._source,
            header=header_of(self._source, None) or "authorization",
            request=self._request,
            default_host=default_host,
            loop_timeout=loop_timeout,
        )
        self._loop = OwnLoop(make) if own_loop else GivenLoop(make)
        if isinstance(self._loop, OwnLoop):  # not at the end of the process: see LoopThread
            weakref.finalize(self, self._loop.stop).atexit = False

    @property
    def last_error(self) -> AuthGrpcError | None:
        """Why the last RPC that got no token got none, with its cause; None if none failed."""
        return self._last_failure.error

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """Hand an RPC over to the loop. Called by gRPC, in a thread that it started for this call."""
        handover = Handover(callback, self._last_failure)
        try:
            loop, tokens = self._loop.get()
        except AuthGrpcError as error:
            handover.fail(error)
        else:
            tokens.hand_over(loop, context.service_url, handover)

    def close(self) -> None:
        """Do what `aclose()` does, and block until it is done; for a plugin with `own_loop`.

        Raises:
            WrongEventLoopError: The plugin has no loop of its own.
        """
        self._loop.close()

    async def aclose(self) -> None:
        """End the RPCs that wait for a token, and close what is owned; again, do what a cancelled call left.

        With `own_loop`, it works on any event loop and waits 5 s at most.

        Raises:
            WrongEventLoopError: Another loop than the plugin's runs here.
        """
        await self._loop.aclose()

    async def __aenter__(self) -> Self:
        """Take the running loop for the plugin's, unless it has one, and let the source read its files.

        Raises:
            ConfigurationError: A file or the environment cannot be used.
            WrongEventLoopError: It was made on another loop.
            ChannelClosedError: It was closed before.
        """
        self._loop.enter()
        try:
            await load(self._source, audience_of(_ANY_SERVICE, self._default_host), self._request)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _check_host(host: str | None) -> None:
    if host is not None and (
        not re.fullmatch(r"[^\s/@?#]+", host) or not urllib.parse.urlsplit(f"//{host}").hostname
    ):
        raise ConfigurationError(
            f"{shown(host)!r} is not a host.",
            field="default_host",
            hint="Write 'pubsub.googleapis.com', without a scheme.",
        )
