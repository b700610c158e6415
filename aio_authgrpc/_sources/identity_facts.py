"""What is known of whose tokens a source gives, in texts that are equal on every machine."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Mapping
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
from aio_authgrpc.errors import ConfigurationError

# What google-auth's classes keep. Attributes, not properties: a property may ask the metadata server. None of
# them is private to one machine.
_ATTRIBUTES = (
    "_additional_claims",
    "_always_use_jwt_access",
    "_audience",
    "_aws_security_credentials_supplier",
    "_client_id",
    "_credential_access_boundary",
    "_credential_source",
    "_default_scopes",
    "_delegates",
    "_iam_endpoint_override",
    "_include_email",
    "_issuer",
    "_project",
    "_quota_project_id",
    "_refresh_token",
    "_scopes",
    "_service_account_impersonation_url",
    "_service_identity_name",
    "_subject",
    "_subject_token_supplier",
    "_subject_token_type",
    "_target_audience",
    "_target_principal",
    "_target_scopes",
    "_token_uri",
    "_token_url",
    "_universe_domain",
    "_workforce_pool_user_project",
)
# Whose own identity the tokens have, in place of or beside that of the credential.
_CREDENTIALS = ("_source_credentials", "_target_credentials")
_COMPUTE_ENGINE = "google.auth.compute_engine.credentials"
_LOGINS = frozenset({"google.oauth2.credentials", "google.auth.external_account_authorized_user"})
# The modules of the classes that keep no more than that of whose tokens they give. A class of the user's
# derives from one of them, or from the abstract classes.
_KNOWN = _LOGINS | {
    _COMPUTE_ENGINE,
    "google.auth.aio.credentials",
    "google.auth.api_key",
    "google.auth.aws",
    "google.auth.credentials",
    "google.auth.downscoped",
    "google.auth.identity_pool",
    "google.auth.impersonated_credentials",
    "google.auth.jwt",
    "google.auth.pluggable",
    "google.oauth2.gdch_credentials",
    "google.oauth2.service_account",
}
_GOOGLE_AUTH = ("google.auth.", "google.oauth2.")
_HINT = (
    "Pass token_source(...) of a function that returns its tokens: for those the name that you give as "
    "identity= decides alone."
)
# The digest of what a credential kept when it was first seen, by its `id`: an object may have an equality of
# its own. A refresh changes some of it: Compute Engine's scopes, and a refresh token that is used once.
_first_seen: dict[int, str] = {}


async def identity_facts(source: TokenSource, request: TokenRequest) -> str:
    """Return a text that differs where the tokens of two sources are known to differ in more than their time.

    It holds secrets, such as a refresh token: it may be hashed, and neither be shown nor kept. Of a
    function, or of a class of the user's, only the name is known.

    Raises:
        ConfigurationError: A file, or the environment, cannot be used; or nothing tells whose tokens a
            credential of google-auth's gives.
        TransportError: The metadata server does not say which account this machine has.
    """
    return json.dumps(await _facts(source, request))


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
        known += [await source.account(), _plain(await source.claims(request))]
    elif isinstance(source, SeveralTokensSource):
        known += [[header, await _facts(other, request)] for header, other in source.sources.items()]
    elif isinstance(source, FixedTokenSource):
        known += [source.token.scheme, source.token.value, _plain(source.token.metadata)]
    else:
        known.append(getattr(source, "function_name", ""))
    return known


async def _of_credentials(credentials: object, http: AiohttpRequest) -> list[object]:
    modules = [kind.__module__ for kind in type(credentials).__mro__]
    module = next((module for module in modules if module.startswith(_GOOGLE_AUTH)), "")
    kept: dict[str, Any] = getattr(credentials, "__dict__", {})
    if module and module not in _KNOWN:
        raise _unknown(credentials, "are not known")
    if module in _LOGINS and not kept.get("_refresh_token"):
        raise _unknown(credentials, "cannot be told without a refresh token")
    known: list[object] = [_name_of(type(credentials)), _seen_first(credentials, kept)]
    email = kept.get("_service_account_email")
    if module == _COMPUTE_ENGINE:
        default = await default_account_email(http)
        known.append(default)
        email = None if email in {"default", default} else email  # a refresh replaces the one by the other
    known.append(email)
    others = [kept[name] for name in _CREDENTIALS if kept.get(name) is not None]
    return known + [await _of_credentials(other, http) for other in others]


def _seen_first(credentials: object, kept: Mapping[str, Any]) -> str:
    """Return the digest of what a credential kept when it was first seen here."""
    key = id(credentials)
    if key not in _first_seen:
        known = {name: _plain(kept[name]) for name in _ATTRIBUTES if kept.get(name) is not None}
        weakref.finalize(credentials, _first_seen.pop, key).atexit = False
        _first_seen[key] = hashlib.sha256(json.dumps(known).encode()).hexdigest()
    return _first_seen[key]


def _unknown(credentials: object, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"the accounts of {_name_of(type(credentials))} {problem}, and its tokens are not shared.",
        field="credentials",
        hint=_HINT,
    )


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _plain(given: object) -> object:
    """Return what JSON knows, for any object: what it says of itself, or else its class."""
    if given is None or isinstance(given, str | int | float):
        return given
    if isinstance(given, bytes):
        return ["bytes", given.hex()]
    if isinstance(given, Mapping):
        pairs = cast("Mapping[object, object]", given).items()
        return sorted(([repr(key), _plain(value)] for key, value in pairs), key=lambda pair: str(pair[0]))
    if isinstance(given, set | frozenset):
        return sorted(map(repr, cast("set[object]", given)))
    if isinstance(given, list | tuple):
        return [_plain(part) for part in cast("list[object]", given)]
    to_json: Any = getattr(given, "to_json", None)
    return _name_of(type(given)) if to_json is None else _plain(to_json())
