"""A guard for tests: it checks bearer tokens in front of a service, and refuses calls, as ESPv2 does.

It is for tests alone and protects no production service. ESPv2 is Envoy with its `jwt_authn` filter. The
order of the checks is Envoy's: form, issuer, times, audience, signature.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol, TypeAlias, TypeVar, cast

import aiohttp
import grpc
import grpc.aio
import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

_Q = TypeVar("_Q")
_R = TypeVar("_R")
_Behaviour: TypeAlias = "Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[None]]"

_KEY_FETCH_TIMEOUT = 5.0

_user_info: contextvars.ContextVar[Mapping[str, object] | None] = contextvars.ContextVar(
    "user_info", default=None
)


def endpoint_user_info() -> Mapping[str, object] | None:
    """Return, in a handler, the validated payload of the caller's token; None if the guard needs no token.

    ESPv2 sends the payload upstream in the header `x-endpoint-api-userinfo`. This guard runs in the process
    of the service and cannot change received metadata, so the payload is a context variable of the call.
    Metadata of that name comes from the client and proves nothing.
    """
    return _user_info.get()


class RefusedError(Exception):
    """A refusal by the guard.

    Args:
        code: The status code.
        details: ESPv2's words.
        challenge: The `error` of the `www-authenticate` challenge; None leaves it out, as for a missing
            token.
    """

    def __init__(
        self, code: grpc.StatusCode, details: str, *, challenge: str | None = "invalid_token"
    ) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.challenge = challenge


def _unauthenticated(details: str, *, challenge: str | None = "invalid_token") -> RefusedError:
    return RefusedError(grpc.StatusCode.UNAUTHENTICATED, details, challenge=challenge)


class KeySource(Protocol):
    """A source of the keys of issuers."""

    async def keys(self, issuer: str, key_id: str | None) -> Collection[rsa.RSAPublicKey]:
        """Return the keys that may have signed a token with this `kid`; None means a token without one.

        Raises:
            RefusedError: The keys could not be fetched.
        """
        ...


class RemoteKeys:
    """Fetch issuers' keys over HTTP and keep them. An unknown key id fetches them again.

    Args:
        urls: For each issuer the address of its JWKS, or of a map from key id to X.509 certificate.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = urls
        self._kept: dict[str, dict[str, rsa.RSAPublicKey]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._fetching = asyncio.Lock()

    async def keys(self, issuer: str, key_id: str | None) -> Collection[rsa.RSAPublicKey]:
        """Return the keys that may have signed a token with this `kid`. See `KeySource`."""
        async with self._fetching:
            known = self._kept.get(issuer)
            if known is None or (key_id is not None and key_id not in known):
                known = self._kept[issuer] = await self._fetch(self._urls[issuer])
        if key_id is None:
            return known.values()
        if key_id not in known:
            raise _unauthenticated("Jwks doesn't have key to match kid or alg from Jwt")
        return [known[key_id]]

    def forget(self) -> None:
        """Drop every key, so that the next token fetches them."""
        self._kept.clear()

    async def aclose(self) -> None:
        """Close the HTTP session."""
        if self._session is not None:
            await self._session.close()

    async def _fetch(self, url: str) -> dict[str, rsa.RSAPublicKey]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_KEY_FETCH_TIMEOUT))
        try:
            async with self._session.get(url, raise_for_status=True) as response:
                return _read_keys(await response.json())
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, jwt.PyJWTError) as exc:
            raise _unauthenticated("Jwks remote fetch is failed") from exc


def _read_keys(document: Mapping[str, object]) -> dict[str, rsa.RSAPublicKey]:
    if "keys" in document:
        found = {str(key.key_id): key.key for key in jwt.PyJWKSet.from_dict(dict(document)).keys}
    else:
        found = {
            key_id: x509.load_pem_x509_certificate(str(pem).encode()).public_key()
            for key_id, pem in document.items()
        }
    return {key_id: key for key_id, key in found.items() if isinstance(key, rsa.RSAPublicKey)}


