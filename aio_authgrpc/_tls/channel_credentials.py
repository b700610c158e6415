"""What is inside grpc's own channel credentials.

grpc has no public way to ask: the names of the core's types, and of the parts that composite and xDS
credentials hold, are all there is.
"""

from __future__ import annotations

import grpc

from aio_authgrpc.errors import ConfigurationError

_PARTS = ("_channel_credentials", "_fallback_credentials")
# `grpc.compute_engine_channel_credentials()` is composite, too.
_COMPOSITE = {"CompositeChannelCredentials", "ComputeEngineChannelCredentials"}


def check_channel_credentials(given: object) -> None:
    """Refuse what is not TLS for a channel whose token comes from `credentials=`.

    Raises:
        ConfigurationError: They are insecure, or bring a token of their own, or are something else.
    """
    if not isinstance(given, grpc.ChannelCredentials):
        raise ConfigurationError(
            f"expected SslCredentials or grpc.ChannelCredentials, not {type(given).__name__}.",
            field="ssl_credentials",
            hint="For example SslCredentials(root_certificates=...).",
        )
    names = _core_names(given)
    if "InsecureChannelCredentials" in names:
        raise ConfigurationError(
            "insecure channel credentials would send the token in the clear.",
            field="ssl_credentials",
            hint="Leave them out for TLS, or pass plaintext=True if that is what you want.",
        )
    if not _COMPOSITE.isdisjoint(names):
        raise ConfigurationError(
            "composite credentials would send their own token beside the channel's.",
            field="ssl_credentials",
            hint="Pass the channel credentials alone, and the identity as credentials=.",
        )


def is_local_credentials(credentials: object) -> bool:
    """Return whether they are `grpc.local_channel_credentials()`, which connect to this machine alone."""
    return "LocalChannelCredentials" in _core_names(credentials)


def _core_names(credentials: object) -> set[str]:
    core = getattr(credentials, "_credentials", credentials)
    names = {type(core).__name__}
    for part in _PARTS:
        inner = getattr(core, part, None)
        if inner is not None:
            names |= _core_names(inner)
    return names
