"""The token of a command: which kind, from which credentials, for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.auth.credentials import Credentials

from aio_authgrpc import TokenRequest, TokenSource, anonymous, default, id_token, static_token
from aio_authgrpc._client.target import Target
from aio_authgrpc._sources.default import NamedFile
from aio_authgrpc._sources.files.kind import checked_options
from aio_authgrpc._sources.google_auth import GoogleCredentialsSource
from aio_authgrpc.cli.options import CallIdentityOptions, CredentialOptions, IdentityKind
from aio_authgrpc.credentials import DefaultCredentialsSource, LazyCredentialsSource
from aio_authgrpc.errors import ConfigurationError

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
FILE_OPTION = "--credentials"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenIdentity:
    """The source of a command's tokens.

    Attributes:
        kind: `ID`, `ACCESS` or `NONE`.
        source: Where the tokens come from.
        looked_up: The default credentials below it, which explain themselves; None without any.
        audience: The audience of its ID tokens.
        reason: Why this kind.
    """

    kind: IdentityKind
    source: TokenSource
    looked_up: DefaultCredentialsSource | None
    audience: str | None
    reason: str


def chosen_for_host(
    host: Target, credential: CredentialOptions, call: CallIdentityOptions, *, metadata: Sequence[str] = ()
) -> ChosenIdentity:
    """Return the identity for a call of `host`. `metadata` are the keys that the user gave."""
    if call.token_file is not None:
        source = static_token(_read_token(call.token_file))
        return _given("--token-file", source)
    kind, reason = call.identity, "as --identity says"
    if kind is IdentityKind.AUTO and (call.token_header or "authorization") in metadata:
        return _given("the token is in the metadata", anonymous())
    if kind is IdentityKind.AUTO:
        kind, reason = _kind_for(host, credential)
    return chosen(kind, credential, audience=credential.audience or host.audience, reason=reason)


def chosen(
    kind: IdentityKind, credential: CredentialOptions, *, audience: str | None, reason: str
) -> ChosenIdentity:
    """Return the identity of a kind that is decided."""
    if kind is IdentityKind.NONE:
        return _given(reason, anonymous())
    looked_up = credentials_of(credential.credentials, credential.scope_list or [CLOUD_PLATFORM])
    if kind is IdentityKind.ID:
        source: TokenSource = id_token(
            audience, credentials=looked_up, target_principal=credential.impersonate
        )
    elif credential.impersonate is not None:
        source = _impersonating(looked_up, credential.impersonate, credential.scope_list)
    else:
        source = looked_up
    return ChosenIdentity(kind=kind, source=source, looked_up=looked_up, audience=audience, reason=reason)


def credentials_of(file: Path | None, scopes: Sequence[str] | None = None) -> DefaultCredentialsSource:
    """Return the credentials of `--credentials FILE`; without it, those of the environment."""
    if file is None:
        return default(scopes)
    options = checked_options(scopes, None, by_default=True)
    return DefaultCredentialsSource(options, file=NamedFile(path=str(file), by=FILE_OPTION))


def _given(reason: str, source: TokenSource) -> ChosenIdentity:
    return ChosenIdentity(kind=IdentityKind.NONE, source=source, looked_up=None, audience=None, reason=reason)


def _kind_for(host: Target, credential: CredentialOptions) -> tuple[IdentityKind, str]:
    """Return the kind of token that a host takes. An unknown host gets no token."""
    name = host.audience.removeprefix("https://").partition(":")[0]
    if name.endswith(".run.app"):
        return IdentityKind.ID, "Cloud Run takes ID tokens"
    if name == "googleapis.com" or name.endswith(".googleapis.com"):
        return IdentityKind.ACCESS, "Google APIs take access tokens"
    if credential.scopes:
        return IdentityKind.ACCESS, "--scopes are of access tokens"
    if any((credential.audience, credential.credentials, credential.impersonate)):
        return IdentityKind.ID, "an ID token is good for one audience alone"
    return IdentityKind.NONE, "this host is not known to take Google's tokens"


def _impersonating(own: DefaultCredentialsSource, email: str, scopes: Sequence[str]) -> LazyCredentialsSource:
    async def make(request: TokenRequest) -> GoogleCredentialsSource:
        source = await own.google_credentials(request)
        return GoogleCredentialsSource(await asyncio.to_thread(_impersonated, source, email, scopes))

    return LazyCredentialsSource(f"impersonating {email}", make)


def _impersonated(source: Credentials, email: str, scopes: Sequence[str]) -> Credentials:
    from google.auth import impersonated_credentials  # noqa: PLC0415 - 40 ms, in a thread

    return impersonated_credentials.Credentials(
        source, target_principal=email, target_scopes=list(scopes) or [CLOUD_PLATFORM]
    )


def _read_token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({type(error).__name__}).", field="--token-file", hint="Pass a text file."
        ) from error
