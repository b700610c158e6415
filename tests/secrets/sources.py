"""A source of every type, whose endpoint is a `Repeater`."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping
from typing import Any

import google.auth.api_key
import google.auth.compute_engine
import google.auth.credentials
import google.oauth2.credentials
import google.oauth2.service_account

from aio_authgrpc import (
    Token,
    TokenRequest,
    TokenSource,
    credentials,
    id_token,
    service_account,
    token_source,
)
from aio_authgrpc._sources.credentials import as_token_source

from .lab import Lab
from .planted import PLANTED

Info = dict[str, object]
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q"
EMAIL = "impersonated@project.iam.gserviceaccount.com"
IAM_URL = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
JWT = "urn:ietf:params:oauth:token-type:jwt"
AWS = "urn:ietf:params:aws:token-type:aws4_request"


def service_account_info(lab: Lab) -> Info:
    return {
        "type": "service_account",
        "client_email": "me@project.iam.gserviceaccount.com",
        "private_key": lab.private_key,
        "private_key_id": PLANTED["key id"],
        "token_uri": "https://oauth2.googleapis.com/token",
    }


def login(of: str = "") -> Info:
    return {
        "type": "authorized_user",
        "client_id": "a-client-id",
        "client_secret": PLANTED[f"client secret{of}"],
        "refresh_token": PLANTED[f"refresh token{of}"],
        "token": PLANTED["saved access token"],
        "expiry": "2020-01-31T23:59:59Z",
    }


def pool_login() -> Info:
    return {
        **login(" of a pool"),
        "type": "external_account_authorized_user",
        "token_url": "https://sts.googleapis.com/v1/oauthtoken",
    }


def impersonated(source: Mapping[str, object]) -> Info:
    return {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": IAM_URL,
        "source_credentials": source,
    }


def gdch_info(lab: Lab) -> Info:
    return {
        "type": "gdch_service_account",
        "format_version": "1",
        "project": "project",
        "private_key_id": "1",
        "private_key": lab.ec_key,
        "name": "service",
        "ca_cert_path": str(lab.ca_path),
        "token_uri": "https://gdch.googleapis.com/authenticate",
    }


def workload(source: Mapping[str, object], **more: object) -> Info:
    return {
        "type": "external_account",
        "audience": POOL,
        "subject_token_type": AWS if "environment_id" in source else JWT,
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": source,
        "client_id": "a-client-id",
        "client_secret": PLANTED["client secret of a workload"],
        **more,
    }


def file_workload(lab: Lab, **more: object) -> TokenSource:
    path = lab.file("subject-token", PLANTED["subject token in a file"])
    return credentials.external_account(workload({"file": str(path)}, **more), scopes=SCOPES)


def json_workload(lab: Lab) -> TokenSource:
    path = lab.file("subject-token.json", {"x": PLANTED["subject token in JSON"]})
    source = {"file": str(path), "format": {"type": "json", "subject_token_field_name": "x"}}
    return credentials.external_account(workload(source), scopes=SCOPES)


def url_workload(lab: Lab) -> TokenSource:
    return credentials.external_account(workload(lab.subject_tokens.credential_source()), scopes=SCOPES)


def hostile_url_workload(lab: Lab) -> TokenSource:
    """Ask the repeater itself for a subject token, with a secret header."""
    source = {"url": f"{lab.repeater.url}/x", "headers": {"X-Any": PLANTED["header of the URL"]}}
    return credentials.external_account(workload(source), scopes=SCOPES)


def executable(lab: Lab, command: str) -> TokenSource:
    path = lab.file("print-token", f"#!/bin/sh\n{command}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    source = {"executable": {"command": str(path), "timeout_millis": 5000}}
    return credentials.external_account(workload(source), scopes=SCOPES)


def printing_workload(lab: Lab) -> TokenSource:
    token = PLANTED["subject token of an executable"]
    answer = {"version": 1, "success": True, "token_type": JWT, "id_token": token}
    return executable(lab, f"echo '{json.dumps(answer)}'")


_OUTPUT = json.dumps({"version": 1, "success": True, "id_token": PLANTED["output of an executable"]})
EXECUTABLES = {
    "fails": f"echo '{_OUTPUT}'; exit 1",
    "prints half": f"echo '{_OUTPUT[:-1]}'",
    "prints two": f"echo '{_OUTPUT}{_OUTPUT}'",
    "says no kind of token": f"echo '{_OUTPUT}'",
}
"""What executables do that give no token, beside one."""


class UsersClass:
    """A source of a user's own over the cache's HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def fetch(self, request: TokenRequest) -> Token:
        """Ask the endpoint, and raise what it answers."""
        secret = PLANTED["refresh token of a user's class"]
        response = await request.http.send(self._url, "POST", json.dumps({"refresh": {"token": secret}}))
        body = json.loads(response.data)
        if response.status != 200:
            raise ValueError(f"refused: {response.data!r}")
        return Token(body["access_token"])


