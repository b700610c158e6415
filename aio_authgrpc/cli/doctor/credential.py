"""The steps `credential` and `token`: whose token, what it says, and whether the clocks agree."""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Mapping

import grpc.aio

from aio_authgrpc import AiohttpRequest, Token, TokenRequest
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.cli.claims import audiences_of, claims_of, lifetime
from aio_authgrpc.cli.console import advice
from aio_authgrpc.cli.doctor.findings import Account, Fault, FaultError, State, Step, Subject
from aio_authgrpc.cli.identity import FILE_OPTION, ChosenIdentity
from aio_authgrpc.cli.options import IdentityKind
from aio_authgrpc.errors import AuthRpcError, ConfigurationError, TokenRefusedError
from aio_authgrpc.tokens import HttpResponse, TokenCache

_FILE_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
# Google's endpoints and Envoy allow a minute.
TOLERATED_SKEW = 60.0
_LOGIN = "gcloud auth application-default login"
_SET_CLOCK = "timedatectl set-ntp true"


class Clocks:
    """How far this machine's clock is from that of the servers that answered.

    Attributes:
        skew: Seconds that the servers are ahead; None before one told its time.
    """

    def __init__(self) -> None:
        self.skew: float | None = None

    def compare(self, headers: Mapping[str, str], *, asked_at: float) -> None:
        """Take the `Date` of a response to a request that was sent at `asked_at`."""
        given = next((value for name, value in headers.items() if name.lower() == "date"), "")
        try:
            date = email.utils.parsedate_to_datetime(given).timestamp()
        except ValueError:
            return
        # In whole seconds, and somewhere between the request and the response.
        now = time.time()
        if date < asked_at - 1:
            self.skew = date + 1 - asked_at
        else:
            self.skew = max(0.0, date - now)

    @property
    def fault(self) -> Fault | None:
        """The fault where the difference is more than a server tolerates."""
        if self.skew is None or abs(self.skew) <= TOLERATED_SKEW:
            return None
        minutes, way = abs(self.skew) / 60, "behind" if self.skew > 0 else "ahead of"
        return Fault(
            name="clock",
            cause=f"This machine's clock is {minutes:.0f} min {way} that of the server: tokens are not yet, "
            "or no longer, valid.",
            next_step=_SET_CLOCK,
        )

    def __str__(self) -> str:
        if self.skew is None:
            return "not compared"
        return f"{abs(self.skew):.0f} s {'behind' if self.skew > 0 else 'ahead'}" if self.skew else "right"


class DatedRequest(AiohttpRequest):
    """An `AiohttpRequest` that compares the clocks at each response."""

    def __init__(self, clocks: Clocks) -> None:
        super().__init__()
        self._clocks = clocks

    async def send(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
        *,
        ssl_context: ssl.SSLContext | bool = True,
    ) -> HttpResponse:
        """Send one request. See `AiohttpRequest.send`."""
        asked_at = time.time()
        response = await super().send(url, method, body, headers, timeout, ssl_context=ssl_context)
        self._clocks.compare(response.headers, asked_at=asked_at)
        return response


async def credential_step(
    subject: Subject, identity: ChosenIdentity, cache: TokenCache, http: AiohttpRequest
) -> tuple[Step, Account]:
    """Find the credential; no token is asked for.

    Raises:
        FaultError: There is none, or it cannot be used.
    """
    kind = identity.kind
    if kind is IdentityKind.NONE and identity.looked_up is None:
        step = Step(name="credential", state=State.SKIPPED, text=f"none: {identity.reason}")
        return step, Account()
    try:
        await cache.load()
    except ConfigurationError as error:
        raise FaultError(_no_credential(subject, identity, error)) from error
    except AuthRpcError as error:
        raise FaultError(_no_token(subject, error, Clocks(), Account())) from error
    explained = identity.looked_up.explain() if identity.looked_up is not None else None
    found = (explained.found if explained is not None else None) or ""
    place = explained.tried[-1][0] if explained is not None and explained.tried else ""
    step = Step(
        name="credential",
        state=State.OK,
        text=f"{found}, of {place}; {_KINDS[kind]} ({identity.reason})",
        facts={"found": found, "place": place, "kind": kind.value},
    )
    return step, Account(kind=found, email=await _email(identity, http))


async def _email(identity: ChosenIdentity, http: AiohttpRequest) -> str:
    if identity.looked_up is None:
        return ""
    request = TokenRequest(http=http, audience="", time=time.time())
    email = getattr(await identity.looked_up.google_credentials(request), "service_account_email", "")
    return str(email or "")


_KINDS = {
    IdentityKind.ID: "an ID token",
    IdentityKind.ACCESS: "an access token",
    IdentityKind.NONE: "no token",
    IdentityKind.AUTO: "no token",
}


