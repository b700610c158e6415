"""The application default client certificate: where AIP-4114 and google-auth look for it, without their gaps.

google-auth goes on without a certificate where a configuration names a missing file, and waits for ever
for a provider command. Here each is an error. Its own functions for the look-up are private, and differ
between the versions that this package runs with.

Everything here blocks: it is for worker threads.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from google.auth.exceptions import ClientCertError

from aio_authgrpc._tls.pem import CertificatePair, check_whole, checked_pair, problem, read_file
from aio_authgrpc.errors import ClientCertificateError

_USE_VARIABLES = ("GOOGLE_API_USE_CLIENT_CERTIFICATE", "CLOUDSDK_CONTEXT_AWARE_USE_CLIENT_CERTIFICATE")
_CONFIG_VARIABLES = ("GOOGLE_API_CERTIFICATE_CONFIG", "CLOUDSDK_CONTEXT_AWARE_CERTIFICATE_CONFIG_FILE_PATH")
# Certificates and a key have some thousand bytes.
_MAX_OUTPUT_BYTES = 1024 * 1024
# What a process that has ended wrote is in its pipe: reading it takes milliseconds.
_DRAIN_TIMEOUT = 1.0
_CONTEXT_AWARE_METADATA = "~/.secureConnect/context_aware_metadata.json"
# What GKE mounts for a workload: certificates and key in one file.
_GKE_BUNDLE = Path("/var/run/secrets/workload-spiffe-credentials/x509.credential-bundle.private-key.pem")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\r?\n?", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----\r?\n?", re.DOTALL)


def use_client_certificates() -> bool | None:
    """Return what the environment says: True, False (anything but "true"), or None if it says nothing."""
    value = next(filter(None, map(os.environ.get, _USE_VARIABLES)), None)
    return None if value is None else value.lower() == "true"


def use_mtls_endpoint(*, is_mtls: bool) -> bool:
    """Return whether an API's mutual TLS endpoint is to be called: `GOOGLE_API_USE_MTLS_ENDPOINT`.

    Raises:
        ClientCertificateError: The variable is neither "always" nor "never" nor "auto".
    """
    mode = (os.environ.get("GOOGLE_API_USE_MTLS_ENDPOINT") or "auto").strip().lower()
    if mode not in ("always", "never", "auto"):
        cause = ClientCertError(f"{mode!r} is not one of always, never, auto.")
        raise ClientCertificateError(str(cause), field="GOOGLE_API_USE_MTLS_ENDPOINT") from cause
    return is_mtls if mode == "auto" else mode == "always"


@dataclass(frozen=True, kw_only=True, eq=False)
class DefaultCertificate:
    """The certificate of this workload or device.

    Attributes:
        pair: The certificate chain and its key, PEM.
        in_files: Whether it lies in files, which cost nothing to read again, as workloads' do. A device's
            comes from a command.
    """

    pair: CertificatePair
    in_files: bool

    def __repr__(self) -> str:
        return f"<DefaultCertificate, in files: {self.in_files}>"


class DefaultCertificateLookup:
    """One look-up, which another thread can cut off.

    Args:
        gke_bundle: Where GKE puts a workload's certificate and key.
        files_only: Whether to leave a device's provider command alone.
        start: Starts that command, as `subprocess.Popen`.
    """

    def __init__(
        self,
        *,
        gke_bundle: Path = _GKE_BUNDLE,
        files_only: bool = False,
        start: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
    ) -> None:
        self._start = start
        self._gke_bundle = gke_bundle
        self._files_only = files_only
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cut_off = False

    def run(self) -> DefaultCertificate | None:
        """Return what was found, or None where there is nothing, or it is not to be used.

        Raises:
            ClientCertificateError: Something is there and cannot be used; the cause says why.
        """
        try:
            return self._find()
        except Exception as error:
            raise ClientCertificateError(
                f"that of this workload or device cannot be used: {problem(error)}",
                field="client certificate",
                hint="GOOGLE_API_USE_CLIENT_CERTIFICATE=false does without it.",
            ) from error

    def cut_off(self) -> None:
        """Kill the provider command, if it runs, and start none any more."""
        with self._lock:
            self._cut_off = True
            if self._process is not None:
                _kill(self._process)

    def _find(self) -> DefaultCertificate | None:
        wanted = use_client_certificates()
        if wanted is False:
            return None
        workload = self._workload(wanted=wanted is True)
        if workload is not None:
            return DefaultCertificate(pair=workload(), in_files=True)
        metadata = _expanded(_CONTEXT_AWARE_METADATA)
        if self._files_only or wanted is None or not _is_there(metadata, wanted=wanted):
            return None
        return DefaultCertificate(pair=self._from_command(metadata), in_files=False)

    def _workload(self, *, wanted: bool) -> Callable[[], CertificatePair] | None:
        """Return what reads the workload's certificate, or None if it has none."""
        named = next(filter(None, map(os.environ.get, _CONFIG_VARIABLES)), None)
        home = _gcloud_directory() / "certificate_config.json"
        config = _expanded(named) if named else home
        if named or _is_there(config, wanted=wanted):
            workload = _workload_of(config)
            if workload is None and wanted and config != home and _is_there(home, wanted=wanted):
                workload = _workload_of(home)
            return workload
        if _is_there(self._gke_bundle, wanted=wanted) and self._gke_bundle.stat().st_size > 0:
            return lambda: _pair_from(read_file(self._gke_bundle), str(self._gke_bundle))
        return None

    def _from_command(self, metadata: Path) -> CertificatePair:
        content = _json_object(metadata)
        command: object = content.get("cert_provider_command")
        words = cast("list[object]", command) if isinstance(command, list) else []
        if not words or not all(isinstance(word, str) for word in words):
            raise ClientCertError(f"{metadata} has no cert_provider_command that is a list of words.")
        output = self._output_of(cast("list[str]", words))
        if b"ENCRYPTED" in output or b"PASSPHRASE" in output:
            raise ClientCertError(f"the provider command of {metadata} returned an encrypted key.")
        return _pair_from(output, f"what the provider command of {metadata} returned")

    def _output_of(self, command: list[str]) -> bytes:
        if self._cut_off:
            raise ClientCertError("nobody waits for the certificate any more.")
        # Without the lock: starting a program may take as long as its file system does, and cut_off() is
        # called on the loop. A session of its own, so that what it starts can be killed with it.
        process = self._start(
            command,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        output = _Output(process)
        with self._lock:
            self._process = process
            if self._cut_off:
                _kill(process)
        process.wait()  # not for ever: see cut_off()
        text = output.text()
        if output.too_large:
            raise ClientCertError(f"the provider command printed more than {_MAX_OUTPUT_BYTES} bytes.")
        if process.returncode != 0:
            raise ClientCertError(f"the provider command ended with status {process.returncode}.")
        return text


class _Output:
    """What a process prints, read in a thread: what it leaves running may hold its pipe open for ever."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._read = b""
        self._thread = threading.Thread(target=self._run, name="aio_authgrpc output", daemon=True)
        self._thread.start()

    @property
    def too_large(self) -> bool:
        """Whether the process was killed because it printed too much."""
        return len(self._read) > _MAX_OUTPUT_BYTES

    def text(self) -> bytes:
        """Return what a process that has ended has printed."""
        self._thread.join(_DRAIN_TIMEOUT)
        return self._read

    def _run(self) -> None:
        pipe = self._process.stdout
        if pipe is None:
            return
        with pipe:  # closed here, so that nobody else's descriptor is read under its number
            while not self.too_large and (chunk := pipe.read(65536)):
                self._read += chunk
        if self.too_large:
            _kill(self._process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:
        return  # its number may be another process's by now
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _gcloud_directory() -> Path:
    named = os.environ.get("CLOUDSDK_CONFIG")
    if named:
        return _expanded(named)
    if os.name == "nt":
        return Path(os.environ.get("APPDATA", "C:/")) / "gcloud"
    return _expanded("~/.config/gcloud")


def _expanded(path: str) -> Path:
    """Expand `~`; who has no home, as in containers with a user of their own, has no file there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _is_there(path: Path, *, wanted: bool) -> bool:
    """Whether there is anything; what it is shows when it is read.

    Where a certificate is wanted, one that may not be looked at is an error. Elsewhere a directory of
    somebody else's is not for us.
    """
    try:
        path.stat()
    except PermissionError:
        if wanted:
            raise
        return False
    except OSError:
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


def _workload_of(config: Path) -> Callable[[], CertificatePair] | None:
    """Return what reads the workload's files; None where the configuration is of another kind."""
    configs = _json_object(config).get("cert_configs")
    if not isinstance(configs, dict):
        raise ClientCertError(f"{config} has no cert_configs.")
    kinds = cast("dict[str, object]", configs)
    if "workload" not in kinds:
        return None
    paths: object = kinds["workload"]
    fields = cast("dict[str, object]", paths) if isinstance(paths, dict) else {}
    cert_path, key_path = fields.get("cert_path"), fields.get("key_path")
    if not (isinstance(cert_path, str) and cert_path and isinstance(key_path, str) and key_path):
        raise ClientCertError(f"{config} has a workload without cert_path or key_path.")
    return lambda: checked_pair(
        read_file(Path(cert_path)), read_file(Path(key_path)), cert_name=cert_path, key_name=key_path
    )


def _pair_from(text: bytes, name: str) -> CertificatePair:
    """Return the certificates and the one key of a text that holds both."""
    check_whole(text, name)
    chain, keys = b"".join(_CERTIFICATE.findall(text)), _KEY.findall(text)
    if not chain or len(keys) != 1:
        raise ClientCertError(f"{name} does not hold certificates and one private key as PEM.")
    return checked_pair(chain, keys[0], cert_name=name, key_name=name)
