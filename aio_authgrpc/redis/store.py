"""`SharedTokenStore`: where the processes of a fleet find each other's tokens."""

from __future__ import annotations

import inspect
import random
from collections.abc import Sequence

from aio_authgrpc import ConfigurationError, TokenSource
from aio_authgrpc._checks.arguments import as_list, check_seconds, check_type
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._sources.credentials import SeveralTokensSource, as_token_source
from aio_authgrpc.credentials import CredentialsType
from aio_authgrpc.redis.client import LeasedValues, RedisClient
from aio_authgrpc.redis.shared_tokens import SharedTokens, Sharing
from aio_authgrpc.redis.vault import Vault
from aio_authgrpc.tokens import Clock, SystemClock

# Seconds. With what the loop itself takes to notice, a store that hangs delays a call by less than 50 ms.
TIMEOUT = 0.03
# Seconds. A call waits so long for the token of a process that died, and a token request that takes longer is
# made by one more process, too.
LEASE = 5.0


# Seconds. A shorter lease ends before a token request does, and a longer one is a mistake of units.
_SHORTEST_LEASE = 0.1
_LONGEST_LEASE = 3600.0


class SharedTokenStore:
    """Lets processes and machines share their tokens in Redis or Valkey: one token request for all of them.

        store = SharedTokenStore(redis.asyncio.Redis(), keys=[key])
        credentials = store.share(id_token(), identity="orders-service")
        async with connect("bookstore-xyz.a.run.app", BookstoreStub, credentials=credentials) as stub: ...

    Of all processes that need a token one asks for it, with a lease that ends by itself; the others wait for
    it. A store that is slow or down fails no call: after 0.03 s a process asks for a token itself, and
    leaves the store alone for 5 s.

    Access tokens and ID tokens are stored, until they expire, encrypted with AES-256-GCM and bound to their
    name. The name is an HMAC. Refresh tokens, private keys and tokens without an expiry are never stored.
    A process with a key *and* access to the store can use all its tokens: share a key only among processes
    that may have each other's.

    The store belongs to the event loop, and the process, that first uses it, as its client does; elsewhere
    tokens are not shared. Nothing is to be closed but the client, after the connections.

    Args:
        client: An open client of `redis.asyncio` or `valkey.asyncio`, also for a cluster, with TLS and
            password as it was made. It stays yours. Redis 5 or newer.
        keys: Keys of 32 bytes. The first encrypts, and all of them decrypt: to replace a key, put the new
            one before it, and take the old one out once all processes have the new one.
        prefix: What the names in the store begin with.
        timeout: Seconds that a call waits for answers of the store, in all.
        lease: Seconds after which a process that asks for a token loses the right to do it for all, and one
            of those that wait asks, too. They wait for either token, for 1.5 to 2.5 times as long. Longer
            than a token request takes; 0.1 to 3600.
        clock: Wall and monotonic time, as for `connect`; the machine's by default.
        rng: Randomness of the pauses of processes that wait.

    Raises:
        ConfigurationError: An argument cannot be used; `field` names it.
    """

    @hiding_arguments
    def __init__(
        self,
        client: RedisClient,
        *,
        keys: Sequence[bytes],
        prefix: str = "aio_authgrpc",
        timeout: float = TIMEOUT,
        lease: float = LEASE,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        _check_client(client)
        given = as_list(keys)
        if not given:
            raise ConfigurationError(
                f"expected a list of keys, not {type(keys).__name__}." if given is None else "there is none.",
                field="keys",
                hint="Pass keys=[key], with a key of 32 bytes.",
            )
        check_type("prefix", prefix, str, hint="Pass a short text, or leave it out.")
        if "{" in prefix:  # it would tell a cluster the place of all keys
            raise ConfigurationError("it holds a brace.", field="prefix", hint="Leave it out.")
        check_seconds("timeout", timeout)
        _check_lease(lease)
        _check_clock(clock)
        check_type("rng", rng, random.Random, type(None), hint="Pass random.Random(), or leave it out.")
        clock = SystemClock() if clock is None else clock
        self._sharing = Sharing(
            values=LeasedValues(client, prefix=prefix, lease=lease, clock=clock),
            vaults=[Vault(key) for key in given],
            timeout=timeout,
            lease=lease,
            clock=clock,
            rng=random.Random() if rng is None else rng,  # noqa: S311 - spreads load, guards nothing
        )

    def share(self, credentials: CredentialsType = None, *, identity: str) -> TokenSource:
        """Return credentials for `connect` whose tokens are those of the store.

        Processes share a token where the identity's name, the audience and what is known of the credentials
        are equal: their type, scopes, quota project, and account. The account of a key file, of an
        impersonation, of a login and of this machine are known.

        What is *not* known: whom a function of yours (`token_source`), a source, a supplier or a credential
        class of yours speaks for; the workload behind an external account without impersonation; the pod
        where GKE gives pods no account of their own. For these the name alone decides: with one name for two
        identities, each may call with the other's token.

        A login without a refresh token, and a class of google-auth's that this package does not know, are
        refused with a `ConfigurationError` when their first token is needed.

        Args:
            credentials: See `connect`.
            identity: A name for whom the tokens identify, the same in all processes, such as the email of
                the service account, or the name of the service that has its own.

        Raises:
            ConfigurationError: An argument cannot be used; `field` names it.
        """
        check_type("identity", identity, str, hint="Name whom the tokens identify.")
        if not identity:
            raise ConfigurationError(
                "the name is empty.", field="identity", hint="Name whom the tokens identify."
            )
        source = as_token_source(credentials)
        parts = source.sources.values() if isinstance(source, SeveralTokensSource) else [source]
        if any(
            isinstance(part, SharedTokens) for part in parts
        ):  # whose tokens they are is known below alone
            raise ConfigurationError(
                "they are shared already.",
                field="credentials",
                hint="Share them once: in a mapping, either each of its credentials or all of it.",
            )
        return SharedTokens(source, identity, self._sharing)


def _check_client(client: object) -> None:
    """Refuse what has no `eval`, and a synchronous client, which would block the event loop."""
    kind = type(client)
    sends = getattr(client, "execute_command", None)
    is_synchronous = sends is not None and not inspect.iscoroutinefunction(sends)
    if not callable(getattr(client, "eval", None)) or isinstance(client, type) or is_synchronous:
        raise ConfigurationError(
            f"expected a client of redis.asyncio, not {kind.__module__}.{kind.__name__}.",
            field="client",
            hint="Pass redis.asyncio.Redis(...), or redis.asyncio.Redis.from_url(...).",
        )


def _check_lease(lease: float) -> None:
    check_seconds("lease", lease)
    if not _SHORTEST_LEASE <= lease <= _LONGEST_LEASE:
        raise ConfigurationError(
            f"{lease!r} is not within {_SHORTEST_LEASE} and {_LONGEST_LEASE} seconds.",
            field="lease",
            hint="Leave it out, or pass somewhat more than a token request takes.",
        )


def _check_clock(clock: object) -> None:
    """Refuse what cannot be awaited, such as the module `time`."""
    if clock is not None and not inspect.iscoroutinefunction(getattr(clock, "sleep", None)):
        raise ConfigurationError(
            f"expected a Clock, not {type(clock).__name__}.",
            field="clock",
            hint="Leave it out, or pass an object with time(), monotonic() and a coroutine method sleep().",
        )
