"""Mistakes with a secret in an argument, a file or the environment: each is refused, and shows nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc.aio
import pytest

import aio_authgrpc
from aio_authgrpc import (
    AuthorizedChannel,
    LazyChannel,
    SslCredentials,
    Token,
    api_key,
    channel_factory,
    connect,
    credentials,
    static_token,
)
from aio_authgrpc.aiohttp import Grpc
from aio_authgrpc.testing import EchoStub

from .lab import Lab
from .planted import PLANTED
from .sources import (
    gdch_info,
    impersonated,
    login,
    pool_login,
    service_account_info,
    workload,
)

Stage = Callable[[Lab], Awaitable[object]]
KEY, STATIC, BESIDE = PLANTED["API key"], PLANTED["static token"], PLANTED["API key beside a token"]


def at_once(make: Callable[[Lab], object]) -> Stage:
    """Return the stage of a mistake that is refused at the call."""

    async def stage(lab: Lab) -> object:
        return make(lab)

    return stage


# Arguments

ARGUMENTS: dict[str, Callable[[Lab], object]] = {
    "a token with a line end": lambda _: static_token(f"{STATIC}\n"),
    "a token of two words": lambda _: Token(f"Bearer {STATIC}"),
    "a token in bytes": lambda _: Token(STATIC.encode()),  # type: ignore[arg-type]  # the mistake
    "metadata with a line end": lambda _: Token(
        "t", metadata=(("x-any", f"{PLANTED['metadata of a token']}\n"),)
    ),
    "metadata with a capital": lambda _: Token("t", metadata=(("X-Any", PLANTED["metadata of a token"]),)),
    "an API key with a line end": lambda _: api_key(f"{KEY}\n"),
    "an API key in bytes": lambda _: api_key(KEY.encode()),  # type: ignore[arg-type]  # the mistake
    "an API key for a bad header": lambda _: api_key(KEY, header="x y"),
    "an unknown argument": lambda _: api_key(KEY, headers="x"),  # type: ignore[call-arg]  # the mistake
    "a token as credentials": lambda _: connect("host", EchoStub, credentials=STATIC),  # type: ignore[arg-type]  # the mistake
    "a key beside with a line end": lambda _: connect("host", EchoStub, api_key=f"{BESIDE}\n"),
    "a key beside for the token's header": lambda _: connect(
        "host", EchoStub, api_key=BESIDE, header="x-api-key", credentials=static_token("t")
    ),
    "an unknown argument of connect": lambda _: connect("host", EchoStub, api_key=BESIDE, apikey=1),  # type: ignore[call-overload]  # the mistake
    "a bad target beside a key": lambda _: connect("https://host", EchoStub, api_key=BESIDE),
    "a key for a factory": lambda _: channel_factory(api_key=BESIDE, max_connections=0),
    "a key for a lazy channel": lambda _: LazyChannel("https://host", api_key=BESIDE),
    "a key for an application": lambda _: Grpc("https://host", EchoStub, api_key=BESIDE),
    "no stub beside a key": lambda _: connect("host", object, api_key=BESIDE),
    "a cookie with a line end": lambda _: connect("host", metadata={"cookie": f"{PLANTED['cookie']}\n"}),
    "a cookie in a list": lambda _: connect("host", metadata=[("cookie", PLANTED["cookie"], 1)]),  # type: ignore[list-item]  # the mistake
    "a cookie for the wrapper": lambda lab: AuthorizedChannel(
        grpc.aio.insecure_channel(lab.echo_server.target),
        static_token("t"),
        metadata={"cookie": f"{PLANTED['cookie']}\n"},
    ),
    "a key file's function for a stub": lambda lab: aio_authgrpc.secure_authorized_channel(
        json.dumps(service_account_info(lab)),  # type: ignore[arg-type]  # the mistake
        None,
        "host",
    ),
}

INFOS: dict[str, Callable[[Lab], Mapping[str, object]]] = {
    "service_account": service_account_info,
    "authorized_user": lambda _: login(),
    "external_account": lambda _: workload(
        {"url": "https://x", "headers": {"X": PLANTED["header of the URL"]}}
    ),
    "external_account_authorized_user": lambda _: pool_login(),
    "impersonated_service_account": lambda _: impersonated(login(" of an impersonator")),
    "gdch_service_account": gdch_info,
}


def spoilt(info: Mapping[str, object]) -> dict[str, object]:
    """Return the content of a credential file with what is not a URL, or an id."""
    return {
        name: 1 if name.endswith(("_ur", "_uri", "_url", "_id")) else value for name, value in info.items()
    }


DAMAGES: dict[str, Callable[[Mapping[str, object]], Any]] = {
    "half": lambda info: json.dumps(info)[:-2],
    "a list": lambda info: json.dumps([info]),
    "quoted": lambda info: json.dumps(json.dumps(info)),
    "base64": lambda info: base64.b64encode(json.dumps(info).encode()).decode(),
    "another type": lambda info: {**info, "type": "another"},
    "no type": lambda info: {name: value for name, value in info.items() if name != "type"} | {"type": 1},
    "wrong types": lambda info: {**spoilt(info), "quota_project_id": 1},
    "bytes": lambda info: json.dumps(info).encode(),
}


def given(kind: str, damage: str) -> Stage:
    """Return the stage of damaged content that is passed."""
    make: Callable[[Any], object] = getattr(credentials, kind)
    return at_once(lambda lab: make(DAMAGES[damage](INFOS[kind](lab))))


def in_file(kind: str, damage: str) -> Stage:
    """Return the stage of damaged content in a file."""

    async def stage(lab: Lab) -> object:
        content = DAMAGES[damage](INFOS[kind](lab))
        path = lab.file("damaged.json", content)
        return await lab.token(getattr(credentials, kind)(path))

    return stage


# What stands where a path belongs

WRONG_PLACES: dict[str, Callable[[Lab], str]] = {
    "a key": lambda lab: lab.private_key,
    "a key's base64": lambda lab: "".join(lab.private_key.splitlines()[1:-1]),
    "PEM in base64": lambda lab: base64.b64encode(lab.private_key.encode()).decode(),
    "JSON in base64": lambda lab: base64.b64encode(json.dumps(service_account_info(lab)).encode()).decode(),
    "an API key": lambda _: f"AIza{KEY}",
    "an access token": lambda _: f"ya29.{STATIC}",
    "a refresh token": lambda _: f"1//{PLANTED['refresh token']}",
    "a client secret": lambda _: f"GOCSPX-{PLANTED['client secret']}",
}


def as_path(use: Callable[[Lab, str], Awaitable[object]], place: str) -> Stage:
    async def stage(lab: Lab) -> object:
        return await use(lab, WRONG_PLACES[place](lab))

    return stage


async def as_key_file(lab: Lab, text: str) -> object:
    return await lab.token(credentials.service_account(text))


async def as_environment(lab: Lab, text: str) -> object:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", text)
        return await lab.token(aio_authgrpc.default())


async def as_workload_key(lab: Lab, text: str) -> object:
    """Let the configuration of the machine's certificate name it."""
    workload = {"cert_path": str(lab.ca_path), "key_path": text}
    config = lab.file("config.json", {"cert_configs": {"workload": workload}})
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", raising=False)
        environment.setenv("GOOGLE_API_CERTIFICATE_CONFIG", str(config))
        return await SslCredentials().load()


