"""Hostile files: whatever stands where a credential file belongs, opening ends soon, with one clear error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aio_authgrpc import ConfigurationError, TokenRequest, default
from aio_authgrpc import credentials as sources
from aio_authgrpc.errors import AuthGrpcError

SECRET = "s3cretS3CRET"
POOL = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.invalid/v1/token",
}
KEY = {
    "type": "service_account",
    "client_email": "a@b",
    "private_key": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n",
    "token_uri": "https://oauth2.invalid/token",
}
CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "NULs": bytes(1000),
    "binary": bytes(range(256)) * 10,
    "a megabyte": b" " * 1024 * 1024 + json.dumps(KEY).encode(),
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 50_000,
    "a huge number": b'{"type": ' + b"9" * 200_000 + b"}",
    "nan": b'{"type": NaN}',
    "half a pair": json.dumps(KEY | {"client_email": "\ud800"}).encode(),
    "utf-16": json.dumps(KEY).encode("utf-16"),
    "cut off": json.dumps(KEY).encode()[:-30],
    "two documents": json.dumps(KEY).encode() * 2,
    "another type": json.dumps({"type": SECRET + "\nx"}).encode(),
    "a type that is a list": json.dumps(KEY | {"type": [SECRET]}).encode(),
    "a key that is none": json.dumps(KEY).encode(),
    "a key that is a number": json.dumps(KEY | {"private_key": 5}).encode(),
    "an endpoint in the clear": json.dumps(KEY | {"token_uri": f"http://{SECRET}@evil.invalid/"}).encode(),
    "an endpoint that is a file": json.dumps(KEY | {"token_uri": "file:///etc/passwd"}).encode(),
    "an endpoint with a line end": json.dumps(KEY | {"token_uri": "https://a.invalid/\r\nX: 1"}).encode(),
    "an executable instead": json.dumps(
        POOL | {"credential_source": {"executable": {"command": "touch /tmp/should-not-be"}}}
    ).encode(),
}


@pytest.mark.parametrize("name", CONTENTS)
async def test_any_content_is_one_clear_error_without_a_secret(
    name: str, tmp_path: Path, token_request: TokenRequest
) -> None:
    """Where the key file of a service account belongs, and where the environment names a file."""
    path = tmp_path / "key.json"
    path.write_bytes(CONTENTS[name])
    for source in (sources.service_account(path), sources.service_account_jwt(path)):
        with pytest.raises(ConfigurationError) as caught:
            await source.load(token_request)
        assert SECRET not in f"{caught.value}{caught.value!r}"
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", [name for name in CONTENTS if name != "an executable instead"])
async def test_default_credentials_take_no_content_for_another(
    name: str, tmp_path: Path, token_request: TokenRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is never replaced by another identity."""
    path = tmp_path / "key.json"
    path.write_bytes(CONTENTS[name])
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    source = default(timeout=10)
    with pytest.raises(ConfigurationError) as caught:
        await source.load(token_request)
    assert SECRET not in f"{caught.value}{source.explain()}"
    assert source.explain().found is None


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def directory(path: Path) -> None:
    path.mkdir()


PLACES = [pipe, device, loop, dangling, directory]


@pytest.mark.parametrize("make", PLACES, ids=lambda make: make.__name__)
async def test_any_kind_of_file_comes_to_an_end(
    make: Callable[[Path], None], tmp_path: Path, token_request: TokenRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe without a writer costs the time limit, an endless device the limit of size."""
    path = tmp_path / "key.json"
    make(path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(ConfigurationError, match=r"key\.json"):
        await default(timeout=0.2).load(token_request)
    if make is pipe:
        path.write_text("go on\n")  # lets the abandoned thread end


@pytest.mark.parametrize(
    "field", ["file", "executable.output_file", "certificate.certificate_config_location"]
)
async def test_an_endless_device_is_no_file_of_a_configuration(
    field: str, token_request: TokenRequest
) -> None:
    """google-auth would read it into memory until there is none left."""
    source: dict[str, Any] = {field: "/dev/zero"}
    if "." in field:
        outer, inner = field.split(".")
        source = {outer: {"command": "/bin/true", inner: "/dev/zero"}}
    with pytest.raises(ConfigurationError, match="names a device") as caught:
        await sources.external_account(POOL | {"credential_source": source}).load(token_request)
    assert caught.value.field == f"credential_source.{field}"


@pytest.mark.parametrize("path", ["key\0.json", "k" * 300, "/" * 5000, "\ud800", "x/" * 3000])
async def test_any_path_is_one_clear_error(path: str, token_request: TokenRequest) -> None:
    """At the call, or when it is read."""
    with pytest.raises(AuthGrpcError):
        await sources.service_account(path).load(token_request)
