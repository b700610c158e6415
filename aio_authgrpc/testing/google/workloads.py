"""The identities of workloads outside Google Cloud: AWS, and a server of subject tokens."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from aio_authgrpc.testing.servers.http_server import LoopbackHttpServer

_ROLE = "the-role"
_ACCESS_KEY_ID = "AKIATEST"
_SECRET_ACCESS_KEY = "aws-secret-access-key"
_SUBJECT_TOKEN = "subject-token-of-a-url"
_AWS_SESSION_TOKEN = "aws-session-token"
_IMDS_TOKEN = "imds-session-token"


class AwsMetadataServer(LoopbackHttpServer):
    """Be the instance metadata service of AWS, version 2.

    `PUT` returns a session token, which every other request must carry. The others return the availability
    zone, the name of one role, and its security credentials.

    Args:
        zone: The availability zone, a region and a letter.
    """

    def __init__(self, *, zone: str = "us-east-2b") -> None:
        super().__init__()
        self._zone = zone

    def credential_source(self) -> dict[str, str]:
        """Return the `credential_source` of an external account on this machine."""
        return {
            "environment_id": "aws1",
            "region_url": f"{self.url}/latest/meta-data/placement/availability-zone",
            "url": f"{self.url}/latest/meta-data/iam/security-credentials",
            "imdsv2_session_token_url": f"{self.url}/latest/api/token",
            "regional_cred_verification_url": (
                "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
            ),
        }

    def _routes(self) -> Iterable[web.RouteDef]:
        return [
            web.put("/latest/api/token", self._serve_session_token),
            web.get("/latest/meta-data/placement/availability-zone", self._serve_zone),
            web.get("/latest/meta-data/iam/security-credentials", self._serve_role),
            web.get("/latest/meta-data/iam/security-credentials/{role}", self._serve_credentials),
        ]

    async def _serve_session_token(self, request: web.Request) -> web.Response:
        if not request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "").isdigit():
            raise web.HTTPBadRequest
        return web.Response(text=_IMDS_TOKEN)

    async def _serve_zone(self, request: web.Request) -> web.Response:
        _check_session(request)
        return web.Response(text=self._zone)

    async def _serve_role(self, request: web.Request) -> web.Response:
        _check_session(request)
        return web.Response(text=_ROLE)

    async def _serve_credentials(self, request: web.Request) -> web.Response:
        _check_session(request)
        if request.match_info["role"] != _ROLE:
            raise web.HTTPNotFound
        return web.json_response(
            {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "AccessKeyId": _ACCESS_KEY_ID,
                "SecretAccessKey": _SECRET_ACCESS_KEY,
                "Token": _AWS_SESSION_TOKEN,
            }
        )


def _check_session(request: web.Request) -> None:
    if request.headers.get("X-aws-ec2-metadata-token") != _IMDS_TOKEN:
        raise web.HTTPUnauthorized


class SubjectTokenServer(LoopbackHttpServer):
    """Return a subject token, as Azure's metadata server does for URL-sourced credentials.

    Requests need the header `Metadata: True`. `/token` answers with the token alone, `/token.json` with a
    JSON object that has it as `access_token`.

    Args:
        subject_token: The token.
    """

    def __init__(self, subject_token: str = _SUBJECT_TOKEN) -> None:
        super().__init__()
        self._subject_token = subject_token

    def credential_source(self, *, json: bool = False) -> dict[str, object]:
        """Return the `credential_source` of an external account that reads text or JSON from here."""
        source: dict[str, object] = {"url": f"{self.url}/token", "headers": {"Metadata": "True"}}
        if json:
            source["url"] = f"{self.url}/token.json"
            source["format"] = {"type": "json", "subject_token_field_name": "access_token"}
        return source

    def _routes(self) -> Iterable[web.RouteDef]:
        return [web.get("/token", self._serve_text), web.get("/token.json", self._serve_json)]

    async def _serve_text(self, request: web.Request) -> web.Response:
        _check_metadata(request)
        return web.Response(text=self._subject_token)

    async def _serve_json(self, request: web.Request) -> web.Response:
        _check_metadata(request)
        return web.json_response({"access_token": self._subject_token})


def _check_metadata(request: web.Request) -> None:
    if request.headers.get("Metadata") != "True":
        raise web.HTTPForbidden
