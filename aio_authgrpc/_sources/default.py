"""Application Default Credentials, looked up off the loop and within a time (seed 003, AIP-4110)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aio_authgrpc._checks.arguments import check_seconds
from aio_authgrpc._checks.secrets import shown
from aio_authgrpc._checks.values import FrozenValue
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc._sources.compute_engine import (
    compute_engine_credentials,
    google_cloud_marker,
    metadata_server_url,
    wait_for_metadata_server,
)
from aio_authgrpc._sources.files.content import InfoLoader, is_content, read_in_thread
from aio_authgrpc._sources.files.kind import CredentialInfo, CredentialOptions, checked_options
from aio_authgrpc._sources.files.registry import credential_kinds
from aio_authgrpc._sources.google_auth import GoogleCredentialsSource, LazyCredentialsSource
from aio_authgrpc._tokens.metadata import is_metadata_text
from aio_authgrpc._tokens.source import TokenRequest
from aio_authgrpc.errors import ConfigurationError, TokenUnavailableError

_FILE_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_QUOTA_PROJECT_VARIABLE = "GOOGLE_CLOUD_QUOTA_PROJECT"
# Off Google Cloud the metadata server's address does not answer; google-auth waits up to 12 s for it.
LOOK_UP_TIMEOUT = 4.0
# On Google Cloud the server may start seconds after the container, as GKE documents.
PATIENCE = 30.0
_HINT = (
    f"Set {_FILE_VARIABLE} to a credential file, run 'gcloud auth application-default login', or pass "
    "credentials=."
)


class DefaultCredentialsExplanation(FrozenValue):
    """Where Application Default Credentials were looked for, and what was found; `str()` puts it in words.

    Attributes:
        found: The type that was found, such as `"service_account"` or `"compute_engine"`; None before the
            first look-up, and where it found nothing.
        tried: Each place that was looked at, in order, and its outcome.
    """

    found: str | None = None
    tried: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        lines = [f"{place}: {outcome}" for place, outcome in self.tried]
        return "; ".join(lines) if lines else "nothing was looked up yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFile:
    """A credential file, and what names it in texts: the variable, or an option of a command.

    Attributes:
        path: Where it is.
        by: The name of the variable or option.
    """

    path: str
    by: str


class DefaultCredentialsSource(LazyCredentialsSource):
    """What `default()` returns."""

    # `patience` is how long a server is awaited that a marker promises. `file` stands for the variable's.
    def __init__(
        self,
        options: CredentialOptions,
        *,
        default_scopes: tuple[str, ...] | None = None,
        timeout: float | None = None,
        patience: float = PATIENCE,
        file: NamedFile | None = None,
    ) -> None:
        super().__init__("default()", self._look_up)
        self._options = options
        self._default_scopes = default_scopes
        self._timeout = timeout
        self._patience = patience
        self._file = file
        self._explanation = DefaultCredentialsExplanation()

    def explain(self) -> DefaultCredentialsExplanation:
        """Return the places and the result of the last look-up. Holds no secret."""
        return self._explanation

    async def _look_up(self, request: TokenRequest) -> GoogleCredentialsSource:
        tried: list[tuple[str, str]] = []
        found: str | None = None
        started = asyncio.get_running_loop().time()
        try:
            info = await self._look_for_file(tried)
            if info is None:
                await self._look_for_metadata_server(request.http, tried, started)
            options = self._options
            signs = info is not None and info.kind.name == "service_account"
            if options.scopes is None and not signs:
                options = options.replace(scopes=self._default_scopes)
            if options.quota_project_id is None:
                options = options.replace(quota_project_id=_quota_project())
            make = compute_engine_credentials if info is None else info.credentials
            credentials = await read_in_thread(lambda: make(options), "default()", field="credentials")
            found = "compute_engine" if info is None else info.kind.name
            return GoogleCredentialsSource(credentials)
        finally:
            self._explanation = DefaultCredentialsExplanation(found=found, tried=tuple(tried))

    async def _look_for_file(self, tried: list[tuple[str, str]]) -> CredentialInfo | None:
        budget = LOOK_UP_TIMEOUT if self._timeout is None else self._timeout
        try:
            async with asyncio.timeout(budget):
                return await run_in_thread(lambda: _look_for_file(tried, self._file))
        except TimeoutError:  # a pipe, or a network file system that hangs
            place, _ = tried.pop()
            tried.append((place, f"was not read within {budget:g} s"))
        raise _nothing_found(tried)

    async def _look_for_metadata_server(
        self, http: AiohttpRequest, tried: list[tuple[str, str]], started: float
    ) -> None:
        if os.environ.get("NO_GCE_CHECK") == "true":  # as google-auth reads it
            tried.append(("metadata server", "NO_GCE_CHECK is true"))
            raise _nothing_found(tried)
        marker = await run_in_thread(google_cloud_marker)
        budget = LOOK_UP_TIMEOUT if marker is None else self._patience
        if self._timeout is not None:
            budget = max(0.0, self._timeout - (asyncio.get_running_loop().time() - started))
        try:
            async with asyncio.timeout(budget):
                problem = await wait_for_metadata_server(http, patient=marker is not None)
        except TimeoutError:
            problem = f"no answer within {budget:.3g} s"
        tried.append((f"metadata server {metadata_server_url()}", problem or "answered"))
        if problem and marker is not None:
            raise TokenUnavailableError(
                f"{marker} says that this is Google Cloud, but its metadata server is missing: {problem}.",
                hint="It may start later: open the channel again, or restart the service.",
            )
        if problem:
            raise _nothing_found(tried)


def _quota_project() -> str | None:
    project = os.environ.get(_QUOTA_PROJECT_VARIABLE, "")
    if not is_metadata_text(project):
        raise ConfigurationError(
            "it is not printable ASCII text.",
            field=_QUOTA_PROJECT_VARIABLE,
            hint="Set it to the id of a project, or unset it.",
        )
    return project or None


def _nothing_found(tried: Sequence[tuple[str, str]]) -> ConfigurationError:
    explanation = DefaultCredentialsExplanation(tried=tuple(tried))
    return ConfigurationError(
        f"no default credentials were found. {explanation}.", field="credentials", hint=_HINT
    )


def _look_for_file(tried: list[tuple[str, str]], file: NamedFile | None) -> CredentialInfo | None:
    """Return the file that is named, or gcloud's, or None. An unusable one raises."""
    from google.auth import _cloud_sdk  # noqa: PLC0415 - in a thread

    named = file or NamedFile(path=os.environ.get(_FILE_VARIABLE, ""), by=_FILE_VARIABLE)
    if is_content(named.path):
        tried.append((named.by, "holds content instead of a path"))
        raise ConfigurationError(
            "it seems to hold the content of a credential file.",
            field=named.by,
            hint="It takes a path; service_account() and the other functions take the content.",
        )
    if named.path:
        return _read(named.path, f"{named.by}={shown(named.path)}", tried, field=named.by)
    tried.append((_FILE_VARIABLE, "not set"))
    path: str = _cloud_sdk.get_application_default_credentials_path()
    # Unlike pathlib's, it returns False for a directory that may not be read, where google-auth goes on too.
    if os.path.isfile(path):  # noqa: PTH113 - see above
        return _read(path, f"gcloud's {path}", tried, field="credentials")
    tried.append((f"gcloud's {path}", "no such file"))
    return None


