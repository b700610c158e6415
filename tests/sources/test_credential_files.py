"""The types of credential file: each mistake is one clear error, with path and field."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aio_authgrpc
from aio_authgrpc import AuthGrpcError, ConfigurationError, TokenRequest, TokenSource
from aio_authgrpc._sources.files.content import InfoLoader
from aio_authgrpc._sources.files.kind import CredentialOptions
from aio_authgrpc._sources.files.registry import CREDENTIAL_TYPES, credential_kinds

USER = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}


IMPERSONATION_URL = "https://iam.example.com/v1/projects/-/serviceAccounts/a@b:generateAccessToken"


GOOD: dict[str, dict[str, Any]] = {
    "service_account": {
        "type": "service_account",
        "client_email": "e@p.iam.gserviceaccount.com",
        "private_key": "k",
        "token_uri": "https://t.example.com",
    },
    "authorized_user": USER,
    "external_account": {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.example.com/v1/token",
        "credential_source": {"file": "/subject-token"},
    },
    "external_account_authorized_user": {
        "type": "external_account_authorized_user",
        "client_id": "i",
        "client_secret": "s",
        "refresh_token": "r",
        "token_url": "https://sts.example.com/v1/oauthtoken",
    },
    "impersonated_service_account": {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": IMPERSONATION_URL,
        "source_credentials": USER,
    },
    "gdch_service_account": {
        "type": "gdch_service_account",
        "format_version": "1",
        "project": "p",
        "private_key_id": "i",
        "private_key": "k",
        "name": "n",
        "token_uri": "https://t.example.com",
    },
}


LOADERS: dict[str, Callable[..., TokenSource]] = {
    kind: getattr(aio_authgrpc.credentials, kind) for kind in CREDENTIAL_TYPES
}


REQUIRED = [(kind, name) for kind, info in GOOD.items() for name in info if name != "type"]


OPTIONAL: dict[str, list[str]] = {
    "service_account": ["private_key_id", "project_id", "universe_domain", "quota_project_id"],
    "authorized_user": ["quota_project_id", "account", "token", "expiry", "scopes", "rapt_token"],
    "external_account": [
        "client_id",
        "client_secret",
        "token_info_url",
        "service_account_impersonation_url",
        "service_account_impersonation",
        "workforce_pool_user_project",
    ],
    "external_account_authorized_user": ["audience", "token_info_url", "revoke_url", "expiry"],
    "impersonated_service_account": ["delegates", "scopes", "quota_project_id"],
    "gdch_service_account": ["ca_cert_path"],
}


def test_each_type_has_a_module_of_its_name() -> None:
    """The registry finds it by that."""
    assert [kind.name for kind in credential_kinds()] == list(CREDENTIAL_TYPES)


@pytest.mark.parametrize(("kind", "name"), REQUIRED)
def test_a_required_field_that_is_missing_is_named(kind: str, name: str) -> None:
    """At the call, for a dict."""
    info = {key: value for key, value in GOOD[kind].items() if key != name}
    with pytest.raises(ConfigurationError, match="lacks it") as caught:
        LOADERS[kind](info)
    assert caught.value.field == name


@pytest.mark.parametrize("value", [5, True, [], {}, "", [5]], ids=repr)
@pytest.mark.parametrize(("kind", "name"), REQUIRED)
def test_a_required_field_of_a_wrong_type_is_named(kind: str, name: str, value: Any) -> None:
    """Or an empty one."""
    with pytest.raises(ConfigurationError) as caught:
        LOADERS[kind](GOOD[kind] | {name: value})
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in OPTIONAL.items() for name in names]
)
def test_an_optional_field_of_a_wrong_type_is_named(kind: str, name: str) -> None:
    """google-auth would trip over it at the first RPC."""
    with pytest.raises(ConfigurationError) as caught:
        LOADERS[kind](GOOD[kind] | {name: 5.5})
    assert caught.value.field == name


@pytest.mark.parametrize("kind", CREDENTIAL_TYPES)
async def test_the_path_of_a_broken_file_is_named(
    kind: str, tmp_path: Path, token_request: TokenRequest
) -> None:
    """When the channel is opened."""
    path, (_, name) = tmp_path / "broken.json", next(each for each in REQUIRED if each[0] == kind)
    path.write_text(json.dumps(GOOD[kind] | {name: 5}))
    with pytest.raises(ConfigurationError, match=str(path)) as caught:
        await LOADERS[kind](path).load(token_request)  # type: ignore[attr-defined]  # all of them are loadable
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"  \n", "is empty", id="blank"),
        pytest.param(b"{", "malformed or truncated JSON", id="truncated"),
        pytest.param(b"not json", "malformed or truncated JSON", id="no-json"),
        pytest.param(b"[" * 100_000, "malformed or truncated JSON", id="deeply-nested"),
        pytest.param(b"\xff\xfe{}", "not UTF-8", id="not-utf-8"),
        pytest.param(b'"' + b"x" * 300_000 + b'"', "too large", id="huge"),
        pytest.param(b"[]", "a list at the top", id="a-list"),
        pytest.param(b'{"type": "unknown"}', '"unknown"', id="another-type"),
        pytest.param(b"{}", "lacks it", id="no-type"),
    ],
)
@pytest.mark.parametrize("kind", [*CREDENTIAL_TYPES, "default"])
async def test_a_file_without_a_credential_is_one_clear_error(
    kind: str,
    content: bytes,
    text: str,
    tmp_path: Path,
    token_request: TokenRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For every function, and for the default credentials; never another identity."""
    path = tmp_path / "credentials.json"
    path.write_bytes(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    source: Any = aio_authgrpc.default() if kind == "default" else LOADERS[kind](path)
    if kind == "authorized_user" and content == b"{}":
        text = "client_id"  # google-auth writes users without a type
    with pytest.raises(ConfigurationError, match=text) as caught:
        await source.load(token_request)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", CREDENTIAL_TYPES)
def test_a_file_of_another_type_is_not_taken(kind: str) -> None:
    """Each function takes its own type; the error names the type in the file."""
    other = "service_account" if kind != "service_account" else "authorized_user"
    with pytest.raises(ConfigurationError, match=f'has "{other}"; expected "{kind}"') as caught:
        LOADERS[kind](GOOD[other])
    assert caught.value.field == "type"


@pytest.mark.parametrize(
    "url",
    ["http://sts.example.com", "ftp://x", "https://", "http://[bad", "https://a b", "https://x:99999999"],
)
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, name in REQUIRED if name.startswith("token_ur")]
)
def test_a_secret_is_sent_nowhere_in_the_clear(kind: str, name: str, url: str) -> None:
    """Http is for this machine only."""
    with pytest.raises(ConfigurationError, match="needs an https URL") as caught:
        LOADERS[kind](GOOD[kind] | {name: url})
    assert caught.value.field == name


