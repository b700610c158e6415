"""Client certificates and root certificates: from files, bytes and functions, and what is wrong with them."""

from __future__ import annotations

import asyncio
import pickle
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate
from google.auth.exceptions import MalformedError, MutualTLSChannelError

from aio_authgrpc import (
    AuthGrpcError,
    ConfigurationError,
    SslCredentials,
    client_certificate_files,
    connect,
    secure_authorized_channel,
    static_token,
)
from aio_authgrpc.errors import ClientCertificateError, TlsArgumentsError
from aio_authgrpc.testing import EchoServer, EchoStub

TOKEN = static_token("abc")


def encrypted(key: bytes, passphrase: bytes) -> bytes:
    loaded = serialization.load_pem_private_key(key, None)
    encryption = serialization.BestAvailableEncryption(passphrase)
    return loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


async def names_seen(server: EchoServer, callback: Any, **arguments: Any) -> tuple[str, ...]:
    """Call the server, which demands a certificate; return whose it saw."""
    async with connect(
        server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=SslCredentials(root_certificates=server.ca_pem, client_certificate=callback),
        **arguments,
    ) as stub:
        await stub.UnaryUnary(b"x", timeout=10)
    return server.calls[-1].client_names


# Where they come from


async def test_two_files_are_the_clients_certificate(client_files: Any) -> None:
    """A path to each; the server that demands one lets the call in."""
    callback = client_certificate_files(client_files.cert, str(client_files.key))
    assert await names_seen(client_files.server, callback) == ("first@example.com",)


async def test_one_file_may_hold_both(client_files: Any) -> None:
    """As SPIFFE helpers and HAProxy write it."""
    both = client_files.directory / "both.pem"
    both.write_bytes(client_files.cert.read_bytes() + client_files.key.read_bytes())
    assert await names_seen(client_files.server, client_certificate_files(both)) == ("first@example.com",)


@pytest.mark.parametrize("passphrase", ["open sesame", b"open sesame"])
async def test_an_encrypted_key_is_opened_with_its_passphrase(client_files: Any, passphrase: Any) -> None:
    """As text or bytes."""
    client_files.key.write_bytes(encrypted(client_files.key.read_bytes(), b"open sesame"))
    callback = client_certificate_files(client_files.cert, client_files.key, passphrase=passphrase)
    assert await names_seen(client_files.server, callback) == ("first@example.com",)


def test_a_passphrase_is_not_needed_for_a_key_in_the_clear(client_files: Any) -> None:
    """So that the key can be replaced by either kind."""
    callback = client_certificate_files(client_files.cert, client_files.key, passphrase="not used")
    assert b"PRIVATE KEY" in callback()[1]


def test_an_encrypted_key_that_has_not_changed_is_not_opened_again(client_files: Any) -> None:
    """It would hold the loop for tenths of a second; a new one is."""
    encrypt(client_files)
    callback = client_certificate_files(client_files.cert, client_files.key, passphrase="open sesame")
    first = callback()
    assert callback() is first
    client_files.issue("second@example.com")
    assert callback() != first


@pytest.mark.parametrize("length", [3, 10, 20, 100, -20, -3])
def test_a_chain_that_is_half_written_is_refused(client_files: Any, length: int) -> None:
    """Wherever it was cut off: servers would miss the intermediate certificate."""
    whole = client_files.cert.read_bytes().strip()
    client_files.cert.write_bytes(whole + b"\n" + whole[:length])
    with pytest.raises(ClientCertificateError, match=r"client\.pem holds part of a PEM block"):
        client_certificate_files(client_files.cert, client_files.key)()


def test_a_path_that_is_none_is_named() -> None:
    """As every file that cannot be read."""
    with pytest.raises(ClientCertificateError, match=r"'cert\\x00\.pem' is not a path"):
        client_certificate_files("cert\0.pem")()


