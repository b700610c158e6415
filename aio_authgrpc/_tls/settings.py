"""The TLS settings of a channel, and how they are read from files, functions and the environment."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast
from weakref import WeakKeyDictionary

import grpc
from google.auth.exceptions import ClientCertError

from aio_authgrpc._checks.frames import without_frames
from aio_authgrpc._checks.values import FrozenValue, NotPickled
from aio_authgrpc._loop.single_flight import SingleFlight
from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc._tls.certificates import (
    CertificatePair,
    StrPath,
    checked_pair,
    hint_of,
    problem,
    root_certificates_pem,
)
from aio_authgrpc._tls.default_certificate import (
    DefaultCertificate,
    default_certificate,
    use_client_certificates,
)
from aio_authgrpc.errors import ClientCertificateError, ConfigurationError

_log = logging.getLogger("aio_authgrpc")

ClientCertificate = Callable[[], CertificatePair] | Callable[[], Awaitable[CertificatePair]]
"""Returns the client's certificate chain and its key, both PEM; a plain or a coroutine function."""


class TlsSettings(NotPickled, FrozenValue):
    """What a channel's TLS is made of, as PEM; equal settings make equal connections."""

    __slots__ = ("pair", "root_certificates")

    root_certificates: bytes | None
    pair: CertificatePair | None

    def __repr__(self) -> str:
        return "<TlsSettings>"

    def channel_credentials(self) -> grpc.ChannelCredentials:
        chain, key = (None, None) if self.pair is None else self.pair
        return grpc.ssl_channel_credentials(
            root_certificates=self.root_certificates, private_key=key, certificate_chain=chain
        )


class TlsSource:
    """Reads TLS settings, once at a time for any number of callers; see `SslCredentials`."""

    def __init__(
        self,
        root_certificates: StrPath | bytes | None,
        client_certificate: ClientCertificate | None,
        *,
        refresh_interval: float | None,
        timeout: float,
    ) -> None:
        self.last: TlsSettings | None = None
        self._root_certificates = root_certificates
        self._client_certificate = client_certificate
        self._refresh_interval = refresh_interval
        self._timeout = timeout
        self._default: DefaultCertificate | None = None
        self._looked_up = False
        self._has_warned = False
        # By loop, because a task and its waiters belong to one.
        self._flights: WeakKeyDictionary[
            asyncio.AbstractEventLoop, SingleFlight[TlsSettings | ConfigurationError]
        ] = WeakKeyDictionary()

    @property
    def refresh_interval(self) -> float | None:
        """Seconds to the next reading; None if that cannot return anything else. Known after the first."""
        if self._client_certificate is not None:
            may_change = use_client_certificates() is not False
        else:
            may_change = self._default is not None and self._default.in_files
        roots_in_file = not isinstance(self._root_certificates, bytes | None)
        return self._refresh_interval if may_change or roots_in_file else None

    async def on_opening(self) -> TlsSettings:
        """Return what a channel is opened with: read anew, unless it was read and is never read again."""
        return await self.read() if self.last is None or self._refresh_interval is not None else self.last

    async def read(self) -> TlsSettings:
        """Return what is there now, and keep it as `last`."""
        flight = self._flights.setdefault(asyncio.get_running_loop(), SingleFlight(self._run, _not_read))
        try:
            outcome = await flight.join()
        finally:
            run = None if flight.awaited else flight.cancel()
            if run is not None:
                await asyncio.wait({run})  # until its provider command is killed
        if isinstance(outcome, ConfigurationError):
            raise copy.copy(outcome) from outcome.__cause__
        return outcome

    async def _run(self) -> TlsSettings | ConfigurationError:
        try:
            self.last = TlsSettings(root_certificates=await self._roots(), pair=await self._pair())
        except ConfigurationError as error:
            return without_frames(error)  # they hold the key
        return self.last

    async def _roots(self) -> bytes | None:
        if self._root_certificates is None:
            return None
        try:
            async with asyncio.timeout(self._timeout):
                return await run_in_thread(partial(root_certificates_pem, self._root_certificates))
        except TimeoutError as error:
            text = f"reading the file took more than {self._timeout:g} s."
            raise ConfigurationError(text, field="root_certificates") from error

    async def _pair(self) -> CertificatePair | None:
        if self._client_certificate is None:
            return await self._default_pair()
        if use_client_certificates() is False:
            if not self._has_warned:
                _log.warning("GOOGLE_API_USE_CLIENT_CERTIFICATE forbids client_certificate; it is not used.")
            self._has_warned = True
            return None
        return await _called(self._client_certificate, self._timeout)

    async def _default_pair(self) -> CertificatePair | None:
        known = self._default
        # A device's certificate is kept: running its command again may ask the user for something.
        if not self._looked_up or (known is not None and known.in_files):
            found = await default_certificate(self._timeout, files_only=known is not None)
            # The files may be in the middle of an update. A channel never drops the certificate it had.
            if found is None and known is not None:
                text = "the workload's certificate files have disappeared."
                raise ClientCertificateError(text, field="client certificate")
            self._default, self._looked_up = found, True
        return None if self._default is None else self._default.pair


async def _called(function: ClientCertificate, timeout: float) -> CertificatePair:
    field = "client_certificate"
    budget, task = asyncio.timeout(timeout), asyncio.current_task()
    cancelled_before = 0 if task is None else task.cancelling()
    try:
        async with budget:
            chain, key = await _returned(function)
        names = ("the returned certificate", "the private key")
        return await run_in_thread(partial(checked_pair, chain, key, *names))
    except (ClientCertificateError, KeyboardInterrupt, GeneratorExit):
        raise
    except ClientCertError as error:
        raise ClientCertificateError(problem(error), field=field, hint=hint_of(error)) from error
    except BaseException as error:  # sys.exit() in a user's function must not end the application's loop
        if task is not None and task.cancelling() > cancelled_before:
            raise  # the reading was cancelled; a CancelledError of the function's own is a failure
        what = f"took more than {timeout:g} s" if budget.expired() else f"raised {type(error).__name__}"
        raise ClientCertificateError(f"the function {what}.", field=field) from error


async def _returned(given: ClientCertificate) -> CertificatePair:
    # An object with an async __call__ returns its coroutine from the thread.
    on_loop = inspect.iscoroutinefunction(given)
    function = cast("Callable[[], object]", given)
    returned = function() if on_loop else await run_in_thread(function)
    awaited = await returned if inspect.isawaitable(returned) else returned
    pair = cast("tuple[object, ...]", awaited) if isinstance(awaited, tuple | list) else ()
    chain, key = pair if len(pair) == 2 else (None, None)
    if not isinstance(chain, bytes) or not isinstance(key, bytes):
        raise ClientCertError("the function must return the certificate chain and the key as PEM bytes.")
    return chain, key


def _not_read() -> ConfigurationError:
    return ClientCertificateError("the reading was cancelled from outside.", field="client certificate")