def _read(path: str, place: str, tried: list[tuple[str, str]], *, field: str) -> CredentialInfo:
    tried.append((place, "is being read"))
    try:
        info = InfoLoader(Path(path), credential_kinds(), field=field).read()
    except ConfigurationError as error:
        tried[-1] = (place, f"cannot be used ({error.field})")
        raise
    tried[-1] = (place, info.kind.name)
    return info


def default(
    scopes: Sequence[str] | None = None,
    *,
    default_scopes: Sequence[str] | None = None,
    quota_project_id: str | None = None,
    timeout: float | None = None,
) -> DefaultCredentialsSource:
    """Use Application Default Credentials, in google-auth's order (https://google.aip.dev/auth/4110).

    They are looked up when the channel is opened: the file that `GOOGLE_APPLICATION_CREDENTIALS` names,
    the one that `gcloud auth application-default login` wrote, the metadata server. Files are read and
    parsed in a thread, and the metadata server is asked over aiohttp. A file that cannot be used is an
    error, never replaced by another identity. Unlike `google.auth.default()`, it does not look for a
    project: it runs no gcloud and fetches no token. `explain()` tells what was tried and found.

    Args:
        scopes: OAuth 2.0 scopes. A service account found without any signs its tokens for the target;
            users' credentials keep the scopes that the user granted.
        default_scopes: The scopes of a client library, for want of `scopes`. A service account that was
            found needs none, and signs its tokens for the target.
        quota_project_id: The project that pays, sent as `x-goog-user-project`;
            `GOOGLE_CLOUD_QUOTA_PROJECT`, or the file's, if None.
        timeout: Seconds that the look-up may take. None waits 4 s for a metadata server, or 30 s where
            the environment or the machine says that this is Google Cloud.

    Raises:
        ConfigurationError: An argument has the wrong type.
    """
    if timeout is not None:
        check_seconds("timeout", timeout)
    options = checked_options(scopes, quota_project_id, by_default=True)
    fallback = checked_options(default_scopes, field="default_scopes").scopes
    return DefaultCredentialsSource(options, default_scopes=fallback, timeout=timeout)
