"""`AuthMetadataPlugin`: call credentials for channels that are made elsewhere."""

from __future__ import annotations

import asyncio
import re
import threading
import urllib.parse
import warnings
import weakref
from collections import OrderedDict
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Self
from weakref import WeakSet

import google.auth.transport
import grpc

from aio_authgrpc._checks.arguments import check_seconds, check_type
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._checks.secrets import shown
from aio_authgrpc._http.request import AiohttpRequest, own_request
from aio_authgrpc._loop.clock import SystemClock
from aio_authgrpc._loop.loop_watch import LoopWatch
from aio_authgrpc._loop.ownership import LoopBound
from aio_authgrpc._sources.credentials import CredentialsType, as_token_source
from aio_authgrpc._tokens.cache import TokenCache, close_all
from aio_authgrpc._tokens.source import LoadableTokenSource, TokenRequest, header_of
from aio_authgrpc.errors import (
    AuthGrpcError,
    AuthRpcError,
    ChannelClosedError,
    ConfigurationError,
    TokenUnavailableError,
    WrongEventLoopError,
)

# Seconds. A loop that has not started a task by then is stopped, or blocked by the RPC that waits for it.
_LOOP_TIMEOUT = 10.0
# Servers behind changing addresses are new hosts each time, and the tokens of the old ones are of no use.
_MOST_HOSTS = 128
# On entry the source reads its files. Some need an audience for that, and no RPC has named one yet.
_ANY_SERVICE = "https://localhost"