async def as_certificate(_: Lab, text: str) -> object:
    return await SslCredentials(client_certificate=aio_authgrpc.client_certificate_files(text, text)).load()


async def as_roots(_: Lab, text: str) -> object:
    return await SslCredentials(root_certificates=text).load()


async def as_subject_token_file(lab: Lab, text: str) -> object:
    return await lab.token(credentials.external_account(workload({"file": text})))


async def as_header(_: Lab, text: str) -> object:
    return connect("host", credentials=static_token("t"), header=f"{text}/")


async def as_scopes(lab: Lab, text: str) -> object:
    return credentials.service_account(service_account_info(lab), scopes=text)


async def as_authority(_: Lab, text: str) -> object:
    return connect("host", credentials=static_token("t"), authority=f"{text}/")


async def as_host(_: Lab, text: str) -> object:
    return aio_authgrpc.AuthMetadataPlugin(static_token("t"), default_host=f"{text}/")


async def as_key(_: Lab, text: str) -> object:
    return connect("host", credentials=static_token("t"), metadata={f"{text}/": "x"})


USES: dict[str, Callable[[Lab, str], Awaitable[object]]] = {
    use.__name__: use
    for use in (
        *(as_key_file, as_environment, as_workload_key, as_certificate, as_roots, as_subject_token_file),
        *(as_header, as_scopes, as_authority, as_host, as_key),
    )
}

MISTAKES: dict[str, dict[str, Stage]] = {
    "arguments": {name: at_once(make) for name, make in ARGUMENTS.items()},
    **{f"{kind}, passed": {damage: given(kind, damage) for damage in DAMAGES} for kind in INFOS},
    **{
        f"{kind}, in a file": {damage: in_file(kind, damage) for damage in DAMAGES if damage != "bytes"}
        for kind in INFOS
    },
    **{name: {place: as_path(use, place) for place in WRONG_PLACES} for name, use in USES.items()},
}