async def verify_jwt(
    token: str,
    *,
    keys: KeySource,
    issuers: Collection[str],
    audiences: Collection[str],
    now: float,
    skew: float,
) -> Mapping[str, object]:
    """Return the payload of a valid token.

    Args:
        token: The JWT.
        keys: The source of the issuers' keys.
        issuers: The accepted values of `iss`.
        audiences: The accepted values of `aud`.
        now: The wall time.
        skew: The tolerance for `exp` and `nbf`, in seconds.

    Raises:
        RefusedError: The token is invalid: PERMISSION_DENIED for another audience, UNAUTHENTICATED for every
            other fault.
    """
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except jwt.InvalidTokenError as exc:
        raise _unauthenticated(
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
        ) from exc
    claims: Mapping[str, object] = parts["payload"]
    check_claims(claims, issuers=issuers, audiences=audiences, now=now, skew=skew)
    key_id: object = parts["header"].get("kid")
    candidates = await keys.keys(str(claims["iss"]), None if key_id is None else str(key_id))
    if not any(_is_signed_by(key, token) for key in candidates):
        raise _unauthenticated("Jwt verification fails")
    return claims


def check_claims(
    claims: Mapping[str, object],
    *,
    issuers: Collection[str],
    audiences: Collection[str],
    now: float,
    skew: float,
) -> None:
    """Check the issuer, times and audience of a token. The arguments are those of `verify_jwt()`.

    Raises:
        RefusedError: One of them is wrong.
    """
    if str(claims.get("iss")) not in issuers:
        raise _unauthenticated("Jwt issuer is not configured")
    if _instant(claims, "nbf", default=0) > now + skew:
        raise _unauthenticated("Jwt not yet valid")
    # Like Envoy, a token without `exp` never expires.
    if _instant(claims, "exp", default=now) < now - skew:
        raise _unauthenticated("Jwt is expired")
    audience = claims.get("aud")
    named = cast("list[object]", audience) if isinstance(audience, list) else [audience]
    if not any(isinstance(one, str) and one in audiences for one in named):
        raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, "Audiences in Jwt are not allowed")


def _instant(claims: Mapping[str, object], name: str, *, default: float) -> float:
    value = claims.get(name, default)
    if not isinstance(value, int | float):
        raise _unauthenticated("Jwt payload is an invalid JSON")
    return value


def _is_signed_by(key: rsa.RSAPublicKey, token: str) -> bool:
    try:
        jwt.PyJWS().decode(token, key, algorithms=["RS256"])
    except jwt.InvalidTokenError:
        return False
    return True


class Guard(grpc.aio.ServerInterceptor):
    """Let a call through if its check passes, and otherwise refuse it in place of the service. For tests.

    Args:
        check: Takes the call's metadata; returns the payload for `endpoint_user_info()`, or raises
            `RefusedError`.
        secure: Whether the server has TLS: the challenge contains the URL of the method.

    Attributes:
        passed: The number of calls that reached the service.
        refused: The number of refused calls.
    """

    def __init__(
        self, check: Callable[[Mapping[str, str]], Awaitable[Mapping[str, object] | None]], *, secure: bool
    ) -> None:
        self._check = check
        self._scheme = "https" if secure else "http"
        self.passed = 0
        self.refused = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[_Q, _R] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Q, _R] | None:
        """Check one call. Called by the server."""
        try:
            payload = await self._check(_joined(handler_call_details))
        except RefusedError as refusal:
            self.refused += 1
            # A unary handler fits every arity: it aborts before it sends a message.
            return grpc.unary_unary_rpc_method_handler(self._refuse(refusal, handler_call_details.method))
        self.passed += 1
        # The interceptor and the handler run in the same task, which is the call's own.
        _user_info.set(payload)
        return await continuation(handler_call_details)

    def _refuse(self, refusal: RefusedError, method: str) -> _Behaviour:
        challenge = f'Bearer realm="{self._scheme}://localhost{method}"'
        if refusal.challenge is not None:
            challenge += f', error="{refusal.challenge}"'

        async def abort(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            await context.abort(refusal.code, refusal.details, (("www-authenticate", challenge),))

        return abort


def _joined(details: grpc.HandlerCallDetails) -> Mapping[str, str]:
    """Return the text metadata. Repeated keys are joined by a comma, as in HTTP: no valid token then."""
    joined: dict[str, str] = {}
    for name, value in details.invocation_metadata:
        text = value if isinstance(value, str) else ""
        joined[name] = f"{joined[name]},{text}" if name in joined else text
    return joined
