"""The types of credential file that are read: a module of this package for each."""

from __future__ import annotations

import functools
import importlib

from aio_authgrpc._sources.files.kind import CredentialKind

# A type's module has its name, and its CredentialKind as KIND.
CREDENTIAL_TYPES = (
    "service_account",
    "authorized_user",
    "external_account",
    "external_account_authorized_user",
    "impersonated_service_account",
    "gdch_service_account",
)


@functools.cache
def credential_kinds() -> tuple[CredentialKind, ...]:
    return tuple(importlib.import_module(f"{__package__}.{name}").KIND for name in CREDENTIAL_TYPES)
