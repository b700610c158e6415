"""The steps `tcp` and `tls`: whether a connection can carry gRPC, and whose it is."""

from __future__ import annotations

import asyncio
import datetime
import shlex
import ssl
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from aio_authgrpc.cli.doctor.findings import Fault, FaultError, State, Step, Subject
from aio_authgrpc.cli.doctor.handshake import Begins, Handshake, begin_plaintext, context_for, shaken
from aio_authgrpc.cli.doctor.route import Proxy, connect_tcp
from aio_authgrpc.errors import ConfigurationError

# A certificate that ends sooner is worth a word.
_SOON = datetime.timedelta(days=14)
# OpenSSL's X509_V_ERR numbers.
_EXPIRED, _NOT_YET_VALID, _OTHER_NAME, _OTHER_ADDRESS = 10, 9, 62, 64


async def tcp_step(subject: Subject, proxy: Proxy | None) -> Step:
    """Connect once."""
    if subject.address is None:
        return Step(name="tcp", state=State.SKIPPED, text="gRPC alone connects to such a target")
    began = asyncio.get_running_loop().time()
    wire = await connect_tcp(subject, proxy)
    seconds = asyncio.get_running_loop().time() - began
    wire.close()
    host, port = subject.address
    through = "" if proxy is None else " through the proxy"
    return Step(
        name="tcp", state=State.OK, text=f"{host}:{port} answers{through}, in {seconds * 1000:.0f} ms"
    )


async def tls_step(subject: Subject, proxy: Proxy | None) -> Step:
    """Look at TLS, the certificate and HTTP/2; without TLS at HTTP/2 alone."""
    if subject.address is None:
        return Step(name="tls", state=State.SKIPPED, text="not looked at")
    if subject.connection.plaintext:
        return await _plaintext_step(subject, proxy)
    seen = await _handshake(subject, proxy, verify=False)
    try:
        await _handshake(subject, proxy, verify=True)
    except ssl.SSLCertVerificationError as error:
        raise _distrust(subject, seen, error) from error
    if seen.alpn != "h2":
        raise FaultError(_no_http2(subject, seen), _seen(seen), **_facts(seen))
    if seen.begins is not Begins.HTTP2:
        raise FaultError(_ended(subject, seen), _seen(seen), **_facts(seen))
    left = _parsed(seen).not_valid_after_utc - datetime.datetime.now(tz=datetime.UTC)
    state = State.WARNING if left < _SOON else State.OK
    return Step(name="tls", state=state, text=_seen(seen), facts=_facts(seen))


async def _handshake(subject: Subject, proxy: Proxy | None, *, verify: bool) -> Handshake:
    try:
        context = await asyncio.to_thread(context_for, subject.connection, verify=verify)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"a file of certificates cannot be used ({type(error).__name__}).",
            field="--root-certificates, --client-certificate",
            hint="They take PEM files.",
        ) from error
    wire = await connect_tcp(subject, proxy)
    try:
        return await shaken(wire, context, subject.server_name, subject.timeout)
    except ssl.SSLCertVerificationError:
        raise
    except (ssl.SSLError, OSError, TimeoutError) as error:
        raise FaultError(await _without_tls(subject, proxy, error)) from error


async def _without_tls(subject: Subject, proxy: Proxy | None, error: Exception) -> Fault:
    """Return why there was no handshake. A server that speaks plaintext is asked."""
    said = (getattr(error, "reason", None) or type(error).__name__).replace("_", " ").lower()
    if "alert" in said and ("certificate" in said or "handshake failure" in said):
        return _wants_certificate(subject, said)
    if await _plaintext(subject, proxy) is Begins.HTTP2:
        return Fault(
            name="plaintext-server",
            cause="The server speaks no TLS at this port: it answered in plaintext HTTP/2.",
            next_step=subject.again("--plaintext", without=["--root-certificates"]),
        )
    host, port = subject.address or ("", 0)
    return Fault(
        name="tls-failed",
        cause=f"The TLS handshake failed: {said}.",
        next_step=f"openssl s_client -connect {host}:{port} -servername {subject.server_name} -alpn h2",
    )


async def _plaintext(subject: Subject, proxy: Proxy | None) -> Begins:
    wire = await connect_tcp(subject, proxy)
    try:
        async with asyncio.timeout(subject.timeout):
            return await begin_plaintext(wire)
    except TimeoutError:
        return Begins.OTHER
    finally:
        wire.close()


