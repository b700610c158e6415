"""Envoy and the guard of the test servers, side by side: the same tokens to both."""

from __future__ import annotations

from collections.abc import Mapping

import grpc.aio
import pytest

from aio_authgrpc.testing import Authority, BookstoreServer, EnvoyProxy
from tests.support.jwt_forge import Forge, answers
from tests.support.jwt_variants import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
async def test_guard_gives_envoy_s_verdict(authority: Authority, proxy: EnvoyProxy, family: str) -> None:
    """The same code, in the same words; and the table in `tests/support` says which."""
    forge = Forge(authority=authority, audience=proxy.audience)
    variants = list(FAMILIES[family]())
    async with (
        BookstoreServer(authority, audience=proxy.audience, tls=False) as server,
        grpc.aio.insecure_channel(proxy.h2c_target) as to_envoy,
        grpc.aio.insecure_channel(server.target) as to_guard,
    ):
        envoy = await answers(to_envoy, variants, forge)
        guard = await answers(to_guard, variants, forge)
    assert differing(envoy, guard) == {}
    assert differing(envoy, {variant.name: variant.answer for variant in variants}) == {}


def differing(one: Mapping[str, object], other: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """Return what is not the same in two mappings with the same keys."""
    assert one.keys() == other.keys()
    return {name: (one[name], other[name]) for name in one if one[name] != other[name]}