async def test_a_large_file_of_root_certificates_is_used_to_its_end(
    echo_server: EchoServer, tmp_path: Path
) -> None:
    """The authority may stand after the first MiB."""
    path = tmp_path / "ca.pem"
    path.write_bytes(b"# a comment\n" * 100_000 + echo_server.ca_pem)
    roots = SslCredentials(root_certificates=path)
    async with connect(echo_server.target, EchoStub, credentials=TOKEN, ssl_credentials=roots) as stub:
        assert await stub.UnaryUnary(b"x", timeout=10) == b"x"


async def test_a_plain_function_runs_off_the_loop_and_a_coroutine_function_on_it(client_files: Any) -> None:
    """A coroutine function, and an object with an async __call__, are awaited where the loop runs."""
    pair = (client_files.cert.read_bytes(), client_files.key.read_bytes())
    threads: list[threading.Thread] = []

    def plain() -> tuple[bytes, bytes]:
        threads.append(threading.current_thread())
        return pair

    async def coroutine() -> tuple[bytes, bytes]:
        return plain()

    class Callback:
        async def __call__(self) -> tuple[bytes, bytes]:
            return plain()

    for callback in (plain, coroutine, Callback()):
        assert await names_seen(client_files.server, callback) == ("first@example.com",)
    loops = [thread is threading.main_thread() for thread in threads]
    assert loops == [False, True, True]


@pytest.mark.parametrize("given", [Path, str, lambda path: path.read_bytes()], ids=["Path", "str", "bytes"])
async def test_root_certificates_are_a_path_or_bytes(
    echo_server: EchoServer, tmp_path: Path, given: Callable[[Path], Any]
) -> None:
    """Text around the certificates, in whatever encoding, is left alone."""
    path = tmp_path / "ca.pem"
    path.write_bytes("# Zertifizierungsstelle für Tests\n".encode("latin-1") + echo_server.ca_pem)
    roots = SslCredentials(root_certificates=given(path))
    async with connect(echo_server.target, EchoStub, credentials=TOKEN, ssl_credentials=roots) as stub:
        assert await stub.UnaryUnary(b"x", timeout=10) == b"x"


async def test_the_seeds_function_takes_root_certificates_too(client_files: Any) -> None:
    """Beside a client certificate, for mutual TLS with an authority of one's own."""
    server = client_files.server
    both = SslCredentials(
        client_certificate=client_certificate_files(client_files.cert, client_files.key),
        root_certificates=server.ca_pem,
    )
    async with secure_authorized_channel(TOKEN, None, server.target, ssl_credentials=both) as channel:
        assert await EchoStub(channel).UnaryUnary(b"x", timeout=10) == b"x"