def _no_credential(subject: Subject, identity: ChosenIdentity, error: ConfigurationError) -> Fault:
    tried = list(identity.looked_up.explain().tried if identity.looked_up is not None else ())
    last, outcome = tried[-1] if tried else ("", "")
    if outcome.startswith("cannot be used") or outcome == "holds content instead of a path":
        place = last.removeprefix(f"{_FILE_VARIABLE}=").removeprefix(f"{FILE_OPTION}=")
        place = place.removeprefix("gcloud's ")
        return Fault(
            name="malformed-credentials",
            cause=redacted(f"The credential file cannot be used: {error}"),
            next_step=f"aio-authgrpc explain --credentials {place}",
        )
    if identity.looked_up is not None and identity.looked_up.explain().found is not None:
        return _wrong_kind(subject, str(error))
    places = "; ".join(f"{place}: {found}" for place, found in tried)
    cause = f"No credentials were found. {places}." if places else str(error)
    return Fault(name="no-credentials", cause=redacted(cause), next_step=_LOGIN)


def _wrong_kind(subject: Subject, text: str) -> Fault:
    return Fault(
        name="user-credential",
        cause=redacted(f"This credential has no ID token for the server: {text}"),
        next_step=subject.again("--impersonate", "SERVICE_ACCOUNT_EMAIL"),
    )


async def token_step(
    subject: Subject, cache: TokenCache, clocks: Clocks, account: Account
) -> tuple[Step, Token]:
    """Fetch the token, and compare what it says with the server and the clock.

    Raises:
        FaultError: None could be fetched.
    """
    try:
        token = await cache.get(timeout=max(subject.timeout, 30.0))
    except AuthRpcError as error:
        raise FaultError(_no_token(subject, error, clocks, account)) from error
    if not token.value:
        return Step(name="token", state=State.SKIPPED, text="none is sent"), token
    claims = claims_of(token.value)
    facts: dict[str, object] = {"clock": str(clocks)}
    parts = ["opaque" if claims is None else _told(claims, facts)]
    if token.expires_at is not None:
        parts.append(lifetime(token.expires_at - time.time()))
    parts.append(f"clock {clocks}")
    state = State.OK
    if claims is not None and "scope" not in claims and not _is_for(claims, subject):
        state = State.WARNING
        parts.insert(1, f"the server is {subject.named.audience}")
    if clocks.fault is not None:
        state = State.WARNING
    return Step(name="token", state=state, text=", ".join(parts), facts=facts), token


def _told(claims: Mapping[str, object], facts: dict[str, object]) -> str:
    shown = {name: claims[name] for name in ("iss", "aud", "email", "sub", "scope", "exp") if name in claims}
    facts["claims"] = shown
    who = claims.get("email") or claims.get("sub") or "nobody"
    return f"of {who} for {', '.join(audiences_of(claims)) or 'no audience'}"


def _is_for(claims: Mapping[str, object], subject: Subject) -> bool:
    return any(
        audience.partition("://")[2].rstrip("/").partition(":")[0] in ("", subject.server_name)
        for audience in audiences_of(claims)
    )


# What the token endpoint says, and what it means.
_LIST_KEYS = "gcloud iam service-accounts keys list --iam-account SERVICE_ACCOUNT_EMAIL"
_REFUSALS = {
    "iat and exp": ("clock", "this machine's clock is wrong", _SET_CLOCK),
    "expired or revoked": ("login-ended", "the login has ended", _LOGIN),
    "Invalid JWT Signature": ("key-refused", "the key was deleted or disabled, or has expired", _LIST_KEYS),
    "account not found": ("key-refused", "the account was deleted or disabled", _LIST_KEYS),
}


def _no_token(subject: Subject, error: grpc.aio.AioRpcError, clocks: Clocks, account: Account) -> Fault:
    if clocks.fault is not None:
        return clocks.fault
    details = redacted(error.details() or "")
    if not isinstance(error, TokenRefusedError):
        step = "curl -sv -o /dev/null https://oauth2.googleapis.com/token"
        return Fault(name="token-endpoint", cause=details, next_step=step)
    if "ID token" in details and "login" in details:
        return _wrong_kind(subject, details)
    default = ("token-refused", " ".join(advice(error)) or "it will be refused again", "aio-authgrpc explain")
    name, meaning, step = next((known for words, known in _REFUSALS.items() if words in details), default)
    step = step.replace("SERVICE_ACCOUNT_EMAIL", account.email or "SERVICE_ACCOUNT_EMAIL")
    return Fault(name=name, cause=f"{details.rstrip('.')}: {meaning}.".replace("..", "."), next_step=step)