class AuthMetadataPlugin(grpc.AuthMetadataPlugin):
    """Adds tokens to the RPCs of any channel: google-auth's class of this name, for asyncio (seed 000).

    It is for `grpc.metadata_call_credentials`: in composite channel credentials, or as `credentials=` of one
    call, of `grpc.aio` and of synchronous channels. Prefer `connect` or `AuthorizedChannel` where you choose
    the channel: gRPC starts a thread in each RPC with call credentials, and reports every failure as
    UNAVAILABLE. An RPC ends at its deadline, also while it waits for a token. The plugin is not told about
    that, nor about a cancellation, and goes on waiting for the token.

    gRPC calls the plugin in threads of its own. The plugin hands each call to the event loop, where one
    `TokenCache` for each host serves them all: one token request however many RPCs wait, refreshed in the
    background. The loop is the one that runs when the plugin is made, or is entered:

        async with AuthMetadataPlugin(credentials) as plugin:
            call_credentials = grpc.metadata_call_credentials(plugin)

    That loop has to run while RPCs are made. A synchronous call on the loop's own thread blocks the loop and
    fails after `loop_timeout`; so does an RPC that waits for a token while the loop is stopped. With a closed
    loop an RPC fails within a second.

    `identity()` does not reach a plugin: its RPCs carry its own credentials.

    The plugin is not told what a server does with the token: a refused token stays in use until it expires.
    gRPC passes on only the text of a failure. The text begins with the status code that the failure has in
    this package, and says whether a retry may help; the error itself is `last_error`.

    Args:
        credentials: A google-auth credential, a `TokenSource`, or None for the default ones.
        request: See `secure_authorized_channel`.
        default_host: The host that tokens are for, where it is not the RPC's own, such as
            `pubsub.googleapis.com`.
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
        loop_timeout: float = _LOOP_TIMEOUT,
    ) -> None:
        self._bound = LoopBound("plugin")
        self._all_closed = False
        self._caches: OrderedDict[str, TokenCache] = OrderedDict()
        self._leaving: WeakSet[TokenCache] = WeakSet()  # kept by the RPCs that wait on them
        check_type("default_host", default_host, str, type(None))
        _check_host(default_host)
        check_seconds("loop_timeout", loop_timeout)
        self._source = as_token_source(credentials)
        self._header = header_of(self._source, None) or "authorization"
        given = own_request(request)
        self._http = AiohttpRequest() if given is None else given
        self._owns_http = given is None
        self._default_host = default_host
        self._loop_timeout = loop_timeout
        self._watch: LoopWatch[_Handover] = LoopWatch(loop_timeout, partial(self._give_up, weakref.ref(self)))
        self._waiting: set[asyncio.Task[None]] = set()
        self._last_error: AuthGrpcError | None = None
        with suppress(WrongEventLoopError):  # none runs yet: the plugin is entered later
            self._bound.check()

    @property
    def last_error(self) -> AuthGrpcError | None:
        """Why the last RPC that got no token got none, with its cause; None if none failed."""
        return self._last_error

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """Hand an RPC over to the loop. Called by gRPC, in a thread that it started for this call."""
        handover = _Handover(callback)
        loop = self._bound.open_on
        if not isinstance(loop, asyncio.AbstractEventLoop):
            handover.fail(self._remember(self._unusable()))
            return
        try:
            loop.call_soon_threadsafe(self._begin, context.service_url, handover)
        except RuntimeError:
            handover.fail(self._remember(WrongEventLoopError("The event loop of the plugin was closed.")))
            return
        if not handover.taken.wait(self._loop_timeout):
            error = TokenUnavailableError(
                f"The event loop did not answer within {self._loop_timeout:g} s.",
                hint="It is stopped, or blocked: perhaps by a synchronous RPC in its own thread.",
            )
            handover.fail(self._remember(error))
        elif not handover.answered:
            self._watch.add(handover, loop)

    async def aclose(self) -> None:
        """End the RPCs that wait for a token, and close what is owned; again, do what a cancelled call left.

        Raises:
            WrongEventLoopError: Another loop than the plugin's runs here.
        """
        if self._all_closed:
            return
        if not self._bound.closed:
            self._bound.check()
            self._bound.close()
        for task in self._waiting:
            task.cancel()
        for cache in (caches := [*self._caches.values(), *self._leaving]):
            cache.end()
        async with AsyncExitStack() as closing:  # each wait may be cancelled
            if self._owns_http:
                closing.push_async_callback(self._http.aclose)
            closing.push_async_callback(close_all, caches)
            await asyncio.gather(*self._waiting, return_exceptions=True)
        self._all_closed = True

    async def __aenter__(self) -> Self:
        """Take the running loop for the plugin's, if it has none, and let the source read its files.

        Raises:
            ConfigurationError: A file or the environment cannot be used.
            WrongEventLoopError: It was made on another loop.
            ChannelClosedError: It was closed before.
        """
        self._bound.check()
        if isinstance(self._source, LoadableTokenSource):
            audience = self._audience_for(_ANY_SERVICE)
            request = TokenRequest(http=self._http, audience=audience, time=SystemClock.time())
            try:
                await self._source.load(request)
            except BaseException:
                await self.aclose()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._caches and not self._bound.closed:
            text = "An AuthMetadataPlugin was never closed."
            warnings.warn(text, ResourceWarning, source=self, stacklevel=2)

    def _unusable(self) -> AuthRpcError:
        if self._bound.closed:
            return ChannelClosedError("The plugin was closed.")
        return WrongEventLoopError(
            "The plugin has no event loop.",
            hint="Make it where one runs, or enter it with 'async with'; after a fork, make a new one.",
        )

    def _begin(self, service_url: str, handover: _Handover) -> None:
        """Start to wait for the token; on the loop."""
        if not handover.take():
            return
        if self._bound.closed:
            handover.fail(self._remember(self._unusable()))
            return
        task = asyncio.get_running_loop().create_task(
            self._serve(service_url, handover), name="aio_authgrpc plugin"
        )
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _serve(self, service_url: str, handover: _Handover) -> None:
        """Answer gRPC, whatever becomes of this task."""
        answer: AuthGrpcError = ChannelClosedError("The plugin was closed while an RPC waited for its token.")
        try:
            token = await self._cache_for(service_url).get()
            handover.answer(token.as_metadata(self._header))
        except AuthGrpcError as error:
            answer = self._remember(error)
        finally:
            handover.fail(answer)  # does nothing after an answer

    @staticmethod
    def _give_up(plugin: weakref.ref[AuthMetadataPlugin], handover: _Handover, closed: bool) -> None:
        """Fail an RPC that the loop will not answer. The watch, which calls this, keeps no plugin alive."""
        error: AuthRpcError = TokenUnavailableError(
            "The event loop stopped while an RPC waited for its token."
        )
        if closed:
            error = WrongEventLoopError("The event loop was closed while an RPC waited for its token.")
        owner = plugin()
        if owner is not None:
            owner._remember(error)
        handover.fail(error)

    def _audience_for(self, service_url: str) -> str:
        return _audience(service_url) if self._default_host is None else f"https://{self._default_host}"

    def _cache_for(self, service_url: str) -> TokenCache:
        audience = self._audience_for(service_url)
        # Check and set without an await between them.
        if audience not in self._caches:
            self._caches[audience] = TokenCache(self._source, audience=audience, request=self._http)
        self._caches.move_to_end(audience)
        if len(self._caches) > _MOST_HOSTS:
            self._leaving.add(self._caches.popitem(last=False)[1])
        return self._caches[audience]

    def _remember(self, error: AuthGrpcError) -> AuthGrpcError:
        self._last_error = error
        return error


class _Handover:
    """One RPC's metadata, promised to gRPC: answered exactly once, from any thread."""

    def __init__(self, callback: grpc.AuthMetadataPluginCallback) -> None:
        self._callback = callback
        self._lock = threading.Lock()
        self._answered = False
        self.taken = threading.Event()

    def take(self) -> bool:
        """Note that the loop has started; return whether gRPC still waits."""
        self.taken.set()
        return not self._answered

    @property
    def answered(self) -> bool:
        """Whether gRPC has its answer."""
        return self._answered

    def answer(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Give the metadata, unless an answer was given."""
        if self._first():
            self._callback(metadata, None)

    def fail(self, error: AuthGrpcError) -> None:
        """Give the failure, unless an answer was given. gRPC takes its text, and nothing else."""
        if self._first():
            advice = "a retry may help" if error.retryable else "a retry will not help"
            self._callback((), RuntimeError(f"{error} [{advice}]"))

    def _first(self) -> bool:
        with self._lock:
            first, self._answered = not self._answered, True
        return first


def _check_host(host: str | None) -> None:
    if host is not None and (
        not re.fullmatch(r"[^\s/@?#]+", host) or not urllib.parse.urlsplit(f"//{host}").hostname
    ):
        raise ConfigurationError(
            f"{shown(host)!r} is not a host.",
            field="default_host",
            hint="Write 'pubsub.googleapis.com', without a scheme.",
        )


def _audience(service_url: str) -> str:
    """Return `https://<host>` of what gRPC calls the service's URL, which has the service in its path."""
    return f"https://{urllib.parse.urlsplit(service_url).netloc}"  # gRPC has dropped port 443
