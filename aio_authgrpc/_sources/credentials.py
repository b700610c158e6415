"""What `credentials=` takes, and the token source that each of it becomes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakKeyDictionary

from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._sources import google_auth
from aio_authgrpc._sources.google_auth import GOOGLE_AUTH, GOOGLE_AUTH_AIO
from aio_authgrpc._sources.google_auth_gaps import is_of
from aio_authgrpc._sources.static import FixedTokenSource, anonymous
from aio_authgrpc._tokens.metadata import checked_header
from aio_authgrpc._tokens.source import (
    CacheKey,
    HoldingTokenSource,
    LoadableTokenSource,
    TokenRequest,
    TokenSource,
    age_of,
    cache_key,
    fetch_from,
)
from aio_authgrpc._tokens.token import ANONYMOUS, Token
from aio_authgrpc.errors import ConfigurationError

T = TypeVar("T")

# Seconds that a failure waits for the other fetches before it cancels them: the answer to what they have
# sent may hold the only refresh token that is still good.
_COMING_HOME = 2.0

if TYPE_CHECKING:
    from google.auth.aio.credentials import Credentials as AioCredentials
    from google.auth.credentials import Credentials

    CredentialsType = (
        Credentials
        | AioCredentials
        | TokenSource
        | Mapping[str, Credentials | AioCredentials | TokenSource]
        | None
    )
    """What `credentials=` takes: a google-auth credential, also of google.auth.aio, a source, a mapping
    from headers to several of them, or None."""
else:
    # Importing those classes for an annotation would take a sixth of this package's own import time.
    CredentialsType = object


def as_token_source(credentials: CredentialsType) -> TokenSource:
    given: Any = credentials
    if given is None:
        from aio_authgrpc._sources.default import default  # noqa: PLC0415 - an eighth of the package's import

        return default()
    if any(is_of(given, module, "AnonymousCredentials") for module in (GOOGLE_AUTH, GOOGLE_AUTH_AIO)):
        return anonymous()
    if is_of(given, GOOGLE_AUTH):
        return google_auth.GoogleCredentialsSource(given)
    if is_of(given, GOOGLE_AUTH_AIO):
        return google_auth.GoogleAioCredentialsSource(given)
    if isinstance(given, TokenSource) and not isinstance(given, type):
        return given
    if isinstance(given, Mapping) and given and not _is_content(credentials):
        return _several(cast("Mapping[object, object]", given))
    raise _no_credentials(credentials)


def _is_content(given: object) -> bool:
    """Return whether it is a dict that was read from a credential file, and no mapping of headers."""
    names = ("type", "private_key", "refresh_token")
    return isinstance(given, Mapping) and any(
        isinstance(cast("Mapping[object, object]", given).get(name), str) for name in names
    )


def _no_credentials(given: object) -> ConfigurationError:
    """Describe what was passed by its type alone: a str may be a token, and a dict may hold a key."""
    kind = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
    hint = (
        "Use static_token(...) for a token, service_account(...) for a key file, token_source(...) for a "
        "coroutine function, or None for Application Default Credentials."
    )
    if _is_content(given):
        from aio_authgrpc._sources.files.registry import CREDENTIAL_TYPES  # noqa: PLC0415 - for this error alone

        named: object = cast("Mapping[object, object]", given).get("type")
        function = named if named in CREDENTIAL_TYPES else "service_account"
        kind = f"a {kind} with the content of a credential file"
        hint = f"Pass {function}(...) of it, or default() to look for one."
    elif inspect.isfunction(given):
        kind = f"the function {given.__name__}"
        hint = "Call it, or pass token_source(...) of a coroutine function of yours."
    return ConfigurationError(
        f"expected a google-auth credential or a TokenSource, not {kind}.", field="credentials", hint=hint
    )


def _several(given: Mapping[object, object]) -> SeveralTokensSource:
    sources: dict[str, TokenSource] = {}
    for name, credentials in given.items():
        header = checked_header(cast("str", name), "credentials")
        if header in sources:
            raise ConfigurationError(
                f"the header {header!r} is given twice.", field="credentials", hint="Leave one of them out."
            )
        if credentials is None or isinstance(credentials, Mapping):
            raise ConfigurationError(
                f"expected one credential for {header!r}, not None or another mapping.",
                field="credentials",
                hint="Pass default() for Application Default Credentials.",
            )
        sources[header] = as_token_source(cast("CredentialsType", credentials))
    return SeveralTokensSource(sources)


class SeveralTokensSource(NotPickled):
    """Fetches a token for each header, all at the same time, and combines them; the first is the main one."""

    def __init__(self, sources: Mapping[str, TokenSource]) -> None:
        self.sources = dict(sources)
        self.header, *others = self.sources
        self.other_headers = frozenset(others)
        self._issued_at: WeakKeyDictionary[Token, float] = WeakKeyDictionary()

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of the tokens; the sources' own audience where they agree on one."""
        shared = {cache_key(source, audience).audience for source in self.sources.values()}
        return CacheKey(self, shared.pop() if len(shared) == 1 else audience)

    async def load(self, request: TokenRequest) -> None:
        for source in self.sources.values():
            if isinstance(source, LoadableTokenSource):
                await source.load(request)

    async def fetch(self, request: TokenRequest) -> Token:
        """Return one token that carries the others as its metadata, and expires with the first of them."""
        tokens: list[Token] = []
        failures: list[Exception] = []
        limit = asyncio.timeout(None)

        async def outcome_of(source: TokenSource) -> Token:
            try:
                return await fetch_from(source, request)
            except Exception as error:  # noqa: BLE001 - raised again when the others have ended
                if not failures:
                    limit.reschedule(asyncio.get_running_loop().time() + _COMING_HOME)
                failures.append(error)
                return ANONYMOUS

        with suppress(TimeoutError):  # of the limit: those of a source are failures
            async with limit:
                tokens = await all_of([outcome_of(source) for source in self.sources.values()])
        if failures:
            raise failures.pop(0)  # not [0]: its traceback holds this frame
        return self._dated(dict(zip(self.sources, tokens, strict=True)), request.time)

    def current_token(self, request: TokenRequest) -> Token | None:
        """Return the token of those that the sources have, where each has one that can be used."""
        tokens: dict[str, Token] = {}
        for header, source in self.sources.items():
            token = source.token if isinstance(source, FixedTokenSource) else None
            if isinstance(source, HoldingTokenSource):
                token = source.current_token(request)
            if token is None:
                return None
            tokens[header] = token
        return combined(tokens)

    def age_of(self, token: Token, now: float) -> float:
        """Return the seconds since the oldest part of a token was issued."""
        return max(0.0, now - self._issued_at.get(token, now))

    def _dated(self, tokens: Mapping[str, Token], now: float) -> Token:
        made = combined(tokens)
        age = max(age_of(self.sources[header], token, now) for header, token in tokens.items())
        if age:
            self._issued_at.pop(made, None)  # of an equal token: the key would vanish with that one
            self._issued_at[made] = now - age
        return made

    def __repr__(self) -> str:
        return f"<several tokens: {self.sources!r}>"