@pytest.mark.parametrize("value", ["false", "no"])
async def test_the_environment_can_forbid_a_client_certificate(
    echo_server: EchoServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """As in google-auth the callback is not called then; here the log says so."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", value)
    assert await names_seen(echo_server, lambda: pytest.fail("it was called")) == ()
    assert "GOOGLE_API_USE_CLIENT_CERTIFICATE forbids" in caplog.text


async def test_opening_that_is_cancelled_while_a_callback_runs_leaves_nothing() -> None:
    """The task is cancelled at once; nothing is open and no task is left."""
    asked, ended = asyncio.Event(), asyncio.Event()

    async def callback() -> tuple[bytes, bytes]:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    opening = asyncio.ensure_future(
        secure_authorized_channel(TOKEN, None, "host", client_cert_callback=callback).__aenter__()
    )
    await asked.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert ended.is_set()


# What is wrong with them


def swap_keys(files: Any) -> None:
    files.key.write_bytes(files.server.issue_client_certificate()[1])


def encrypt(files: Any) -> None:
    files.key.write_bytes(encrypted(files.key.read_bytes(), b"open sesame"))


def half_chain(files: Any) -> None:
    chain = files.cert.read_bytes()
    files.cert.write_bytes(chain + chain[: len(chain) // 2])


def bad_chain(files: Any) -> None:
    block = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    files.cert.write_bytes(files.cert.read_bytes() + block)


def odd_version(files: Any) -> None:
    der = ssl.PEM_cert_to_DER_cert(files.cert.read_text())
    files.cert.write_text(
        ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1))
    )


def two_keys(files: Any) -> None:
    files.key.write_bytes(files.key.read_bytes() * 2)


def pkcs12(files: Any) -> None:
    pem = files.cert.read_bytes()
    key: Any = serialization.load_pem_private_key(files.key.read_bytes(), None)
    certificate, encryption = load_pem_x509_certificate(pem), serialization.NoEncryption()
    files.cert.write_bytes(serialize_key_and_certificates(b"client", key, certificate, None, encryption))


def der(files: Any) -> None:
    files.cert.write_bytes(ssl.PEM_cert_to_DER_cert(files.cert.read_text()))


def der_key(files: Any) -> None:
    files.key.write_bytes(ssl.PEM_cert_to_DER_cert(files.cert.read_text()))


def large(files: Any) -> None:
    files.cert.write_bytes(files.cert.read_bytes() + b"\n" * 1024 * 1024)


BAD_FILES = [
    pytest.param(lambda files: files.cert.unlink(), "client.pem cannot be read", id="no-certificate"),
    pytest.param(lambda files: files.key.unlink(), "client.key cannot be read", id="no-key"),
    pytest.param(lambda files: files.cert.write_bytes(b""), "client.pem is empty", id="empty-certificate"),
    pytest.param(lambda files: files.key.write_bytes(b"\n"), "client.key is empty", id="empty-key"),
    pytest.param(
        lambda files: files.cert.write_bytes(b"PEM"), "client.pem holds no certificate", id="no-pem"
    ),
    pytest.param(
        lambda files: files.key.write_bytes(b"PEM"), "client.key .* no private key", id="no-pem-key"
    ),
    pytest.param(half_chain, "client.pem holds part of a PEM block", id="half-chain"),
    pytest.param(bad_chain, "client.pem holds a certificate that cannot be read", id="bad-chain"),
    pytest.param(odd_version, "client.pem holds a certificate that cannot be read", id="odd-version"),
    pytest.param(two_keys, "client.key holds more than one private key", id="two-keys"),
    pytest.param(pkcs12, "client.pem is in PKCS12 form, not in PEM", id="pkcs12"),
    pytest.param(der, "client.pem is in DER form, not in PEM", id="der"),
    pytest.param(der_key, "client.key is in DER form, not in PEM", id="der-key"),
    pytest.param(large, "client.pem is larger than 1 MiB", id="large"),
    pytest.param(swap_keys, "client.key is not the key of .*client.pem", id="another-key"),
    pytest.param(encrypt, r"client\.key is encrypted\. Pass client_certificate_files", id="encrypted"),
    pytest.param(
        lambda files: (files.cert.unlink(), files.cert.mkdir()), "client.pem is not a regular", id="directory"
    ),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_FILES)
async def test_files_that_cannot_be_used_are_named(
    client_files: Any, spoil: Callable[[Any], None], message: str, listener: Any
) -> None:
    """On opening, as google-auth's error and ours, with the cause; the server sees no byte."""
    spoil(client_files)
    callback = client_certificate_files(client_files.cert, client_files.key)
    tls = SslCredentials(client_certificate=callback)
    with pytest.raises(MutualTLSChannelError, match=message) as caught:
        async with connect(listener.target, EchoStub, credentials=TOKEN, ssl_credentials=tls):
            pytest.fail("it was opened")
    assert isinstance(caught.value, ClientCertificateError)
    assert caught.value.__cause__ is not None
    assert listener.connections == 0


@pytest.mark.parametrize(
    ("spoil", "hint"),
    [
        pytest.param(lambda files: files.cert.unlink(), "Check the path", id="missing"),
        pytest.param(pkcs12, "openssl pkcs12", id="pkcs12"),
        pytest.param(encrypt, "passphrase=...", id="encrypted"),
        pytest.param(swap_keys, "the key that the certificate was issued for", id="another-key"),
    ],
)
def test_advice_about_a_file_is_in_the_hint(
    client_files: Any, spoil: Callable[[Any], None], hint: str
) -> None:
    """As for every other error."""
    spoil(client_files)
    with pytest.raises(ClientCertificateError) as caught:
        client_certificate_files(client_files.cert, client_files.key)()
    assert hint in caught.value.hint


async def test_authorities_in_another_form_are_told_from_a_damaged_file(
    echo_server: EchoServer, tmp_path: Path
) -> None:
    """Browsers export certificates as DER."""
    path = tmp_path / "ca.der"
    path.write_bytes(ssl.PEM_cert_to_DER_cert(echo_server.ca_pem.decode()))
    with pytest.raises(ConfigurationError, match=r"ca\.der is in DER form") as caught:
        await SslCredentials(root_certificates=path)
    assert caught.value.hint


def test_a_wrong_passphrase_is_said_and_not_shown(client_files: Any) -> None:
    """The file is named."""
    encrypt(client_files)
    callback = client_certificate_files(client_files.cert, client_files.key, passphrase="close sesame")
    with pytest.raises(ClientCertificateError, match=r"client\.key .* passphrase does not open") as caught:
        callback()
    assert "sesame" not in repr(callback) + str(caught.value) + repr(caught.value.__cause__)


def test_certificate_files_have_no_dictionary(client_files: Any) -> None:
    """Error reporters show the `vars()` of an object; there the passphrase and the key would stand."""
    encrypt(client_files)
    callback = client_certificate_files(client_files.cert, client_files.key, passphrase="open sesame")
    callback()
    assert not hasattr(callback, "__dict__")


def test_certificate_files_are_not_pickled(client_files: Any) -> None:
    """The passphrase would be in the pickle."""
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(client_certificate_files(client_files.cert, passphrase="open sesame"))


def coroutine_that(kind: type[BaseException]) -> Callable[[], Any]:
    async def callback() -> tuple[bytes, bytes]:
        raise kind

    return callback


def fail() -> tuple[bytes, bytes]:
    raise OSError("no such card")


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        pytest.param(fail, "the function raised OSError", id="raises"),
        pytest.param(sys.exit, "the function raised SystemExit", id="exits"),
        pytest.param(coroutine_that(SystemExit), "the function raised SystemExit", id="coroutine-exits"),
        pytest.param(
            coroutine_that(asyncio.CancelledError), "the function raised CancelledError", id="cancelled"
        ),
        pytest.param(lambda: None, "the function must return .* as PEM bytes", id="none"),
        pytest.param(lambda: 5, "the function must return .* as PEM bytes", id="number"),
        pytest.param(lambda: (b"-----BEGIN",), "the function must return .* as PEM bytes", id="one"),
        pytest.param(lambda: (b"", b"", b""), "the function must return .* as PEM bytes", id="three"),
        pytest.param(lambda: ("text", "text"), "the function must return .* as PEM bytes", id="text"),
        pytest.param(
            lambda: (b"no pem", b"no pem"), "the returned certificate holds no certificate", id="no-pem"
        ),
    ],
)
async def test_a_callback_that_gives_no_certificate_is_one_error(callback: Any, message: str) -> None:
    """google-auth's MutualTLSChannelError, on opening, with the cause."""
    with pytest.raises(MutualTLSChannelError, match=f"client_certificate: {message}") as caught:
        await secure_authorized_channel(TOKEN, None, "host", client_cert_callback=callback)
    assert caught.value.__cause__ is not None


