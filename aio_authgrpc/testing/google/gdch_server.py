"""The token endpoint of Google Distributed Cloud Hosted, with a certificate authority of its own."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import jwt
import trustme
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aio_authgrpc.testing.google.authority import Authority
from aio_authgrpc.testing.google.google_apis import ACCESS_TOKEN_TYPE
from aio_authgrpc.testing.google.grants import GrantError
from aio_authgrpc.testing.servers.certificates import LOCAL_NAMES, server_context
from aio_authgrpc.testing.servers.http_server import LoopbackHttpServer

_PATH = "/authenticate"
# google-auth sends these in place of RFC 8693's names.
_GRANT_TYPE = "urn:ietf:params:oauth:token-type:token-exchange"
_SERVICE_ACCOUNT_TYPE = "urn:k8s:params:oauth:token-type:serviceaccount"


class GdchServer(LoopbackHttpServer):
    """Exchange the assertion of a GDCH service identity for an access token, over TLS.

    Args:
        authority: Signs the access tokens.
    """

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority
        self._ca: trustme.CA | None = None
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}

    def service_account_info(self, ca_path: Path, *, name: str = "service") -> dict[str, str]:
        """Return the key file of a service identity, as a dict, with a key of its own.

        Args:
            ca_path: The file to write the certificate of the server's authority to.
            name: The name of the service identity.
        """
        if self._ca is None:
            raise self._not_open()
        self._ca.cert_pem.write_to_path(str(ca_path))
        key_id, key = uuid.uuid4().hex, ec.generate_private_key(ec.SECP256R1())
        self._keys[key_id] = key
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "gdch_service_account",
            "format_version": "1",
            "project": "project",
            "private_key_id": key_id,
            "private_key": pem.decode(),
            "name": name,
            "ca_cert_path": str(ca_path),
            "token_uri": self.url + _PATH,
        }

    async def _open(self) -> None:
        self._ca = await asyncio.to_thread(trustme.CA)
        await super()._open()

    def _ssl_context(self) -> ssl.SSLContext:
        assert self._ca is not None, "_open() made it"
        return server_context(self._ca, *LOCAL_NAMES)

    def _routes(self) -> Iterable[web.RouteDef]:
        return [web.post(_PATH, self._serve_token)]

    async def _serve_token(self, request: web.Request) -> web.Response:
        try:
            body = cast("Mapping[str, str]", await request.json())
            return web.json_response(self._exchange(body))
        except GrantError as refusal:
            return web.json_response(refusal.body(), status=refusal.status)

    def _exchange(self, body: Mapping[str, str]) -> dict[str, object]:
        wanted = {
            "grant_type": _GRANT_TYPE,
            "requested_token_type": ACCESS_TOKEN_TYPE,
            "subject_token_type": _SERVICE_ACCOUNT_TYPE,
        }
        for name, value in wanted.items():
            if body.get(name) != value:
                raise GrantError("invalid_request", f"{name} must be {value}")
        return {
            "access_token": self._authority.issue_access_token(
                email=self._verified(body.get("subject_token", "")), audience=body.get("audience")
            ),
            "issued_token_type": ACCESS_TOKEN_TYPE,
            "token_type": "Bearer",
            "expires_in": int(self._authority.token_lifetime),
        }

    def _verified(self, assertion: str) -> str:
        """Return the `sub` of an assertion, after checking its signature and audience."""
        try:
            key = self._keys[jwt.get_unverified_header(assertion)["kid"]]
            claims = jwt.decode(
                assertion,
                key.public_key(),
                algorithms=["ES256"],
                audience=self.url + _PATH,
                options={"verify_exp": False, "verify_iat": False},
            )
        except (KeyError, jwt.InvalidTokenError) as error:
            raise GrantError(
                "invalid_grant", "The assertion's key, signature or audience is wrong", status=401
            ) from error
        return str(claims["sub"])
