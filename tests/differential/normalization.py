"""The comparable form of a request: without the parts that differ between equal clients."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import jwt

from aio_authgrpc.testing import RecordedRequest

# Headers of the HTTP library, and headers for usage statistics: they authorize nothing.
IGNORED_HEADERS = {
    "user-agent": "names the HTTP library, or google-auth's version and a credential's kind",
    "x-goog-api-client": "google-auth's metrics, which google-api-core keeps off the RPC as well",
    "accept": "both take anything",
    "accept-encoding": "the compressions that the HTTP library knows",
    "connection": "requests asks to keep the connection, which HTTP/1.1 does by itself",
}


def normalized(request: RecordedRequest) -> Mapping[str, Any]:
    """Return a request in a form to compare, and to read in a failure."""
    return {
        "line": (request.method, request.path, dict(request.query)),
        "headers": normalized_headers(request.headers),
        "body": normalized_body(request),
    }


def normalized_headers(headers: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the significant headers."""
    kept = {name.lower(): value for name, value in headers.items() if name.lower() not in IGNORED_HEADERS}
    if "content-length" in kept:
        # The length varies with times and signatures, ECDSA's above all.
        kept["content-length"] = "some"
    return {name: normalized_value(value) for name, value in kept.items()}


def normalized_body(request: RecordedRequest) -> Any:
    """Return a form or a JSON object as such."""
    if request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        return {name: normalized_value(value) for name, value in request.form.items()}
    if request.body and request.headers.get("Content-Type", "").startswith("application/json"):
        return normalized_value(json.loads(request.body))
    return request.body


def normalized_value(value: Any) -> Any:
    """Return a value with the dates of the machine's clock as offsets.

    That is every JWT which a client signed, and AWS's signed request. Tokens of the authority are dated by
    the clock that stands still, and stay as they are.
    """
    if isinstance(value, dict):
        return _normalized_object(value)
    if isinstance(value, list):
        return [normalized_value(item) for item in value]
    return _normalized_text(value) if isinstance(value, str) else value


def _normalized_text(text: str) -> Any:
    scheme, _, last = text.rpartition(" ")
    if last.startswith("eyJ"):
        return (scheme, *_parts_of(last))
    if text.startswith("ZXlK"):  # the IAM API signs a JWT without signature, in Base64
        return _parts_of(base64.b64decode(text).decode() + ".")
    if text.startswith("%7B%22"):  # quoted JSON: AWS's signed request, or STS's options
        text = urllib.parse.unquote(text)
    return normalized_value(json.loads(text)) if text.startswith("{") else text


def _normalized_object(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if value.keys() >= {"iat", "exp"}:
        return {**value, "iat": 0, "exp": value["exp"] - value["iat"]}
    if value.get("key") == "x-amz-date":
        return {"key": "x-amz-date", "value": "now"}
    if value.get("key") == "Authorization":
        dated = re.compile(r"/\d{8}/|Signature=\w+")
        return {"key": "Authorization", "value": dated.sub("...", value["value"])}
    return {name: normalized_value(item) for name, item in value.items()}


def _parts_of(token: str) -> tuple[Any, ...]:
    parts = jwt.decode_complete(token, options={"verify_signature": False})
    if str(parts["payload"].get("iss")).startswith("http://127.0.0.1"):
        return (token,)
    return parts["header"], _normalized_object(parts["payload"])