BROKEN_SOURCES: list[Any] = [
    {"file": "f", "url": "u"},
    {"nothing": "known"},
    {"environment_id": "aws1"},
    {"url": "https://x", "format": {"type": "json"}},
    {"certificate": {}},
    {"executable": {}},
]


@pytest.mark.parametrize("source", BROKEN_SOURCES, ids=str)
async def test_a_broken_source_of_subject_tokens_is_an_error_when_it_is_loaded(
    source: Any, token_request: TokenRequest
) -> None:
    """google-auth's own check, in our error."""
    made: Any = aio_authgrpc.credentials.external_account(
        GOOD["external_account"] | {"credential_source": source}
    )
    with pytest.raises(ConfigurationError, match="refused by google-auth") as caught:
        await made.load(token_request)
    assert caught.value.field == "credential_source"


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({"file": 12}, "file"),  # google-auth would open, read and close that descriptor of the process
        ({"file": []}, "file"),
        ({"url": 5}, "url"),
        ({"url": "https://x", "headers": "x"}, "headers"),
        ({"url": "https://x", "headers": {"a": 5}}, "headers"),
        ({"file": "f", "format": 5}, "format"),
        ({"file": "f", "format": {"type": 5}}, "format.type"),
        ({"executable": "command"}, "executable"),
        ({"executable": {"command": 5}}, "executable.command"),
        ({"executable": {"command": "c", "timeout_millis": "5"}}, "executable.timeout_millis"),
        ({"executable": {"command": "c", "output_file": 5}}, "executable.output_file"),
        ({"certificate": {"trust_chain_path": 5}}, "certificate.trust_chain_path"),
    ],
)
def test_a_source_of_subject_tokens_of_a_wrong_type_is_named(source: Any, field: str) -> None:
    """At the call."""
    with pytest.raises(ConfigurationError) as caught:
        aio_authgrpc.credentials.external_account(GOOD["external_account"] | {"credential_source": source})
    assert caught.value.field == f"credential_source.{field}"


