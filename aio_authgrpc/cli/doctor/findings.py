"""What the doctor finds: its steps, and the fault that they lead to."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aio_authgrpc._client.target import Target
from aio_authgrpc.cli.options import CallIdentityOptions, ConnectionOptions, CredentialOptions, IdentityKind


class State(StrEnum):
    """How a step ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, looked at.

    Attributes:
        name: Its name.
        state: How it ended.
        text: What was seen.
        facts: The same for programs.
    """

    name: str
    state: State
    text: str
    facts: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose credential it is.

    Attributes:
        kind: The type of the credential, such as `service_account`; empty without one.
        email: The email of a service account; empty where it is not known.
    """

    kind: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The one cause, and the one thing to do next.

    Attributes:
        name: A name for programs, such as `certificate-expired`.
        cause: What is wrong, in a sentence.
        next_step: What to type.
    """

    name: str
    cause: str
    next_step: str


class FaultError(Exception):
    """A step has failed: no later one can succeed.

    Args:
        fault: Why.
        text: What was seen; None means the cause.
        facts: The same for programs.
    """

    def __init__(self, fault: Fault, text: str | None = None, **facts: object) -> None:
        super().__init__(fault.cause)
        self.fault = fault
        self.text = fault.cause if text is None else text
        self.facts = facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who is examined, and with what.

    Attributes:
        target: As it was typed.
        dialled: The target, parsed.
        named: The same under the name of `--authority`.
        method: The method of the RPC; empty for the health check.
        timeout: Seconds for each step.
        credential: Options of the command.
        identity: Options of the command.
        connection: Options of the command.
    """

    target: str
    dialled: Target
    named: Target
    method: str
    timeout: float
    credential: CredentialOptions
    identity: CallIdentityOptions
    connection: ConnectionOptions

    @property
    def address(self) -> tuple[str, int] | None:
        """The host and port to dial; None for a socket file and for names that gRPC alone resolves."""
        return host_and_port(self.dialled.address)

    @property
    def server_name(self) -> str:
        """The name in the server's certificate."""
        known = host_and_port(self.named.address)
        return "" if known is None else known[0]

    def again(self, *more: str, without: Sequence[str] = ()) -> str:
        """Return the command once more, with other options."""
        return self._command("doctor", more, without)

    def call(self, *more: str) -> str:
        """Return a `call` of the same target with the same identity, which lists what can be called."""
        return self._command("call", more, ())

    def _command(self, command: str, more: Sequence[str], without: Sequence[str]) -> str:
        options = {
            "--plaintext": self.connection.plaintext,
            "--root-certificates": self.connection.root_certificates,
            "--client-certificate": self.connection.client_certificate,
            "--client-key": self.connection.client_key,
            "--authority": self.connection.authority,
            "--credentials": self.credential.credentials,
            "--audience": self.credential.audience,
            "--impersonate": self.credential.impersonate,
            "--scopes": ",".join(self.credential.scope_list),
            "--identity": None if self.identity.identity is IdentityKind.AUTO else self.identity.identity,
            "--token-file": self.identity.token_file,
            "--token-header": self.identity.token_header,
            "--quota-project": self.identity.quota_project,
        }
        words = ["aio-authgrpc", command, self.target]
        if command == "doctor" and self.method:
            words.append(self.method)
        for name, value in options.items():
            if value and name not in (*without, *more):
                words += [name] if value is True else [name, str(value)]
        return shlex.join([*words, *more])


def host_and_port(address: str) -> tuple[str, int] | None:
    """Return the host and port of a parsed target; None where it is another kind of name."""
    scheme = address.partition(":")[0]
    if scheme in ("unix", "unix-abstract", "xds", "ipv4", "ipv6"):
        return None
    host, _, port = address.removeprefix("dns:").rpartition("/")[2].rpartition(":")
    return host.strip("[]"), int(port)


@dataclass(slots=True, kw_only=True)
class Report:
    """Everything that was found.

    Attributes:
        target: Who was examined.
        steps: In order.
        fault: The cause; None where none was found.
        remark: What to know where none was found; may be empty.
    """

    target: str
    steps: list[Step] = field(default_factory=list[Step])
    fault: Fault | None = None
    remark: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        fault = self.fault
        return {
            "target": self.target,
            "healthy": fault is None,
            "fault": None if fault is None else fault.name,
            "cause": None if fault is None else fault.cause,
            "next_step": None if fault is None else fault.next_step,
            "remark": self.remark,
            "steps": [
                {"name": step.name, "state": step.state.value, "text": step.text, **step.facts}
                for step in self.steps
            ],
        }
