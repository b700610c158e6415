"""Endpoints that repeat what they were sent, in each way in which an answer can be wrong."""

from __future__ import annotations

import html
import json
import urllib.parse
from collections.abc import Callable, Iterable

from aiohttp import web

from aio_authgrpc.testing import LoopbackHttpServer

from .planted import PLANTED

NEW = {"access_token": PLANTED["new token"], "refresh_token": PLANTED["new refresh token"]}
NEW["id_token"] = PLANTED["ID token of an endpoint"]
TOKENS = ("access_token", "accessToken", "id_token", "token")
GOOD = {
    "access_token": PLANTED["token of an endpoint"],
    "accessToken": PLANTED["token of an endpoint"],
    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "token_type": "Bearer",
    "expires_in": 3600,
    "expireTime": "2100-01-01T00:00:00Z",
}


def refuse(echo: str) -> web.Response:
    return web.json_response({"error": "invalid_grant", "error_description": echo}, status=400)


def refuse_as_an_api(echo: str) -> web.Response:
    error = {"code": 403, "message": echo, "status": "PERMISSION_DENIED", "details": [{"request": echo}]}
    return web.json_response({"error": error}, status=403)


def answer(content: object) -> web.Response:
    return web.json_response(content)


FAULTS: dict[str, Callable[[str], web.Response]] = {
    "refusal": refuse,
    "refusal of an API": refuse_as_an_api,
    "outage": lambda echo: web.Response(status=503, text=echo),
    "page": lambda echo: web.Response(status=401, text=f"<p>{html.escape(echo)}", content_type="text/html"),
    "escaped": lambda echo: web.Response(status=400, text=urllib.parse.quote(echo, safe="")),
    "not JSON": lambda echo: web.Response(text=echo),
    "another object": lambda echo: answer({"echo": echo, "refresh_token": NEW["refresh_token"]}),
    "half an answer": lambda echo: web.Response(text=json.dumps(NEW | {"echo": echo})[:-3]),
    "wrong types": lambda echo: answer({**NEW, "access_token": [NEW["access_token"]], "expires_in": echo}),
    "two lines": lambda echo: answer(
        {**GOOD, **dict.fromkeys(TOKENS, f"a\n{NEW['access_token']}"), "x": echo}
    ),
    "redirect": lambda echo: web.Response(status=307, headers={"Location": f"/?{urllib.parse.quote(echo)}"}),
    "no HTTP": lambda echo: web.Response(text=echo),
    "reset": lambda echo: web.Response(text=echo),
}
"""What makes an answer of what was sent, by the name of the fault."""


class Repeater(LoopbackHttpServer):
    """Answer the first requests well, and all others with a fault, whatever their address.

    Attributes:
        good: How many requests are still answered well.
        fault: The name of the fault.
    """

    def __init__(self) -> None:
        super().__init__()
        self.good = 0
        self.fault = "refusal"

    def _routes(self) -> Iterable[web.RouteDef]:
        return [web.route("*", "/{path:.*}", self._serve_any)]

    async def _serve_any(self, request: web.Request) -> web.Response:
        headers = {"Metadata-Flavor": "Google"}
        if self.good:
            self.good -= 1
            return web.json_response(GOOD, headers=headers)
        echo = await _echo(request)
        if self.fault == "no HTTP" and request.transport is not None:
            line = " ".join(echo.split()).encode("latin-1", "replace")
            request.transport.write(b"HTP/1.1 200 " + line + b"\r\n\r\n")  # type: ignore[attr-defined]  # a write transport
            request.transport.close()
        if self.fault == "reset" and request.transport is not None:
            request.transport.abort()  # type: ignore[attr-defined]  # as above
        response = FAULTS[self.fault](echo)
        response.headers.extend(headers)
        return response


async def _echo(request: web.Request) -> str:
    """Return the values of the request, the most secret ones first: messages are cut."""
    body = await request.text()
    fields = urllib.parse.parse_qsl(body)
    secrets = [value for name, value in fields if "token" in name or "secret" in name or name == "assertion"]
    return "\n".join([*reversed(secrets), *request.headers.values(), str(request.rel_url), body])
