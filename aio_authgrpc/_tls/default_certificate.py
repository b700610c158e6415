"""The application default client certificate, found where AIP-4114 and google-auth look for it.

google-auth connects without a certificate where a configuration names a missing file, and waits for ever
for a provider command. Here each is an error. google-auth's own look-up is private, and differs between
the versions that this package supports.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from google.auth.exceptions import ClientCertError

from aio_authgrpc._checks.secrets import is_secret
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._loop.processes import MAX_OUTPUT_BYTES, CutOffError, KillableProcess
from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc._tls.certificates import CertificatePair, check_whole, checked_pair, problem, read_file
from aio_authgrpc.errors import ClientCertificateError

_USE_VARIABLES = ("GOOGLE_API_USE_CLIENT_CERTIFICATE", "CLOUDSDK_CONTEXT_AWARE_USE_CLIENT_CERTIFICATE")
_CONFIG_VARIABLES = ("GOOGLE_API_CERTIFICATE_CONFIG", "CLOUDSDK_CONTEXT_AWARE_CERTIFICATE_CONFIG_FILE_PATH")
_CONTEXT_AWARE_METADATA = "~/.secureConnect/context_aware_metadata.json"
# GKE mounts a workload's certificates and key in one file.
_GKE_BUNDLE = Path("/var/run/secrets/workload-spiffe-credentials/x509.credential-bundle.private-key.pem")
# Patterns are compiled at their first use, not at import.
_CERTIFICATE = rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\r?\n?"
_KEY = rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----\r?\n?"


def use_client_certificates() -> bool | None:
    """Return the environment's setting: True for "true", None if unset, False for anything else."""
    value = next(filter(None, map(os.environ.get, _USE_VARIABLES)), None)
    return None if value is None else value.lower() == "true"


async def default_certificate(timeout: float, *, files_only: bool) -> DefaultCertificate | None:
    """Look for the certificate in a worker thread. Cancelling it kills the provider command.

    With `files_only` it runs no device's provider command.
    """
    lookup = DefaultCertificateLookup(files_only=files_only)
    try:
        async with asyncio.timeout(timeout):
            return await run_in_thread(lookup.run)
    except TimeoutError as error:
        raise ClientCertificateError(
            f"reading its files, or the provider command, took more than {timeout:g} s.",
            field="client certificate",
        ) from error
    finally:
        lookup.cut_off()


class DefaultCertificate(NotPickled):
    """The certificate of this workload, in files that are cheap to read again, or of a device."""

    __slots__ = ("in_files", "pair")

    def __init__(self, pair: CertificatePair, *, in_files: bool) -> None:
        self.pair = pair
        self.in_files = in_files


