"""The keys of issuers: fetched over HTTP, kept, and matched with a token."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt import PyJWTError
from jwt.algorithms import RSAAlgorithm, get_default_algorithms

from aio_authgrpc.testing.guard.protobuf_json import read_struct
from aio_authgrpc.testing.guard.refusal import unauthenticated
from aio_authgrpc.testing.guard.token import Jwt
from aio_authgrpc.tokens import Clock

# ESPv2's.
_FETCH_TIMEOUT = 5.0
# After a look-up that did not find a key id: forged tokens must not make the guard ask for keys at each call.
# The same as `cooldownDuration` of npm's `jose`.
_WINDOW_OF_UNKNOWN_KEYS = 30.0

_RSA = {
    name: algorithm
    for name, algorithm in get_default_algorithms().items()
    if isinstance(algorithm, RSAAlgorithm)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """An RSA key of an issuer.

    Attributes:
        key_id: Its `kid`; "" if it is published without one.
        algorithm: The only algorithm that it is for; "" means all of RSA's.
        key: The key.
    """

    key_id: str
    algorithm: str
    key: rsa.RSAPublicKey

    def is_for(self, token: Jwt) -> bool:
        """Return whether it may have signed a token: key id and algorithm are equal, or one is missing."""
        if token.key_id and self.key_id and token.key_id != self.key_id:
            return False
        return self.algorithm in ("", token.algorithm)

    def has_signed(self, token: Jwt) -> bool:
        """Return whether the token's signature is from this key."""
        algorithm = _RSA.get(token.algorithm)
        return algorithm is not None and algorithm.verify(token.signed, self.key, token.signature)


class RemoteKeys:
    """Fetch issuers' keys over HTTP and keep them.

    A key id that is not among them fetches them again. If that did not bring the key, unknown key ids fetch
    nothing for 30 seconds. Calls that need keys at the same time share one request.

    Args:
        clock: Times the 30 seconds.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, Sequence[PublishedKey]] = {}
        self._missed_at: dict[str, float] = {}
        self._session: aiohttp.ClientSession | None = None
        self._fetching: dict[str, asyncio.Task[Sequence[PublishedKey] | None]] = {}

    async def check_signature(self, token: Jwt, url: str) -> None:
        """Return if one of the keys at `url` has signed the token.

        Raises:
            RefusedError: None has, or the keys could not be fetched.
        """
        keys = [key for key in await self._keys(token, url) if key.is_for(token)]
        if not keys:
            raise unauthenticated("Jwks doesn't have key to match kid or alg from Jwt")
        if not any(key.has_signed(token) for key in keys):
            raise unauthenticated("Jwt verification fails")

    def forget(self) -> None:
        """Drop every key, so that the next token fetches them."""
        self._kept.clear()
        self._missed_at.clear()

    async def aclose(self) -> None:
        """End requests under way, and close the HTTP session."""
        fetching = list(self._fetching.values())
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _keys(self, token: Jwt, url: str) -> Sequence[PublishedKey]:
        kept = self._kept.get(url)
        if kept is None or (not _knows(kept, token.key_id) and self._may_ask_again(url)):
            kept = await self._fetched(url)
            if not _knows(kept, token.key_id):
                self._missed_at[url] = self._clock.monotonic()
        return kept

    def _may_ask_again(self, url: str) -> bool:
        missed_at = self._missed_at.get(url)
        return missed_at is None or self._clock.monotonic() - missed_at >= _WINDOW_OF_UNKNOWN_KEYS

    async def _fetched(self, url: str) -> Sequence[PublishedKey]:
        # Check and set without an await between them. A task: the call that asked first may be cancelled.
        if url not in self._fetching:
            self._fetching[url] = asyncio.create_task(self._fetch(url), name=f"keys of {url}")
            self._fetching[url].add_done_callback(lambda _: self._fetching.pop(url))
        keys = await asyncio.shield(self._fetching[url])
        if keys is None:
            raise unauthenticated("Jwks remote fetch is failed")
        self._kept[url] = keys
        return keys

    async def _fetch(self, url: str) -> Sequence[PublishedKey] | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_FETCH_TIMEOUT))
        try:
            async with self._session.get(url, raise_for_status=True) as response:
                return _read_keys(read_struct(await response.read()))
        except (aiohttp.ClientError, TimeoutError, ValueError, TypeError, KeyError, PyJWTError):
            return None


def _knows(keys: Sequence[PublishedKey], key_id: str) -> bool:
    return not key_id or any(key.key_id in ("", key_id) for key in keys)


def _read_keys(document: Mapping[str, object]) -> list[PublishedKey]:
    """Return the RSA keys of a JWKS, or of a map from key id to certificate."""
    if "keys" in document:
        published = [
            PublishedKey(
                key_id=str(jwk.get("kid", "")),
                algorithm=str(jwk.get("alg", "")),
                key=cast("rsa.RSAPublicKey", RSAAlgorithm.from_jwk(jwk)),
            )
            for jwk in cast("list[dict[str, str]]", document["keys"])
            if jwk.get("kty") == "RSA"
        ]
    else:
        published = [
            PublishedKey(key_id=key_id, algorithm="", key=key)
            for key_id, pem in document.items()
            if isinstance(
                key := x509.load_pem_x509_certificate(str(pem).encode()).public_key(), rsa.RSAPublicKey
            )
        ]
    return published