async def all_of(coroutines: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """Await all of them at the same time; the first failure cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_alone(waits), name="aio_authgrpc token") for waits in coroutines]
    except BaseExceptionGroup as failures:
        error = failures.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise error  # outside of the handler, so that the group is not its context


async def _alone(coroutine: Coroutine[None, None, T]) -> T:
    """Await it. `sys.exit()` fails it alone, and would end the application's loop where it ends a task."""
    try:
        return await coroutine
    except SystemExit as error:
        raise RuntimeError("the source called sys.exit().") from error


def combined(tokens: Mapping[str, Token]) -> Token:
    """Return the first header's token, with the others as its metadata.

    A header of `tokens` gets its own token, even if another token's metadata has that key too.
    """
    header, *_ = tokens
    metadata: dict[str, str] = {}
    for name, token in tokens.items():
        for key, value in token.as_metadata(name):
            if key == name or key not in tokens:
                metadata.setdefault(key, value)  # two tokens may bring one quota project
    first = tokens[header]
    metadata.pop(header, None)
    if not first.value and not metadata:
        return ANONYMOUS
    ends = [token.expires_at for token in tokens.values() if token.expires_at is not None]
    expires_at = min(ends, default=None)
    return Token(first.value, scheme=first.scheme, expires_at=expires_at, metadata=tuple(metadata.items()))
