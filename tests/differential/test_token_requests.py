"""For every type, the endpoints cannot tell this package from sync google-auth."""

from __future__ import annotations

from .clients import Pair
from .configurations import Configuration


def test_every_type_sends_what_google_auth_sends_and_gets_what_it_gets(
    pair: Pair, each_configuration: Configuration
) -> None:
    """Requests with their headers and bodies, the token with its metadata, and its expiry."""
    assert pair.ours.requests == pair.theirs.requests
    assert pair.ours.headers == pair.theirs.headers
    assert pair.ours.expiry == pair.theirs.expiry
    assert (pair.theirs.requests == []) == (each_configuration.silent)