def plain_login(lab: Lab) -> TokenSource:
    """Return google-auth's own object, with a token URI that has a password."""
    untyped: Any = google.oauth2.credentials.Credentials
    own = untyped(
        None,
        refresh_token=PLANTED["refresh token"],
        client_id="a-client-id",
        client_secret=PLANTED["client secret"],
        rapt_token=PLANTED["rapt token"],
        token_uri=f"{lab.repeater.url}/token".replace("//", f"//me:{PLANTED['password of a URL']}@"),
    )
    return as_token_source(own)


SOURCES: dict[str, tuple[Callable[[Lab], TokenSource], int]] = {
    "service account": (lambda lab: service_account(service_account_info(lab), scopes=SCOPES), 0),
    "service account's ID token": (
        lambda lab: id_token("https://x", credentials=service_account(service_account_info(lab))),
        0,
    ),
    "login": (lambda lab: credentials.authorized_user(login()), 0),
    "login's ID token": (lambda lab: id_token(credentials=credentials.authorized_user(login())), 0),
    "google-auth's login": (plain_login, 0),
    "login of a pool": (lambda lab: credentials.external_account_authorized_user(pool_login()), 0),
    "impersonator": (
        lambda lab: credentials.impersonated_service_account(impersonated(login(" of an impersonator"))),
        0,
    ),
    "impersonation": (
        lambda lab: credentials.impersonated_service_account(impersonated(login(" of an impersonator"))),
        1,
    ),
    "impersonation for an ID token": (
        lambda lab: id_token(
            "https://x", credentials=credentials.authorized_user(login()), target_principal=EMAIL
        ),
        2,
    ),
    "GDCH": (lambda lab: credentials.gdch_service_account(gdch_info(lab)), 0),
    "workload, file": (file_workload, 0),
    "workload, JSON": (json_workload, 0),
    "workload, URL": (url_workload, 0),
    "workload, hostile URL": (hostile_url_workload, 0),
    "workload, executable": (printing_workload, 0),
    "workload, AWS": (
        lambda lab: credentials.external_account(workload(lab.aws.credential_source()), scopes=SCOPES),
        0,
    ),
    "workload, impersonation": (
        lambda lab: file_workload(lab, service_account_impersonation_url=IAM_URL),
        1,
    ),
    "Compute Engine": (lambda lab: credentials.compute_engine(), 0),
    "Compute Engine's ID token": (
        lambda lab: id_token("https://x", credentials=credentials.compute_engine()),
        0,
    ),
    "a user's class": (lambda lab: UsersClass(f"{lab.repeater.url}/token"), 0),
}
"""What makes each source, and how many of its requests are answered well."""


async def _users_function() -> Token:
    password = PLANTED["password in a user's function"]
    answer = {"token": PLANTED["result of a user's function"], "password": password}
    return Token(answer["access_token"])


def users_source() -> TokenSource:
    """Return a user's function, which fails beside its secrets."""
    return token_source(_users_function)