async def test_a_callbacks_key_of_another_certificate_is_an_error(client_files: Any) -> None:
    """Every RPC would fail with "Failed to create security handshaker"."""
    swap_keys(client_files)
    pair = (client_files.cert.read_bytes(), client_files.key.read_bytes())
    with pytest.raises(ClientCertificateError, match="is not the key of the returned certificate"):
        await names_seen(client_files.server, lambda: pair)


@pytest.mark.parametrize("blocks", [True, False], ids=["thread", "coroutine"])
async def test_a_callback_that_hangs_is_bounded(blocks: bool) -> None:
    """By the time that one reading may take."""
    release = threading.Event()

    async def wait() -> tuple[bytes, bytes]:
        await asyncio.Event().wait()
        raise AssertionError

    function = (lambda: release.wait(15) or fail()) if blocks else wait
    credentials = SslCredentials(client_certificate=function, timeout=0.05)  # type: ignore[arg-type]  # wait() returns True
    with pytest.raises(ClientCertificateError, match=r"the function took more than 0\.05 s") as caught:
        await credentials.load()
    release.set()
    assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"no pem", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA", "holds part of a PEM block"),
        (b"\n" * (16 * 1024 * 1024 + 1), "is larger than 16 MiB"),
    ],
    ids=["missing", "empty", "no-pem", "half", "large"],
)
async def test_root_certificates_that_cannot_be_used_are_named(
    tmp_path: Path, content: bytes | None, message: str, listener: Any
) -> None:
    """On opening; the server sees no byte."""
    path = tmp_path / "roots.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"roots\.pem {message}") as caught:
        roots = SslCredentials(root_certificates=path)
        async with connect(listener.target, EchoStub, credentials=TOKEN, ssl_credentials=roots):
            pytest.fail("it was opened")
    assert (caught.value.field, listener.connections) == ("root_certificates", 0)


