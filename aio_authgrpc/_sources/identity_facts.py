"""What is known of whose tokens a source gives, in texts that are equal on every machine."""

from __future__ import annotations

import json
from typing import Any, cast

from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._sources.compute_engine import default_account_email
from aio_authgrpc._sources.credentials import SeveralTokensSource
from aio_authgrpc._sources.files.service_account import ServiceAccountJwtSource
from aio_authgrpc._sources.google_auth import (
    GoogleAioCredentialsSource,
    GoogleCredentialsSource,
    LazyCredentialsSource,
)
from aio_authgrpc._sources.id_token import IdTokenSource
from aio_authgrpc._sources.static import FixedTokenSource
from aio_authgrpc._tokens.source import TokenRequest, TokenSource

# What google-auth's classes keep, apart from what a refresh changes. Attributes, not properties: a property
# may ask the metadata server. None of them is private to one machine.
_ATTRIBUTES = (
    "_additional_claims",
    "_audience",
    "_client_id",
    "_credential_access_boundary",
    "_credential_source",
    "_default_scopes",
    "_issuer",
    "_project",
    "_quota_project_id",
    "_refresh_token",
    "_scopes",
    "_service_account_email",
    "_service_account_impersonation_url",
    "_service_identity_name",
    "_subject",
    "_subject_token_type",
    "_target_audience",
    "_target_principal",
    "_target_scopes",
    "_token_uri",
    "_workforce_pool_user_project",
)
# Whose own identity the tokens have, in place of or beside that of the credential.
_CREDENTIALS = ("_source_credentials", "_target_credentials")
_COMPUTE_ENGINE = "google.auth.compute_engine.credentials"


async def identity_facts(source: TokenSource, request: TokenRequest) -> str:
    """Return a text that differs where the tokens of two sources are known to differ in more than their time.

    It holds secrets, such as a refresh token: it may be hashed, and neither be shown nor kept. Of a
    function, or of a class of the user's, only the name is known.

    Raises:
        ConfigurationError: A file, or the environment, cannot be used.
        TransportError: The metadata server does not say which account this machine has.
    """
    return json.dumps(await _facts(source, request), sort_keys=True, default=_as_json)


async def _facts(source: TokenSource, request: TokenRequest) -> list[object]:
    known: list[object] = [_name_of(type(source))]
    if isinstance(source, LazyCredentialsSource):
        # The same credential makes the same tokens, whichever function has found its file.
        return await _of_credentials(await source.google_credentials(request), request.http)
    if isinstance(source, GoogleCredentialsSource | GoogleAioCredentialsSource):
        return await _of_credentials(source.credentials, request.http)
    if isinstance(source, IdTokenSource):
        own, made = await source.google_credentials(request)
        known += [await _of_credentials(own, request.http), await _of_credentials(made, request.http)]
    elif isinstance(source, ServiceAccountJwtSource):
        known.append(await source.claims(request))
    elif isinstance(source, SeveralTokensSource):
        known += [[header, await _facts(other, request)] for header, other in source.sources.items()]
    elif isinstance(source, FixedTokenSource):
        known.append(source.token.value)
    else:
        known.append(getattr(source, "function_name", ""))
    return known


async def _of_credentials(credentials: object, http: AiohttpRequest) -> list[object]:
    kept: dict[str, Any] = getattr(credentials, "__dict__", {})
    known = {name: kept[name] for name in _ATTRIBUTES if kept.get(name) is not None}
    if _COMPUTE_ENGINE in {kind.__module__ for kind in type(credentials).__mro__}:
        known["_service_account_email"] = await default_account_email(http)
    others = [await _of_credentials(kept[name], http) for name in _CREDENTIALS if name in kept]
    return [_name_of(type(credentials)), known, others]


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _as_json(given: object) -> object:
    """Return what stands for an object that JSON does not know: what it says of itself, or its class."""
    to_json: Any = getattr(given, "to_json", None)
    if to_json is not None:
        return to_json()
    return sorted(cast("set[str]", given)) if isinstance(given, set | frozenset) else _name_of(type(given))
