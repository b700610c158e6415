"""One TLS handshake, and the beginning of HTTP/2, byte by byte: what gRPC does not tell."""

from __future__ import annotations

import asyncio
import os
import pkgutil
import ssl
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from aio_authgrpc.cli.doctor.route import Wire
from aio_authgrpc.cli.options import ConnectionOptions

# RFC 9113, 3.4: the client's preface is this text and a SETTINGS frame; the server begins with one, too.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_FRAME_HEAD = 9
_SETTINGS, _GOAWAY = 4, 7

# https://www.iana.org/assignments/tls-parameters: the groups that servers choose today.
_GROUPS = {
    0x0017: "secp256r1",
    0x0018: "secp384r1",
    0x0019: "secp521r1",
    0x001D: "x25519",
    0x001E: "x448",
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
    0x11ED: "SecP384r1MLKEM1024",
}
_HANDSHAKE_RECORD, _SERVER_HELLO, _KEY_SHARE = 22, 2, 51
_CHUNK = 65536


class Begins(Enum):
    """What a server begins with."""

    HTTP2 = auto()
    HTTP1 = auto()
    TLS = auto()
    ENDED = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """A handshake that succeeded.

    Attributes:
        version: Such as `TLSv1.3`.
        alpn: The application protocol; None where none was agreed.
        group: The group of the key exchange; None where it is not known.
        certificate: The server's, DER.
        begins: What came next.
        alert: The server's complaint, which TLS 1.3 sends after the handshake; empty without one.
    """

    version: str
    alpn: str | None
    group: str | None
    certificate: bytes = field(repr=False)
    begins: Begins
    alert: str


def roots(connection: ConnectionOptions) -> bytes:
    """Return the authorities that gRPC trusts, PEM: the option's, the environment's, or its own."""
    named = connection.root_certificates or os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
    if named:
        return Path(named).read_bytes()
    return pkgutil.get_data("grpc._cython", "_credentials/roots.pem") or b""


def context_for(connection: ConnectionOptions, *, verify: bool) -> ssl.SSLContext:
    """Return a context with the client's certificate. Reads files: for a thread."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if verify:
        context.load_verify_locations(cadata=roots(connection).decode("ascii", errors="ignore"))
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if connection.client_certificate is not None:
        context.load_cert_chain(connection.client_certificate, connection.client_key)
    # HTTP/1.1, too: a server without HTTP/2 then says so, in place of ending the handshake.
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


class TlsClient:
    """TLS over a wire, with the server's bytes in view.

    Args:
        wire: The connection.
        context: As of `context_for`.
        server_name: The name that the certificate must have.
    """

    def __init__(self, wire: Wire, context: ssl.SSLContext, server_name: str) -> None:
        self._wire = wire
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._seen = bytearray()

    async def shake_hands(self) -> None:
        """Make the handshake.

        Raises:
            ssl.SSLError: It failed; `SSLEOFError` where the server ended the connection.
        """
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._exchange()
        self._wire.writer.write(self._outgoing.read())

    async def begin(self) -> Handshake:
        """Begin HTTP/2, and return what was seen."""
        self._tls.write(_PREFACE)
        self._wire.writer.write(self._outgoing.read())
        answer, alert = b"", ""
        # A server that chose HTTP/1.1 may wait for more: it is not asked.
        speaks_http2 = self._tls.selected_alpn_protocol() == "h2"
        try:
            while speaks_http2 and len(answer) < _FRAME_HEAD:
                try:
                    answer += self._tls.read(_CHUNK)
                except ssl.SSLWantReadError:
                    await self._exchange()
        except ssl.SSLEOFError:
            pass
        except (ssl.SSLError, OSError) as error:
            alert = _reason(error)
        certificate = self._tls.getpeercert(binary_form=True)
        return Handshake(
            version=self._tls.version() or "TLS",
            alpn=self._tls.selected_alpn_protocol(),
            group=group_of(bytes(self._seen)),
            certificate=certificate or b"",
            begins=beginning(answer),
            alert=alert,
        )

    async def _exchange(self) -> None:
        self._wire.writer.write(self._outgoing.read())
        data = await self._wire.reader.read(_CHUNK)
        if not data:
            raise ssl.SSLEOFError("the server ended the connection")
        if len(self._seen) < _CHUNK:
            self._seen += data
        self._incoming.write(data)


async def begin_plaintext(wire: Wire) -> Begins:
    """Begin HTTP/2 without TLS, and return what the server begins with."""
    wire.writer.write(_PREFACE)
    answer = b""
    try:
        while len(answer) < _FRAME_HEAD and (data := await wire.reader.read(_CHUNK)):
            answer += data
    except OSError:
        pass
    return beginning(answer)


def beginning(answer: bytes) -> Begins:
    """Return what the first bytes of a server are the beginning of."""
    if not answer:
        return Begins.ENDED
    if len(answer) >= _FRAME_HEAD and answer[3] in (_SETTINGS, _GOAWAY) and answer[5:9] == bytes(4):
        return Begins.HTTP2
    if answer.startswith(b"HTTP/"):
        return Begins.HTTP1
    # A record of TLS: an alert, or a handshake.
    return Begins.TLS if answer[0] in (21, 22) and answer[1:2] == b"\x03" else Begins.OTHER


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or type(error).__name__).replace("_", " ").lower()


def group_of(seen: bytes) -> str | None:
    """Return the group of TLS 1.3's key exchange, which the server's first message names in the clear."""
    try:
        return _group_of(seen)
    except IndexError:
        return None


def _group_of(seen: bytes) -> str | None:
    if seen[0] != _HANDSHAKE_RECORD or seen[5] != _SERVER_HELLO:
        return None
    at = 5 + 4 + 2 + 32  # the heads of record and message, the version, the random bytes
    at += 1 + seen[at]  # the session's id
    at += 2 + 1  # the cipher, the compression
    end = at + 2 + int.from_bytes(seen[at : at + 2])
    at += 2
    while at < min(end, len(seen)):
        kind, length = int.from_bytes(seen[at : at + 2]), int.from_bytes(seen[at + 2 : at + 4])
        if kind == _KEY_SHARE:
            number = int.from_bytes(seen[at + 4 : at + 6])
            return _GROUPS.get(number, f"group {number:#06x}")
        at += 4 + length
    return None


async def shaken(wire: Wire, context: ssl.SSLContext, server_name: str, timeout: float) -> Handshake:
    """Make a handshake, begin HTTP/2, and close the wire."""
    client = TlsClient(wire, context, server_name)
    try:
        async with asyncio.timeout(timeout):
            await client.shake_hands()
            return await client.begin()
    finally:
        wire.close()
