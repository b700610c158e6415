"""`CredentialKind`: a type of credential file, from its fields to google-auth's credential."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.secrets import redacted, shown
from aio_authgrpc._checks.values import FrozenValue, NotPickled
from aio_authgrpc._http.bridge import ThreadRequest
from aio_authgrpc._sources.files.fields import Fields
from aio_authgrpc._tokens.metadata import is_metadata_text
from aio_authgrpc.errors import ConfigurationError


class CredentialOptions(FrozenValue):
    """What the user chose beside a credential file, which stands in for each None."""

    scopes: tuple[str, ...] | None = None
    quota_project_id: str | None = None
    # For `default()`: scopes of a login or an impersonation stay, as with google-auth's `default()`.
    by_default: bool = False


def checked_options(
    scopes: Sequence[str] | None = None,
    quota_project_id: str | None = None,
    *,
    by_default: bool = False,
    field: str = "scopes",
) -> CredentialOptions:
    given: object = scopes
    if isinstance(given, str):  # it would be taken letter by letter
        raise ConfigurationError(
            "expected a list of str, not one str.", field=field, hint=f"Write [{shown(given)!r}]."
        )
    if not isinstance(given, Sequence | None) or not all(isinstance(scope, str) for scope in given or ()):
        raise ConfigurationError("expected a list of str.", field=field)
    check_type("quota_project_id", quota_project_id, str, type(None))
    if quota_project_id is not None and (not quota_project_id or not is_metadata_text(quota_project_id)):
        raise ConfigurationError("expected printable ASCII text, not empty.", field="quota_project_id")
    asked = tuple(scopes or ()) or None  # google-auth takes an empty list for scopes that were asked for
    return CredentialOptions(scopes=asked, quota_project_id=quota_project_id, by_default=by_default)


class IdTokenRequest(FrozenValue):
    """Which ID tokens are wanted."""

    audience: str
    audience_is_given: bool  # by the user; a login's ID token is for the login's client
    http: ThreadRequest  # for constructors of google-auth's that send requests


class CredentialKind(FrozenValue):
    """A type of credential file. The functions import what they need: they run in worker threads.

    Attributes:
        name: The `type` in the JSON.
        required: The fields that have to be there, each with its check. A name such as
            `credential_source.file` means a field of an object in the file.
        optional: Those that may be there. Any other field is left to google-auth.
        hint: How to get a new file.
        make: Makes google-auth's credential.
        google_auth_module: The module that google-auth's class of it, or its base class, is in.
        make_id_token: From that credential, makes the one for its ID tokens; None where it has none.
        refused_field: The field to name where google-auth refuses the content.
        is_without_type: Whether google-auth also writes it without a `type`.
    """

    name: str
    required: Fields
    optional: Fields
    hint: str
    make: Callable[[CredentialInfo, CredentialOptions], Any]
    google_auth_module: str
    make_id_token: Callable[[Any, IdTokenRequest], Any] | None = None
    refused_field: str = "file_or_info"
    is_without_type: bool = False

    def __repr__(self) -> str:
        # Only the name: field names beside values look like secrets in logs.
        return f"<CredentialKind {self.name}>"


class CredentialInfo(NotPickled, FrozenValue):
    """The checked content of a credential file. Its `repr` shows no secret."""

    __slots__ = ("fields", "kind", "origin", "prefix")

    kind: CredentialKind
    origin: str  # such as the path, for messages
    fields: Mapping[str, Any]
    prefix: str  # of the fields of an inner object, for messages

    def __repr__(self) -> str:
        return f"<CredentialInfo of type {self.kind.name}>"

    def fields_with(self, options: CredentialOptions) -> dict[str, Any]:
        # Not google-auth's with_quota_project(): a user's copy keeps its token and loses its expiry.
        chosen = options.quota_project_id
        return {**self.fields, **({} if chosen is None else {"quota_project_id": chosen})}

    def value(self, name: str) -> Any:
        """Return a field, also of an object in the file; None where it is missing."""
        return _value(self.fields, name)

    def error(self, problem: str, *, field: str) -> ConfigurationError:
        return ConfigurationError(f"{self.origin} {problem}.", field=self.prefix + field, hint=self.kind.hint)

    def credentials(self, options: CredentialOptions) -> Any:
        """Return google-auth's credential, in a worker thread; a ConfigurationError where it refuses."""
        try:
            return self.kind.make(self, options)
        except (ConfigurationError, ImportError):
            raise
        except Exception as error:  # noqa: BLE001 - on malformed content google-auth raises anything
            known = isinstance(error, ValueError) and len(error.args) == 1
            problem = redacted(str(error))[:200].rstrip(".") if known else type(error).__name__
        # Outside of the handler: that error can hold the content.
        raise self.error(f"is refused by google-auth: {problem}", field=self.kind.refused_field)


def checked_info(
    fields: Mapping[str, Any], origin: str, kinds: Sequence[CredentialKind], *, prefix: str = ""
) -> CredentialInfo:
    """Check a JSON object by the type that it names, or by the only one of `kinds` where it may lack one."""
    untyped = kinds[0].name if len(kinds) == 1 and kinds[0].is_without_type else None
    name = fields.get("type", untyped)
    kind = next((kind for kind in kinds if kind.name == name), None)
    if kind is None:
        expected = " or ".join(f'"{kind.name}"' for kind in kinds)
        raise ConfigurationError(
            f"{origin} {_shown(name)}; expected {expected}.",
            field=f"{prefix}type",
            hint="Each type has a function of its own; default() takes every type.",
        )
    info = CredentialInfo(kind=kind, origin=origin, fields=fields, prefix=prefix)
    for name, check in {**kind.required, **kind.optional}.items():
        value = _value(fields, name)
        if name not in kind.required and (value is None or (value == "" and "." not in name)):
            continue  # gcloud writes `"account": ""`
        lacking = "lacks it" if value is None else "has it empty" if value in ("", {}, []) else ""
        if problem := (lacking if name in kind.required else "") or check(value):
            raise info.error(problem, field=name)
    return info


def _value(fields: Any, name: str) -> Any:
    for part in name.split("."):
        fields = fields.get(part) if isinstance(fields, dict) else None  # pyright: ignore[reportUnknownVariableType] - JSON
    return fields  # pyright: ignore[reportUnknownVariableType] - JSON


def _shown(kind: object) -> str:
    """Describe the value of `type`; any other text may be a secret that slipped a line."""
    if kind is None:
        return "lacks it"
    named = isinstance(kind, str) and kind.isidentifier() and len(kind) <= 40
    return f"has {json.dumps(shown(kind))}" if named else "has something that is not the name of a type"
