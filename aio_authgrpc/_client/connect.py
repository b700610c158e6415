"""`connect()`: opens a channel, yields typed stubs, closes it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, Unpack, cast, overload

import grpc
import grpc.aio

from aio_authgrpc._calls.channel import AuthorizedChannel
from aio_authgrpc._checks.arguments import check_seconds
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._client.arguments import ChannelSettings, ConnectArguments, check_keywords
from aio_authgrpc._client.opening import make_ready, open_channel
from aio_authgrpc._loop.ownership import running_loop
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc.errors import ConfigurationError

T = TypeVar("T")
S1 = TypeVar("S1")
S2 = TypeVar("S2")
S3 = TypeVar("S3")
S4 = TypeVar("S4")
S5 = TypeVar("S5")


class Connection(NotPickled, Generic[T]):
    """What `connect()` returns: an async context manager that yields the stubs, or else the channel.

    It can be opened again after it was closed, or its event loop has ended. Closed, it holds no resources.
    """

    def __init__(
        self, settings: ChannelSettings, stubs: Sequence[Callable[[grpc.aio.Channel], object]]
    ) -> None:
        self._settings = settings
        self._stubs = tuple(stubs)
        self._opening = False
        self._channel: AuthorizedChannel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def channel(self) -> AuthorizedChannel:
        """The channel, for more stubs or its state.

        Raises:
            ConfigurationError: The connection is not open.
        """
        if self._channel is None:
            raise ConfigurationError("it is not open.", field="connection", hint="Use it in 'async with'.")
        return self._channel

    @property
    def auth(self) -> TokenCache:
        """The channel's token cache; `auth.status()` returns its state. See `AuthorizedChannel.auth`."""
        return self.channel.auth

    async def check(self, timeout: float) -> None:
        """Raise unless there is a token, and the server is connected, within `timeout` seconds.

        It is for readiness probes: it fetches a token, and connects, where that was not done. Cancelling it
        leaves the connection as it is.

        Raises:
            ConfigurationError: The connection is not open.
            AuthRpcError: There is no token, or no connection; the error says why.
        """
        check_seconds("timeout", timeout)
        await make_ready(self.channel, self._settings, timeout)

    async def __aenter__(self) -> T:
        # Check and set without an await between them. What was open on a loop that has ended is lost.
        in_use = self._opening or self._channel is not None
        if in_use and self._loop is not None and not self._loop.is_closed():
            raise ConfigurationError(
                "it is open already.", field="connection", hint="Share its stub, or call connect() again."
            )
        self._opening, self._loop = True, running_loop()
        try:
            channel = await open_channel(self._settings)
            try:
                ready_timeout = self._settings.ready_timeout
                if ready_timeout is not None:
                    await make_ready(channel, self._settings, ready_timeout)
                made = self._make_stubs(channel)
            except BaseException:
                await channel.close()
                raise
            self._channel = channel
        finally:
            self._opening = False
        if not made:
            return cast("T", channel)
        return cast("T", made[0] if len(made) == 1 else made)

    def _make_stubs(self, channel: AuthorizedChannel) -> tuple[object, ...]:
        config = self._settings.service_config
        if config is None or not self._stubs:
            return tuple(stub(channel) for stub in self._stubs)
        from aio_authgrpc._client.service_config_names import AskedMethods  # noqa: PLC0415 - few need it

        made: list[object] = []
        asked = AskedMethods()
        for stub in self._stubs:
            channel.paths = paths = set[str]()
            made.append(stub(channel))
            asked.add(made[-1], paths)
        channel.paths = None
        asked.check(config)
        return tuple(made)

    async def __aexit__(self, *_: object) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(self._settings.grace)

    if not TYPE_CHECKING:  # type checkers report these mistakes by themselves

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"A connection has no {name!r}: write 'async with connect(...) as stub', and use "
                f"'stub.{name}' in the block.",
                name=name,
                obj=self,
            )

        def __await__(self) -> NoReturn:
            raise TypeError("A connection is not awaited: write 'async with connect(...) as stub'.")

        def __enter__(self) -> NoReturn:
            raise TypeError("A connection is opened on the event loop: write 'async with' instead of 'with'.")

        def __exit__(self, *_: object) -> None:  # without it, Python does not ask for __enter__
            pass

    def __repr__(self) -> str:
        state = "closed" if self._channel is None else "open"
        return f"<{type(self).__name__} to {self._settings.target.address}, {state}>"


StubClass = Callable[[grpc.aio.Channel], T]
"""A generated stub class, or a function that makes a stub, or a client, of a channel."""