@pytest.mark.parametrize(
    "token_uri",
    ["https://login.example.com/token", "http://127.0.0.1:1/token", "https://googleapis.com.evil.example/t"],
)
@pytest.mark.parametrize("within", [False, True], ids=["alone", "in-an-impersonation"])
async def test_a_login_of_another_provider_is_refused_with_the_way_that_works(
    token_uri: str, within: bool, token_request: TokenRequest
) -> None:
    """Its refresh token went to Google's endpoint in silence: google-auth drops the field."""
    info: dict[str, Any] = USER | {"token_uri": token_uri}
    if within:
        info = GOOD["impersonated_service_account"] | {"source_credentials": info}
    make: Any = (
        aio_authgrpc.credentials.impersonated_service_account if within else aio_authgrpc.authorized_user
    )
    with pytest.raises(ConfigurationError, match=r"Credentials\(\.\.\., token_uri=\.\.\.\)") as caught:
        await make(info).load(token_request)
    assert (caught.value.field or "").endswith("token_uri")


@pytest.mark.parametrize(
    "token_uri", ["https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token"]
)
def test_a_login_of_googles_own_names_its_endpoint(token_uri: str) -> None:
    """As google-auth's `to_json()` does."""
    aio_authgrpc.authorized_user(USER | {"token_uri": token_uri})


def test_half_a_character_is_refused() -> None:
    """JSON can hold it, a request cannot; and a UnicodeError would hold the whole secret."""
    with pytest.raises(ConfigurationError, match="half a surrogate pair") as caught:
        aio_authgrpc.authorized_user(json.dumps(USER | {"refresh_token": "secret\ud800"}))
    assert caught.value.field == "refresh_token"


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({"type": "external_account"}, "source_credentials.type"),
        (USER | {"client_id": 5}, "source_credentials.client_id"),
        (GOOD["service_account"], "source_credentials.private_key"),
    ],
)
async def test_the_identity_inside_of_an_impersonation_is_checked_too(
    source: Any, field: str, token_request: TokenRequest
) -> None:
    """Its fields have the place before their names."""
    info = GOOD["impersonated_service_account"] | {"source_credentials": source}
    made: Any = aio_authgrpc.credentials.impersonated_service_account(info)
    with pytest.raises(ConfigurationError) as caught:
        await made.load(token_request)
    assert caught.value.field == field


@pytest.mark.parametrize("kind", ["gdch_service_account", "service_account"])
async def test_an_unusable_key_is_an_error_when_it_is_loaded(kind: str, token_request: TokenRequest) -> None:
    """It names the type's own hint, and shows nothing of the key."""
    made: Any = LOADERS[kind](GOOD[kind] | {"private_key": "-----BEGIN PRIVATE KEY-----\nMIIsecret"})
    with pytest.raises(ConfigurationError, match="create a new one") as caught:
        await made.load(token_request)
    assert "MIIsecret" not in str(caught.value)


def test_a_user_without_a_type_is_read() -> None:
    """google-auth's `to_json()` writes no type."""
    assert aio_authgrpc.authorized_user({key: value for key, value in USER.items() if key != "type"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


FIELDS = sorted(
    {name for info in GOOD.values() for name in info}
    | {name for names in OPTIONAL.values() for name in names}
)


@functools.cache
def a_real_key(kind: str) -> str:
    """Return a private key, so that the checks after it are reached too."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key: Any = ec.generate_private_key(ec.SECP256R1())
    if kind != "gdch_service_account":
        key = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8
    pem: bytes = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return pem.decode()


@st.composite
def mutated_info(draw: st.DrawFn) -> Any:
    """Return a good file of some type with a few fields replaced, added or taken away."""
    kind = draw(st.sampled_from(CREDENTIAL_TYPES))
    info = dict(GOOD[kind])
    if "private_key" in info:
        info["private_key"] = a_real_key(kind)
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=4)):
        info[name] = draw(JSON | st.sampled_from(list(info.values())))
    for name in draw(st.lists(st.sampled_from(sorted(info)), max_size=1)):
        del info[name]
    return info


def outcome(info: Any) -> object:
    """Return the credential that is made of it, or our own error."""
    try:
        loaded = InfoLoader(json.dumps(info), credential_kinds()).read()
        return loaded.credentials(CredentialOptions(scopes=("scope",), by_default=True))
    except AuthGrpcError as error:
        return error


@given(mutated_info())
@settings(max_examples=500, deadline=None)
def test_a_mutated_file_makes_a_credential_or_our_own_error(info: Any) -> None:
    """Nothing else, and the error names a field."""
    made = outcome(info)
    assert not isinstance(made, AuthGrpcError) or (isinstance(made, ConfigurationError) and made.field)


@given(st.dictionaries(st.sampled_from([*FIELDS, "type"]), JSON))
@settings(max_examples=300, deadline=None)
def test_any_object_makes_a_credential_or_our_own_error(info: Any) -> None:
    """Nothing else."""
    made = outcome(info)
    assert not isinstance(made, AuthGrpcError) or isinstance(made, ConfigurationError)
