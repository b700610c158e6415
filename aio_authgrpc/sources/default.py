"""Application Default Credentials, looked up off the loop (seed 003)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import google.auth
import google.auth.exceptions

from aio_authgrpc.errors import ConfigurationError, redacted
from aio_authgrpc.http import AiohttpRequest, ThreadRequest, bridge_to_thread
from aio_authgrpc.sources.google_auth import GoogleCredentialsSource, checked_scopes
from aio_authgrpc.token import Token, TokenRequest

if TYPE_CHECKING:
    import google.auth.credentials

# A metadata server that hangs would hold google-auth's look-up for 12 s.
_LOOKUP_TIMEOUT = 5.0
# google.auth.default() changes the process-wide warning filters while it runs: one at a time.
_lookup_lock = threading.Lock()


class DefaultCredentialsSource:
    """What `default()` returns."""

    def __init__(self, scopes: tuple[str, ...], quota_project_id: str | None) -> None:
        self._scopes = scopes
        self._quota_project_id = quota_project_id
        self._source: GoogleCredentialsSource | None = None

    async def load(self, request: TokenRequest, *, timeout: float = _LOOKUP_TIMEOUT) -> None:
        """Look the credentials up, in google-auth's order.

        Args:
            request: Carries the HTTP transport.
            timeout: Seconds that the look-up may take. Its thread is left to end by itself.

        Raises:
            ConfigurationError: None were found in time, or what was found cannot be used.
        """
        if self._source is None:
            self._source = GoogleCredentialsSource(await self._look_up(request.http, timeout))

    async def fetch(self, request: TokenRequest) -> Token:
        """Return a token of the credentials that were found."""
        await self.load(request)
        assert self._source is not None, "load() sets it or raises"
        return await self._source.fetch(request)

    async def _look_up(self, http: AiohttpRequest, timeout: float) -> google.auth.credentials.Credentials:
        request = ThreadRequest(http)

        def look_up() -> google.auth.credentials.Credentials:
            untyped_google_auth: Any = google.auth
            with _lookup_lock:
                found: tuple[google.auth.credentials.Credentials, str | None] = untyped_google_auth.default(
                    scopes=self._scopes or None, request=request, quota_project_id=self._quota_project_id
                )
            return found[0]

        try:
            async with asyncio.timeout(timeout):
                return await bridge_to_thread(look_up, request)
        except TimeoutError:
            problem = f"the look-up took more than {timeout:g} s (is there a metadata server?)."
        except google.auth.exceptions.GoogleAuthError as error:
            problem = redacted(str(error.args[0] if error.args else error))
        except Exception as error:  # noqa: BLE001 - what broken files raise inside google-auth is anything
            problem = f"the default credentials cannot be used: {type(error).__name__}."
        # Outside of the handlers: those errors can hold the whole of a credential file.
        raise ConfigurationError(problem, field="credentials", hint=_HINT)

    def __repr__(self) -> str:
        return "default()"


_HINT = (
    "Set GOOGLE_APPLICATION_CREDENTIALS to a credential file, run 'gcloud auth application-default "
    "login', or pass credentials=."
)


def default(
    scopes: Sequence[str] | None = None, *, quota_project_id: str | None = None
) -> DefaultCredentialsSource:
    """Use Application Default Credentials: `google.auth.default()`, in a worker thread, over aiohttp.

    They are looked up when the channel is opened.

    Args:
        scopes: OAuth 2.0 scopes. A service account found without any signs its tokens for the target.
        quota_project_id: The project that pays, sent as `x-goog-user-project`.

    Raises:
        ConfigurationError: The scopes are no list of str.
    """
    return DefaultCredentialsSource(checked_scopes(scopes), quota_project_id)
