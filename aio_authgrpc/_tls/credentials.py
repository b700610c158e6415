"""What a channel's TLS is made of, and where its certificates come from."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, cast
from weakref import WeakKeyDictionary

import grpc
from google.auth.exceptions import ClientCertError

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._loop.single_flight import FlightCancelledError, SingleFlight
from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc._tls.default_certificate import (
    DefaultCertificate,
    DefaultCertificateLookup,
    use_client_certificates,
    use_mtls_endpoint,
)
from aio_authgrpc._tls.pem import CertificatePair, StrPath, checked_pair, problem, root_certificates_pem
from aio_authgrpc.errors import ClientCertificateError, ConfigurationError

_log = logging.getLogger("aio_authgrpc")

ClientCertCallback = Callable[[], CertificatePair] | Callable[[], Awaitable[CertificatePair]]
"""Returns the client's certificate chain and its key, both PEM; a plain or a coroutine function."""

# A command that asks hardware, or a user's function that asks a server, takes seconds at most.
_READ_TIMEOUT = 30.0


_Loaded = tuple[grpc.ChannelCredentials, bool] | ClientCertificateError
"""What a look-up has found, and whether it has a client certificate; or why it failed."""


class SslCredentials:
    """The TLS settings of this workload or device: mutual TLS where it has a certificate (seed 000).

    google-auth's class of this name, for asyncio. It is loaded before it is asked:

        credentials = await SslCredentials()
        endpoint = mtls_endpoint if credentials.is_mtls else regular_endpoint

    What is used is what google-auth would use (https://google.aip.dev/auth/4114): a workload's certificate
    files, or, if `GOOGLE_API_USE_CLIENT_CERTIFICATE` is `true`, the certificate of a device with
    endpoint verification. `GOOGLE_API_USE_CLIENT_CERTIFICATE=false` turns both off. A channel takes the
    object as `ssl_credentials`, and then keeps the certificate that was loaded; a channel that is
    given none at all uses the same settings, and follows a workload's files when they change.

    Args:
        timeout: Seconds that loading may take. A provider command that takes longer is killed.

    Raises:
        ConfigurationError: `timeout` is not a positive number.
    """

    def __init__(self, *, timeout: float = _READ_TIMEOUT) -> None:
        check_type("timeout", timeout, int, float)
        if not timeout > 0:
            raise ConfigurationError(f"{timeout!r} is not a positive number of seconds.", field="timeout")
        self._timeout = timeout
        self._loaded: tuple[grpc.ChannelCredentials, bool] | None = None
        # By loop, because a task and its waiters belong to one.
        self._flights: WeakKeyDictionary[asyncio.AbstractEventLoop, SingleFlight[_Loaded]] = (
            WeakKeyDictionary()
        )

    async def load(self) -> Self:
        """Look for the certificate, off the loop. Done once, however many wait for it.

        Cancelling all who wait kills the provider command, if one runs.

        Returns:
            This object.

        Raises:
            ClientCertificateError: What is there cannot be used; it is google-auth's
                `MutualTLSChannelError` too, and the cause says why.
        """
        if self._loaded is None:
            self._loaded = await self._look_up()
        return self

    async def _look_up(self) -> tuple[grpc.ChannelCredentials, bool]:
        flight = self._flights.setdefault(asyncio.get_running_loop(), SingleFlight(self._run))
        try:
            outcome = await flight.join()
        except FlightCancelledError:
            text = "loading that of this workload or device was cancelled from outside."
            raise ClientCertificateError(text, field="client certificate") from None
        finally:
            run = None if flight.awaited else flight.cancel()
            if run is not None:
                await asyncio.wait({run})  # until its command is killed
        if isinstance(outcome, ClientCertificateError):
            error = ClientCertificateError(outcome.message, field=outcome.field, hint=outcome.hint)
            raise error from outcome.__cause__
        return outcome

    async def _run(self) -> _Loaded:
        try:
            found = await default_certificate(self._timeout)
        except ClientCertificateError as error:
            return error
        settings = TlsSettings(root_certificates=None, pair=None if found is None else found.pair)
        return settings.channel_credentials(), found is not None

    def __await__(self) -> Generator[Any, None, Self]:
        return self.load().__await__()

    @property
    def ssl_credentials(self) -> grpc.ChannelCredentials:
        """What `grpc.aio.secure_channel` takes.

        Raises:
            ConfigurationError: `load()` was not awaited yet.
        """
        return self._get()[0]

    @property
    def is_mtls(self) -> bool:
        """Whether there is a client certificate.

        Raises:
            ConfigurationError: `load()` was not awaited yet.
        """
        return self._get()[1]

    @property
    def use_mtls_endpoint(self) -> bool:
        """Whether to call an API's mutual TLS endpoint: `is_mtls`, unless the environment decides.

        `GOOGLE_API_USE_MTLS_ENDPOINT` is `always`, `never` or `auto`, as for Google's own clients. No
        channel here replaces its target by itself.

        Raises:
            ConfigurationError: `load()` was not awaited yet.
            ClientCertificateError: The variable has another value.
        """
        return use_mtls_endpoint(is_mtls=self.is_mtls)

    def _get(self) -> tuple[grpc.ChannelCredentials, bool]:
        if self._loaded is None:
            raise ConfigurationError(
                "they are not loaded yet.",
                field="SslCredentials",
                hint="Write 'credentials = await SslCredentials()', or await its load().",
            )
        return self._loaded

    def __repr__(self) -> str:
        state = "not loaded" if self._loaded is None else f"is_mtls: {self._loaded[1]}"
        return f"<SslCredentials, {state}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """What a channel's TLS is made of; equal settings make equal connections.

    Attributes:
        root_certificates: Whom servers have to be certified by, PEM; None means gRPC's default.
        pair: The client's certificate chain and key, PEM; None means that it has none.
    """

    root_certificates: bytes | None = field(repr=False)
    pair: CertificatePair | None = field(repr=False)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return them as gRPC takes them."""
        chain, key = (None, None) if self.pair is None else self.pair
        return grpc.ssl_channel_credentials(
            root_certificates=self.root_certificates, private_key=key, certificate_chain=chain
        )