async def _plaintext_step(subject: Subject, proxy: Proxy | None) -> Step:
    begins = await _plaintext(subject, proxy)
    if begins is Begins.HTTP2:
        return Step(name="tls", state=State.OK, text="none, as --plaintext says; HTTP/2 is spoken")
    if begins is Begins.HTTP1:
        raise FaultError(_no_http2(subject, None))
    context = await asyncio.to_thread(context_for, subject.connection, verify=False)
    wire = await connect_tcp(subject, proxy)
    try:
        await shaken(wire, context, subject.server_name, subject.timeout)
    except (ssl.SSLError, OSError, TimeoutError) as error:
        host, port = subject.address or ("", 0)
        raise FaultError(
            Fault(
                name="no-grpc",
                cause="The server speaks neither plaintext HTTP/2 nor TLS: this port is another service's.",
                next_step=f"nc -v {host} {port}",
            )
        ) from error
    raise FaultError(
        Fault(
            name="tls-server",
            cause="The server speaks TLS at this port, and was called in plaintext.",
            next_step=subject.again(without=["--plaintext"]),
        )
    )


def _distrust(subject: Subject, seen: Handshake, error: ssl.SSLCertVerificationError) -> FaultError:
    certificate, name = _parsed(seen), subject.server_name
    ended, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    host, port = subject.address or ("", 0)
    shown = f"openssl s_client -connect {host}:{port} -servername {name} -showcerts"
    if error.verify_code == _EXPIRED:
        cause = (
            f"The server's certificate has expired, on {ended:%Y-%m-%d}; or this machine's clock is wrong."
        )
        fault = Fault(name="certificate-expired", cause=cause, next_step=f"{shown} | openssl x509 -dates")
    elif error.verify_code == _NOT_YET_VALID:
        cause = (
            f"The server's certificate is not valid before {begins:%Y-%m-%d}: this machine's clock is wrong."
        )
        fault = Fault(name="clock", cause=cause, next_step="timedatectl set-ntp true")
    elif error.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
        names = _names(certificate)
        cause = f"The server's certificate is for {', '.join(names) or 'no name'}, not for {name}."
        other = next((one for one in names if "*" not in one), "NAME")
        fault = Fault(name="certificate-name", cause=cause, next_step=subject.again("--authority", other))
    else:
        cause = (
            f"The server's certificate was issued by {_issuer(certificate)}, which is not among the "
            "authorities that are trusted here."
        )
        next_step = subject.again("--root-certificates", "CA.pem")
        fault = Fault(name="certificate-authority", cause=cause, next_step=next_step)
    return FaultError(fault, _seen(seen), **_facts(seen))


def _no_http2(subject: Subject, seen: Handshake | None) -> Fault:
    spoken = "HTTP/1" if seen is None else seen.alpn or "no protocol by ALPN"
    host, port = subject.address or ("", 0)
    return Fault(
        name="no-http2",
        cause=f"The server speaks {spoken}, and gRPC needs HTTP/2: it, or a load balancer before it, must "
        "allow it.",
        next_step=f"curl -sv --http2 -o /dev/null {'http' if seen is None else 'https'}://{host}:{port}/",
    )


def _ended(subject: Subject, seen: Handshake) -> Fault:
    if "certificate" in seen.alert or seen.begins is Begins.ENDED:
        return _wants_certificate(subject, seen.alert)
    return Fault(
        name="no-grpc",
        cause="The server agreed to HTTP/2, and began with something else.",
        next_step=f"curl -sv --http2 -o /dev/null https://{subject.server_name}/",
    )


def _wants_certificate(subject: Subject, said: str) -> Fault:
    given = subject.connection.client_certificate
    why = "demands a client certificate" if given is None else f"refused the client certificate of {given}"
    after = f" ({said})" if said else ""
    return Fault(
        name="client-certificate",
        cause=f"The server {why}: it ended the connection after the handshake{after}.",
        next_step=subject.again("--client-certificate", "CERT.pem", "--client-key", "KEY.pem"),
    )


def _parsed(seen: Handshake) -> x509.Certificate:
    return x509.load_der_x509_certificate(seen.certificate)


def _names(certificate: x509.Certificate) -> Sequence[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def _issuer(certificate: x509.Certificate) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in certificate.issuer.get_attributes_for_oid(kind):
            return shlex.quote(str(attribute.value))
    return "an authority without a name"


def _facts(seen: Handshake) -> dict[str, object]:
    certificate = _parsed(seen)
    return {
        "version": seen.version,
        "alpn": seen.alpn,
        "group": seen.group,
        "names": list(_names(certificate)),
        "issuer": _issuer(certificate),
        "expires": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
    }


def _seen(seen: Handshake) -> str:
    certificate = _parsed(seen)
    days = (certificate.not_valid_after_utc - datetime.datetime.now(tz=datetime.UTC)).days
    how = ", ".join(filter(None, (seen.version, seen.group, f"ALPN {seen.alpn or 'none'}")))
    whose = ", ".join(_names(certificate)[:3]) or "no name"
    until = f"{days} days left" if days >= 0 else "expired"
    return f"{how}; certificate for {whose} by {_issuer(certificate)}, {until}"