class DefaultCertificateLookup:
    """One look-up. It blocks in a worker thread until another cuts it off."""

    def __init__(
        self,
        *,
        gke_bundle: Path = _GKE_BUNDLE,
        files_only: bool = False,
        start: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
    ) -> None:
        self._gke_bundle = gke_bundle
        self._files_only = files_only
        self._command = KillableProcess(start)
        self._variable = ""  # that named the configuration which is being read

    def run(self) -> DefaultCertificate | None:
        """Return the certificate; None if there is none, or the environment forbids it."""
        try:
            return self._find()
        except Exception as error:
            raise ClientCertificateError(
                f"the client certificate of this workload or device cannot be used: {problem(error)}",
                field=self._variable or "client certificate",
                hint="Set GOOGLE_API_USE_CLIENT_CERTIFICATE=false to connect without it.",
            ) from error

    def cut_off(self) -> None:
        """Kill the provider command if it runs, and never start it after this. Does not block."""
        self._command.cut_off()

    def _find(self) -> DefaultCertificate | None:
        wanted = use_client_certificates()
        if wanted is False:
            return None
        workload = self._workload(wanted=wanted is True)
        if workload is not None:
            return DefaultCertificate(workload, in_files=True)
        metadata = _expanded(_CONTEXT_AWARE_METADATA)
        if self._files_only or wanted is None or not _is_there(metadata, wanted=wanted):
            return None
        return DefaultCertificate(self._from_command(metadata), in_files=False)

    def _workload(self, *, wanted: bool) -> CertificatePair | None:
        self._variable = next(filter(os.environ.get, _CONFIG_VARIABLES), "")
        named = os.environ.get(self._variable)
        home = _gcloud_directory() / "certificate_config.json"
        config = _expanded(named) if named else home
        if named or _is_there(config, wanted=wanted):
            workload = _workload_of(config)
            self._variable = ""
            if workload is None and wanted and config != home and _is_there(home, wanted=wanted):
                workload = _workload_of(home)
            return workload
        if _is_there(self._gke_bundle, wanted=wanted) and self._gke_bundle.stat().st_size > 0:
            return _pair_from(read_file(self._gke_bundle), str(self._gke_bundle))
        return None

    def _from_command(self, metadata: Path) -> CertificatePair:
        content = _json_object(metadata)
        command = content.get("cert_provider_command")
        words = cast("list[object]", command) if isinstance(command, list) else []
        if not words or not all(isinstance(word, str) for word in words):
            raise ClientCertError(f"{metadata} has no cert_provider_command that is a list of words.")
        output = self._run_command(cast("list[str]", words))
        if b"ENCRYPTED" in output or b"PASSPHRASE" in output:
            raise ClientCertError(f"the provider command of {metadata} returned an encrypted key.")
        return _pair_from(output, f"the output of the provider command of {metadata}")

    def _run_command(self, command: Sequence[str]) -> bytes:
        try:
            ended = self._command.run(command)
        except CutOffError:
            raise ClientCertError("the look-up was cancelled.") from None
        if len(ended.stdout) > MAX_OUTPUT_BYTES:
            raise ClientCertError(f"the provider command printed more than {MAX_OUTPUT_BYTES} bytes.")
        if ended.returncode != 0:
            raise ClientCertError(f"the provider command ended with status {ended.returncode}.")
        return ended.stdout


def _gcloud_directory() -> Path:
    named = os.environ.get("CLOUDSDK_CONFIG")
    if named:
        return _expanded(named)
    if os.name == "nt":
        return Path(os.environ.get("APPDATA", "C:/")) / "gcloud"
    return _expanded("~/.config/gcloud")


def _expanded(path: str) -> Path:
    """Expand `~`; without a home, as in some containers, the path stays as it is and names no file."""
    return Path(os.path.expanduser(Path(path)))  # noqa: PTH111 - the method raises where there is no home


def _is_there(path: Path, *, wanted: bool) -> bool:
    """Return whether anything is there, a file or not.

    Where a certificate is wanted, a directory without permission is an error; else it counts as empty.
    """
    try:
        path.stat()
    except OSError as error:
        if wanted and isinstance(error, PermissionError):
            raise
        return False
    return True


def _json_object(path: Path) -> dict[str, object]:
    try:
        content: object = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise ClientCertError(f"{path} is not JSON.") from error
    if not isinstance(content, dict):
        raise ClientCertError(f"{path} holds no JSON object.")
    return cast("dict[str, object]", content)


def _workload_of(config: Path) -> CertificatePair | None:
    configs = _json_object(config).get("cert_configs")
    if not isinstance(configs, dict):
        raise ClientCertError(f"{config} has no cert_configs.")
    kinds = cast("dict[str, object]", configs)
    if "workload" not in kinds:
        return None
    paths = kinds["workload"]
    fields = cast("dict[str, object]", paths) if isinstance(paths, dict) else {}
    cert_path, key_path = fields.get("cert_path"), fields.get("key_path")
    if not (isinstance(cert_path, str) and cert_path and isinstance(key_path, str) and key_path):
        raise ClientCertError(f"{config} has a workload without cert_path or key_path.")
    if is_secret(cert_path) or is_secret(key_path):
        raise ClientCertError(f"{config} has a secret in the place of cert_path or key_path.")
    return checked_pair(read_file(Path(cert_path)), read_file(Path(key_path)), cert_path, key_path)


def _pair_from(text: bytes, name: str) -> CertificatePair:
    check_whole(text, name)
    chain, keys = b"".join(re.findall(_CERTIFICATE, text, re.DOTALL)), re.findall(_KEY, text, re.DOTALL)
    if not chain or len(keys) != 1:
        raise ClientCertError(f"{name} does not hold certificates and one private key as PEM.")
    return checked_pair(chain, keys[0], name, name)