class TlsSource:
    """Where the TLS settings of one channel come from (seed 000, options 2 and 4).

    Args:
        root_certificates: A path, PEM bytes, or None.
        client_cert_callback: A plain function runs in a worker thread, a coroutine function is awaited.
            None means the application default certificate, where there is one.
        timeout: Seconds that one reading may take.
    """

    def __init__(
        self,
        root_certificates: StrPath | bytes | None = None,
        client_cert_callback: ClientCertCallback | None = None,
        *,
        timeout: float = _READ_TIMEOUT,
    ) -> None:
        self._root_certificates = root_certificates
        self._callback = client_cert_callback
        self._timeout = timeout
        self._default: DefaultCertificate | None = None
        self._looked_up = False
        self._forbidden = False

    async def read(self) -> TlsSettings:
        """Return what is there now.

        Raises:
            ConfigurationError: The root certificates cannot be used.
            ClientCertificateError: The client's certificate cannot be had or used.
        """
        return TlsSettings(root_certificates=await self._roots(), pair=await self._client_certificate())

    @property
    def may_change(self) -> bool:
        """Whether another `read()` can return something else. To be asked after the first."""
        if self._root_certificates is not None and not isinstance(self._root_certificates, bytes):
            return True
        if self._callback is not None:
            return use_client_certificates() is not False
        return self._default is not None and self._default.in_files

    async def _roots(self) -> bytes | None:
        if self._root_certificates is None:
            return None
        try:
            async with asyncio.timeout(self._timeout):
                return await run_in_thread(partial(root_certificates_pem, self._root_certificates))
        except TimeoutError as error:
            text = f"the file could not be read in {self._timeout:g} s."
            raise ConfigurationError(text, field="root_certificates") from error

    async def _client_certificate(self) -> CertificatePair | None:
        if self._callback is None:
            return await self._default_certificate()
        if use_client_certificates() is False:
            if not self._forbidden:
                _log.warning("GOOGLE_API_USE_CLIENT_CERTIFICATE forbids what client_cert_callback returns.")
            self._forbidden = True
            return None
        return await _called(self._callback, self._timeout)

    async def _default_certificate(self) -> CertificatePair | None:
        # What a device's command returned is kept: running it again may ask its user for something.
        if self._default is not None and self._default.in_files:
            self._default = await self._same_default_certificate()
        elif not self._looked_up:
            self._default = await default_certificate(self._timeout)
            self._looked_up = True
        return None if self._default is None else self._default.pair

    async def _same_default_certificate(self) -> DefaultCertificate:
        # What writes the files may be at it: a channel that had a certificate never goes on without one.
        found = await default_certificate(self._timeout, files_only=True)
        if found is None:
            raise ClientCertificateError(
                "that of this workload was there, and is not any more.", field="client certificate"
            )
        return found


async def default_certificate(timeout: float, *, files_only: bool = False) -> DefaultCertificate | None:
    """Look for the application default client certificate in a worker thread, for `timeout` seconds.

    `files_only` leaves a device's provider command alone.

    Cancelling it kills the provider command.

    Raises:
        ClientCertificateError: What is there cannot be used.
    """
    lookup = DefaultCertificateLookup(files_only=files_only)
    try:
        async with asyncio.timeout(timeout):
            return await run_in_thread(lookup.run)
    except TimeoutError as error:
        raise ClientCertificateError(
            f"its files, or the provider command, took more than {timeout:g} s.", field="client certificate"
        ) from error
    finally:
        lookup.cut_off()  # kills the command, if it still runs


async def _called(callback: ClientCertCallback, timeout: float) -> CertificatePair:
    """Return what a user's callback returns, after a look at it."""
    field = "client_cert_callback"
    budget, task = asyncio.timeout(timeout), asyncio.current_task()
    cancelled_before = 0 if task is None else task.cancelling()
    try:
        async with budget:
            chain, key = await _returned(callback)
        return await run_in_thread(partial(checked_pair, chain, key, cert_name="what it returned"))
    except ClientCertificateError:
        raise
    except ClientCertError as error:
        raise ClientCertificateError(problem(error), field=field) from error
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # sys.exit() in a user's function must not end the application's loop
        if task is not None and task.cancelling() > cancelled_before:
            raise  # the opening, or the timer, was cancelled; the function's own CancelledError is a failure
        text = f"took more than {timeout:g} s" if budget.expired() else f"failed: {type(error).__name__}"
        raise ClientCertificateError(f"it {text}.", field=field) from error


async def _returned(callback: ClientCertCallback) -> CertificatePair:
    # An object with an async __call__ comes back from the thread with its coroutine.
    on_loop = inspect.iscoroutinefunction(callback)
    function = cast("Callable[[], object]", callback)
    returned = function() if on_loop else await run_in_thread(function)
    awaited = await returned if inspect.isawaitable(returned) else returned
    pair = cast("tuple[object, ...]", awaited) if isinstance(awaited, tuple | list) else ()
    chain, key = pair if len(pair) == 2 else (None, None)
    if not isinstance(chain, bytes) or not isinstance(key, bytes):
        raise ClientCertError("it must return the certificate chain and the private key as PEM bytes.")
    return chain, key
