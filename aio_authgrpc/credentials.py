"""Every source of tokens that `connect(credentials=...)` takes, and the blocks around calls."""

from aio_authgrpc._calls.identity import Identity, identity, without_replay
from aio_authgrpc._sources.compute_engine import compute_engine
from aio_authgrpc._sources.credentials import CredentialsType
from aio_authgrpc._sources.default import DefaultCredentialsExplanation, DefaultCredentialsSource, default
from aio_authgrpc._sources.files.authorized_user import authorized_user
from aio_authgrpc._sources.files.external_account import external_account
from aio_authgrpc._sources.files.external_account_authorized_user import external_account_authorized_user
from aio_authgrpc._sources.files.gdch_service_account import gdch_service_account
from aio_authgrpc._sources.files.impersonated_service_account import impersonated_service_account
from aio_authgrpc._sources.files.service_account import (
    ServiceAccountJwtSource,
    service_account,
    service_account_jwt,
)
from aio_authgrpc._sources.google_auth import LazyCredentialsSource
from aio_authgrpc._sources.id_token import IdTokenSource, id_token
from aio_authgrpc._sources.static import ApiKeySource, anonymous, api_key, static_token, token_source

__all__ = [
    "ApiKeySource",
    "CredentialsType",
    "DefaultCredentialsExplanation",
    "DefaultCredentialsSource",
    "IdTokenSource",
    "Identity",
    "LazyCredentialsSource",
    "ServiceAccountJwtSource",
    "anonymous",
    "api_key",
    "authorized_user",
    "compute_engine",
    "default",
    "external_account",
    "external_account_authorized_user",
    "gdch_service_account",
    "id_token",
    "identity",
    "impersonated_service_account",
    "service_account",
    "service_account_jwt",
    "static_token",
    "token_source",
    "without_replay",
]
