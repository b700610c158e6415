"""Mistakes in files and in the environment; they show when the channel is opened."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate

from aio_authgrpc import (
    SslCredentials,
    TokenSource,
    client_certificate_files,
    connect,
    default,
    service_account,
    static_token,
)
from aio_authgrpc.testing import EchoStub

from .mistake import Mistake, Stage

USER = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}


def opened(make: Callable[[Stage], TokenSource]) -> Callable[[Stage], Awaitable[None]]:
    """Return what opens a channel with these credentials."""

    async def open_(stage: Stage) -> None:
        async with connect("localhost:1", EchoStub, credentials=make(stage)):
            pass

    return open_


def key_file(stage: Stage, content: str | bytes) -> TokenSource:
    path = stage.directory / "key.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return service_account(path)


def pkcs12() -> bytes:
    issued = trustme.CA().issue_cert("account@example.com")
    key: Any = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    certificate = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    encryption = serialization.BestAvailableEncryption(b"notasecret")
    return serialize_key_and_certificates(b"privatekey", key, certificate, None, encryption)


def named_by_the_environment(stage: Stage) -> TokenSource:
    stage.environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nope/x.json")
    return default()


async def encrypted_client_key(stage: Stage) -> None:
    issued = trustme.CA().issue_cert("client@example.com")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"open sesame")
    cert, path = stage.directory / "client.pem", stage.directory / "client.key"
    cert.write_bytes(issued.cert_chain_pems[0].bytes())
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    tls = SslCredentials(client_certificate=client_certificate_files(cert, path))
    async with connect("localhost:1", EchoStub, credentials=static_token("abc"), ssl_credentials=tls):
        pass


ENVIRONMENT = [
    Mistake(
        name="a key file that is missing",
        make=opened(lambda _: service_account("missing.json")),
        cause=r"missing\.json cannot be read: No such file",
        next_step="Relative paths are resolved against /",
    ),
    Mistake(
        name="malformed JSON",
        make=opened(lambda stage: key_file(stage, '{"type": ')),
        cause=r"key\.json is malformed or truncated JSON \(line 1 column 10\)",
        next_step="It must be a JSON object, such as the key file",
    ),
    Mistake(
        name="a credential file of another type",
        make=opened(lambda stage: key_file(stage, json.dumps(USER))),
        cause=r'key\.json has "authorized_user"; expected "service_account"',
        next_step="Each type has a function of its own",
    ),
    Mistake(
        name="a PKCS12 key",
        make=opened(lambda stage: key_file(stage, pkcs12())),
        cause=r"key\.json is a PKCS12 key",
        next_step="create a JSON key",
    ),
    Mistake(
        name="a variable that names a missing file",
        make=opened(named_by_the_environment),
        cause=r"GOOGLE_APPLICATION_CREDENTIALS: /nope/x\.json cannot be read",
        next_step="Check the path",
    ),
    Mistake(
        name="no default credentials at all",
        make=opened(lambda _: default()),
        cause="no default credentials were found.*GOOGLE_APPLICATION_CREDENTIALS: not set",
        next_step="gcloud auth application-default login",
    ),
    Mistake(
        name="an encrypted client key without its passphrase",
        make=encrypted_client_key,
        cause=r"client\.key is encrypted",
        next_step="passphrase=",
    ),
]
