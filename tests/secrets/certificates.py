"""Client certificates that cannot be used, beside keys and passphrases that are secrets."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from aio_authgrpc import SslCredentials, client_certificate_files

from .lab import Lab
from .planted import PLANTED

Stage = Callable[[Lab], Awaitable[object]]
PASSPHRASE, WRONG = PLANTED["passphrase"], PLANTED["wrong passphrase"]


def encrypted(key: str) -> bytes:
    own = load_pem_private_key(key.encode(), None)
    return own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode()))


def other_certificate(lab: Lab) -> bytes:
    """Return a certificate that is not the key's."""
    return lab.ca_path.read_bytes()


# Each writes a certificate and a key, and returns the paths and the passphrase.
FILES: dict[str, Callable[[Lab], tuple[Path, Path, Any]]] = {
    "another key": lambda lab: (lab.ca_path, lab.file("k", lab.private_key), None),
    "half a key": lambda lab: (lab.ca_path, lab.file("k", lab.private_key[:-300]), None),
    "a damaged key": lambda lab: (lab.ca_path, lab.file("k", lab.private_key.replace("A", "B")), None),
    "two keys": lambda lab: (lab.ca_path, lab.file("k", lab.private_key + lab.ec_key), None),
    "a key as certificate": lambda lab: (
        lab.file("c", lab.private_key),
        lab.file("k", lab.private_key),
        None,
    ),
    "no passphrase": lambda lab: (lab.ca_path, lab.file("k", encrypted(lab.private_key)), None),
    "a wrong passphrase": lambda lab: (lab.ca_path, lab.file("k", encrypted(lab.private_key)), WRONG),
    "the passphrase for another certificate": lambda lab: (
        lab.ca_path,
        lab.file("k", encrypted(lab.private_key)),
        PASSPHRASE,
    ),
    "a missing file": lambda lab: (lab.ca_path, lab.directory / "nowhere.key", PASSPHRASE),
    "a passphrase that is no text": lambda lab: (lab.ca_path, lab.ca_path, [PASSPHRASE]),
    "a passphrase with half a character": lambda lab: (lab.ca_path, lab.ca_path, f"{PASSPHRASE}\ud800"),
}


def loaded(name: str) -> Stage:
    async def stage(lab: Lab) -> object:
        cert, key, passphrase = FILES[name](lab)
        files = client_certificate_files(cert, key, passphrase=passphrase)
        lab.events.append(files)
        return await SslCredentials(client_certificate=files).load()

    return stage


def called(name: str) -> Stage:
    """Return the stage of a callback that google-auth calls."""

    async def stage(lab: Lab) -> object:
        cert, key, passphrase = FILES[name](lab)
        return client_certificate_files(cert, key, passphrase=passphrase)()

    return stage


# What a user's function returns, or raises beside its secrets.
RETURNED: dict[str, Callable[[Lab], object]] = {
    "another key": lambda lab: (other_certificate(lab), lab.private_key.encode()),
    "half a key": lambda lab: (other_certificate(lab), lab.private_key[:-300].encode()),
    "an encrypted key": lambda lab: (other_certificate(lab), encrypted(lab.private_key)),
    "text": lambda lab: (other_certificate(lab), lab.private_key),
    "the key alone": lambda lab: lab.private_key.encode(),
    "three": lambda lab: (other_certificate(lab), lab.private_key.encode(), PASSPHRASE),
    "nothing": lambda lab: json.loads(f'{{"key": "{PASSPHRASE}"}}')["chain"],
}


def returned(name: str, *, is_async: bool) -> Stage:
    async def stage(lab: Lab) -> object:
        def function() -> Any:
            key = lab.private_key
            return RETURNED[name](lab) if key else None

        async def coroutine_function() -> Any:
            return function()

        given = coroutine_function if is_async else function
        return await SslCredentials(client_certificate=given).load()

    return stage


CERTIFICATES: dict[str, dict[str, Stage]] = {
    "certificate files, loaded": {name: loaded(name) for name in FILES},
    "certificate files, called": {name: called(name) for name in FILES},
    "certificate function": {name: returned(name, is_async=False) for name in RETURNED},
    "certificate coroutine": {name: returned(name, is_async=True) for name in RETURNED},
}