async def test_root_certificates_that_are_a_pipe_do_not_hang(tmp_path: Path) -> None:
    """Opening a pipe waits for its writer."""
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        await SslCredentials(root_certificates=tmp_path / "pipe")


# What excludes each other


@pytest.mark.parametrize("tls", [SslCredentials(), grpc.ssl_channel_credentials()], ids=["ours", "grpc"])
@pytest.mark.parametrize("field", ["plaintext", "ssl_credentials"])
def test_arguments_that_exclude_each_other_are_google_auths_error_too(tls: Any, field: str) -> None:
    """MalformedError, ValueError and ours in one, at the call."""
    with pytest.raises(MalformedError) as caught:
        if field == "plaintext":
            connect("host", EchoStub, credentials=TOKEN, plaintext=True, ssl_credentials=tls)
        else:
            secure_authorized_channel(TOKEN, None, "host", tls, fail)
    assert isinstance(caught.value, TlsArgumentsError)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AuthGrpcError)
    assert caught.value.field == field


@pytest.mark.parametrize("authority", ["", "a b\n", "https://host"])
def test_a_wrong_authority_is_an_error_at_the_call(authority: str) -> None:
    """Before anything is opened; `field` names the argument."""
    with pytest.raises(ConfigurationError) as caught:
        connect("host", EchoStub, credentials=TOKEN, authority=authority)
    assert caught.value.field == "authority"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("root_certificates", "-----BEGIN CERTIFICATE-----"),
        ("root_certificates", 1),
        ("root_certificates", ""),
        ("root_certificates", b""),
        ("client_certificate", "cert.pem"),
        ("refresh_interval", 0),
        ("refresh_interval", float("inf")),
        ("refresh_interval", "1 h"),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", "1"),
        ("timeout", None),
    ],
)
def test_wrong_settings_are_an_error_at_the_call(field: str, value: Any) -> None:
    """Before anything is read; `field` names the argument."""
    with pytest.raises(ConfigurationError) as caught:
        SslCredentials(**{field: value})
    assert caught.value.field == field


def test_the_seeds_callback_is_checked_at_the_call() -> None:
    """By the seed's name for it."""
    with pytest.raises(ConfigurationError, match=r"client_cert_callback: expected a function, not str"):
        secure_authorized_channel(TOKEN, None, "host", client_cert_callback="cert.pem")  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("arguments", [(1,), ("cert", 1)])
def test_paths_are_checked_at_the_call(arguments: tuple[Any, ...]) -> None:
    """And the passphrase with them."""
    with pytest.raises(ConfigurationError, match="_path: expected"):
        client_certificate_files(*arguments)
    with pytest.raises(ConfigurationError, match="passphrase"):
        client_certificate_files("cert", passphrase=1)  # type: ignore[arg-type]  # the mistake
