"""Credential files as files: paths, JSON text and dicts, read and shown without a secret."""

from __future__ import annotations

import base64
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    NoEncryption,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate

import aio_authgrpc
from aio_authgrpc import (
    ConfigurationError,
    TokenRequest,
    service_account,
    service_account_jwt,
)
from aio_authgrpc._sources.files.content import InfoLoader, file_source
from aio_authgrpc._sources.files.kind import CredentialKind
from aio_authgrpc._sources.files.registry import credential_kinds
from aio_authgrpc._sources.files.service_account import ServiceAccountJwtSource

USER = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}


KEY_FILE = {
    "type": "service_account",
    "client_email": "e@p.iam.gserviceaccount.com",
    "private_key": "k",
    "token_uri": "https://t.example.com",
}
CONTENT = json.dumps(KEY_FILE | {"private_key": "SECRETQ" * 50})


NOT_PATHS = {
    "quoted": json.dumps(CONTENT),
    "in a list": f"[{CONTENT}]",
    "encoded": base64.b64encode(CONTENT.encode()).decode(),
    "a key alone": "-----BEGIN PRIVATE KEY-----\nSECRETQ",
    "cut off in front": CONTENT[30:],
}


@pytest.mark.parametrize("form", NOT_PATHS)
async def test_content_in_the_place_of_a_path_is_not_shown(
    form: str, token_request: TokenRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in the environment variable, where a path belongs."""
    with pytest.raises(ConfigurationError, match="other text") as caught:
        aio_authgrpc.service_account(NOT_PATHS[form])
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", NOT_PATHS[form])
    source = aio_authgrpc.default()
    with pytest.raises(ConfigurationError, match="It takes a path") as of_default:
        await source.load(token_request)
    shown = f"{caught.value!r}{of_default.value!r}{source.explain()}"
    assert not any(part in shown for part in ("SECRETQ", "eyJ", "U0VDUkVU"))


def test_a_byte_order_mark_before_the_brace_does_no_harm() -> None:
    """Windows writes it."""
    assert aio_authgrpc.authorized_user("\ufeff" + json.dumps(USER))


async def test_a_removed_working_directory_raises_the_usual_error(
    tmp_path: Path, token_request: TokenRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the directory of a relative path, if it exists."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigurationError, match="a working directory that was removed"):
        await aio_authgrpc.service_account("key.json").load(token_request)


async def test_a_file_cut_off_in_the_key_does_not_show_it(file: Path, token_request: TokenRequest) -> None:
    """A JSON error carries the whole text; ours does not."""
    text = file.read_text()
    file.write_text(text[: text.index("END PRIVATE") - 100])
    with pytest.raises(ConfigurationError, match="malformed or truncated JSON") as caught:
        await service_account(file).load(token_request)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("name", "text"), [("missing.json", "No such file"), (".", "directory")])
async def test_a_path_that_cannot_be_read_is_one_clear_error(
    name: str, text: str, tmp_path: Path, token_request: TokenRequest
) -> None:
    """Not there, or a directory; never replaced by another identity."""
    with pytest.raises(ConfigurationError, match=text) as caught:
        await service_account(tmp_path / name).load(token_request)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("given", [None, 5, b"{}", "", [], "{", "{}", "[]"])
def test_a_value_that_cannot_be_a_key_is_an_error_at_the_call(given: Any) -> None:
    """Text that begins with a brace is JSON, other text a path."""
    if given == "[]":
        pytest.skip("that is a path")
    with pytest.raises(ConfigurationError):
        service_account(given)


async def test_a_file_that_is_not_text_is_not_shown(tmp_path: Path, token_request: TokenRequest) -> None:
    """A decoding error carries the content."""
    path = tmp_path / "key.json"
    path.write_bytes(b'{"private_key": "-----BEGIN PRIVATE KEY-----MIIsecret\xff')
    for source in (service_account(path), service_account_jwt(path)):
        with pytest.raises(ConfigurationError, match="not UTF-8") as caught:
            await source.load(token_request)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def jwt_source(file: Path, *, timeout: float) -> ServiceAccountJwtSource:
    return ServiceAccountJwtSource(InfoLoader(file, credential_kinds()), {}, None, 3600, timeout=timeout)


def source_of(kind: CredentialKind) -> Callable[..., Any]:
    return functools.partial(file_source, kind=kind)


@pytest.mark.parametrize(
    "make",
    [pytest.param(source_of(kind), id=kind.name) for kind in credential_kinds()]
    + [pytest.param(jwt_source, id="service_account_jwt")],
)
async def test_a_file_that_is_never_read_to_its_end_is_given_up(
    make: Callable[..., Any], tmp_path: Path, token_request: TokenRequest
) -> None:
    """A pipe without a writer: opening it would hang for ever. The error names the path."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigurationError, match=r"/pipe'\) took more than 0\.05 s") as caught:
        await make(pipe, timeout=0.05).load(token_request)
    assert caught.value.field == "file_or_info"
    pipe.write_text("go on\n")  # lets the abandoned thread end


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
async def test_a_device_is_no_key_file(device: str, token_request: TokenRequest) -> None:
    """An endless one is read to its limit of 256 KiB."""
    with pytest.raises(ConfigurationError, match=r"too large|is empty"):
        await service_account(device).load(token_request)


@pytest.mark.parametrize("password", [b"notasecret", None], ids=["encrypted", "open"])
async def test_a_pkcs12_key_is_told_from_a_damaged_file(
    password: bytes | None, tmp_path: Path, token_request: TokenRequest
) -> None:
    """Seed 003 names the format, which google-auth does not read either."""
    issued = trustme.CA().issue_cert("account@example.com")
    algorithm = BestAvailableEncryption(password) if password else NoEncryption()
    certificate = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    key: Any = load_pem_private_key(issued.private_key_pem.bytes(), None)
    path = tmp_path / "key.p12"
    path.write_bytes(serialize_key_and_certificates(b"privatekey", key, certificate, None, algorithm))
    with pytest.raises(ConfigurationError, match="is a PKCS12 key") as caught:
        await service_account(path).load(token_request)
    assert caught.value.hint == "PKCS12 is not supported: create a JSON key for the same service account."


async def test_a_key_in_pem_is_told_from_a_damaged_file(tmp_path: Path, token_request: TokenRequest) -> None:
    """It is one field of the file that is wanted."""
    path = tmp_path / "key.pem"
    path.write_bytes(trustme.CA().issue_cert("account@example.com").private_key_pem.bytes())
    with pytest.raises(ConfigurationError, match=r"key\.pem is a key or a certificate in PEM form") as caught:
        await service_account(path).load(token_request)
    assert "JSON" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param("missing.json", "Relative paths are resolved against", id="relative"),
        pytest.param("~/key.json", "'~' is not expanded: pass Path(...).expanduser().", id="home"),
        pytest.param("{}/missing.json", "Check the path", id="absolute"),
        pytest.param("{}", "Name a file in this directory.", id="directory"),
        pytest.param("{}/key.json/x", "Check the path", id="below-a-file"),
        pytest.param("/x\0", "", id="no-path"),
    ],
)
async def test_a_path_that_cannot_be_read_gets_the_hint_that_applies(
    name: str, hint: str, tmp_path: Path, token_request: TokenRequest
) -> None:
    """And no other."""
    (tmp_path / "key.json").touch()
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        await service_account(name.format(tmp_path)).load(token_request)
    assert caught.value.hint.startswith(hint)
    assert "~" in name or "~" not in caught.value.hint
    assert bool(hint) == bool(caught.value.hint)