@overload
def connect(target: str, /, **arguments: Unpack[ConnectArguments]) -> Connection[AuthorizedChannel]: ...
@overload
def connect(target: str, stub: StubClass[S1], /, **arguments: Unpack[ConnectArguments]) -> Connection[S1]: ...
@overload
def connect(
    target: str, stub1: StubClass[S1], stub2: StubClass[S2], /, **arguments: Unpack[ConnectArguments]
) -> Connection[tuple[S1, S2]]: ...
@overload
def connect(
    target: str,
    stub1: StubClass[S1],
    stub2: StubClass[S2],
    stub3: StubClass[S3],
    /,
    **arguments: Unpack[ConnectArguments],
) -> Connection[tuple[S1, S2, S3]]: ...
@overload
def connect(
    target: str,
    stub1: StubClass[S1],
    stub2: StubClass[S2],
    stub3: StubClass[S3],
    stub4: StubClass[S4],
    /,
    **arguments: Unpack[ConnectArguments],
) -> Connection[tuple[S1, S2, S3, S4]]: ...
@overload
def connect(
    target: str,
    stub1: StubClass[S1],
    stub2: StubClass[S2],
    stub3: StubClass[S3],
    stub4: StubClass[S4],
    stub5: StubClass[S5],
    /,
    **arguments: Unpack[ConnectArguments],
) -> Connection[tuple[S1, S2, S3, S4, S5]]: ...
@hiding_arguments
def connect(target: str, *stubs: StubClass[object], **arguments: Unpack[ConnectArguments]) -> Connection[Any]:
    """Open a channel to a guarded gRPC service, and yield typed stubs on it.

    `async with connect(target, BookstoreStub) as bookstore: await bookstore.ListShelves(Empty())`

    One stub class yields its instance, several yield a tuple, all on one channel; none yields the channel.
    The token is fetched at the first RPC, once however many wait for it, refreshed in the background, and
    added to every RPC. Leaving the block ends the RPCs under way. Cancelling while it opens closes what was
    opened.

    Args:
        target: `host` (port 443), `host:port`, `[v6]:port`, `unix:path`, or with one of gRPC's schemes.
        *stubs: Generated stub classes, or functions that make a stub of a channel, called when the
            connection is opened; up to five of them are typed.
        **arguments: See below.

    Keyword Args:
        credentials: A google-auth credential (also of google.auth.aio), a `TokenSource` such as
            `service_account(...)`, or None for Application Default Credentials.
        audience: The audience of the tokens, for sources that ask; `https://<host>` of the target if None.
        ssl_credentials: TLS settings: `SslCredentials(...)` for root certificates and client certificates,
            followed when they change, or `grpc.ssl_channel_credentials(...)`. None means
            `SslCredentials()`: the application default client certificate, where there is one.
        plaintext: True sends everything, the token included, in the clear. It warns if the target is
            not this machine.
        authority: The `:authority` to send, if it differs from the target's.
        api_key: Sent as `x-api-key` beside the token (Cloud Endpoints).
        quota_project_id: The project that pays, sent as `x-goog-user-project`.
        metadata: More metadata for every RPC.
        header: The metadata key of the token: `authorization` if None, `x-serverless-authorization`
            (Cloud Run, when the service reads `authorization` itself), `proxy-authorization` (IAP). A
            source with a header of its own, such as `api_key(...)`, keeps it.
        options: gRPC channel arguments.
        compression: The channel's default.
        interceptors: grpc.aio client interceptors. They run below this package and see its metadata.
        outer_interceptors: Those that run above it, once for each call. They see the caller's metadata, the
            wait for a token and the outcome, and no secret. What libraries append to the channel's
            `_unary_unary_interceptors` and its sisters runs there, too.
        request: The HTTP transport for tokens; it stays the caller's. None makes one.
        max_connections: How many connections gRPC may open to each address of the target; 8 if None. It opens
            another one when more calls are under way than the server allows on those that are there, often
            100 on each (gRFC A105).
        service_config: gRPC's service config as a mapping: retries, timeouts from 3 s on, the balancing of
            load. What gRPC would ignore in it is an error; one among the `options` is not checked.
        max_identities: How many identities of `identity()` the channel keeps the tokens of; 128 if left
            out. More of them in turn cost more token requests.
        ready_timeout: Seconds to fetch the token and to connect, both at the same time, before the
            stubs are yielded. None leaves both to the first RPC.
        keep_warm: Refresh by a timer, too, so that the first RPC after a quiet hour does not wait.
        grace: Seconds that the RPCs under way get to finish when the block is left. None ends them at once.
        clock: The time for tokens and certificates; `aio_authgrpc.testing.FakeClock` in tests. None means the
            machine's.
        telemetry: Is told of each call, its wait for a token, its attempts and its end:
            `aio_authgrpc.otel.OpenTelemetry()`.
        replay: False sends no call a second time. True sends a call that is refused as unauthenticated once
            more, with a new token, unless its requests are a stream or its response headers came. A method
            that works before it refuses then works twice; `credentials.without_replay()` is for some calls.
            A call whose stream the server refuses before it is processed (REFUSED_STREAM) is sent again up to
            thirty times, after pauses and within its deadline.
        on_event: Called with each `TokenEvent`, such as `RefreshFailed`; on the loop, so it must not
            block. `auth.events()` yields the same events.

    Raises:
        ConfigurationError: At once for an argument; on entry for a file or the environment.
        AuthRpcError: On entry with `ready_timeout`: the token or the connection did not come.
        ClientCertificateError: On entry: the client certificate cannot be used. It is google-auth's
            `MutualTLSChannelError`, too.
    """
    check_keywords("connect", arguments, ConnectArguments)
    settings = ChannelSettings(target, **arguments)
    _check_stubs(stubs)
    return Connection(settings, stubs)


def _check_stubs(stubs: Sequence[object]) -> None:
    """Refuse what cannot be called with a channel at once, not when the connection is opened.

    Only its signature is read. Calling it would need a channel: a google-cloud client takes no stand-in for
    one, and many stubs ask for their methods later.
    """
    for stub in stubs:
        problem, hint = _problem_of(stub), "Pass the generated ...Stub class itself."
        if problem is None:
            continue
        name = getattr(stub, "__name__", type(stub).__name__)
        if hasattr(stub, "get_transport_class"):  # google-cloud's clients have it
            hint = "Pass a google-cloud async client to aio_authgrpc.gapic.client()."
        raise ConfigurationError(f"{name} is not a stub: it {problem}.", field="stubs", hint=hint)


def _problem_of(stub: object) -> str | None:
    if not callable(stub):
        return "is neither a class nor a function"
    if inspect.iscoroutinefunction(stub):
        return "is a coroutine function, and the stub has to be there at once"
    try:
        inspect.signature(stub).bind(None)
    except (TypeError, ValueError):  # ValueError: a built-in type, such as the class of a message
        return "does not take a channel as its one argument"
    return None
