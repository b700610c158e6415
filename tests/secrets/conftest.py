"""The lab, its keys and its endpoints."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from aio_authgrpc import AiohttpRequest
from aio_authgrpc.testing import AwsMetadataServer, EchoServer, InterceptingProxy, SubjectTokenServer

from .lab import Lab
from .planted import PLANTED
from .repeater import Repeater


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@functools.cache  # a key takes a tenth of a second
def keys() -> tuple[str, str]:
    return pem(rsa.generate_private_key(65537, 2048)), pem(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, echo_server: EchoServer) -> AsyncIterator[Lab]:
    """Give an open lab, to which the environment leads."""
    repeater, aws = Repeater(), AwsMetadataServer()
    subject_tokens = SubjectTokenServer(PLANTED["subject token at a URL"])
    hosts = ("*.googleapis.com", "metadata.google.internal", "169.254.169.254")
    proxy = InterceptingProxy(dict.fromkeys(hosts, repeater))
    async with repeater, aws, subject_tokens, proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url.replace("//", f"//me:{PLANTED['password of a proxy']}@"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "localhost,127.0.0.1")
        monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
        ca_path = tmp_path / "ca.pem"
        ca_path.write_bytes(proxy.ca_pem)
        connector = aiohttp.TCPConnector(ssl=proxy.client_context())
        async with aiohttp.ClientSession(connector=connector) as session, AiohttpRequest(session) as http:
            private_key, ec_key = keys()
            yield Lab(
                directory=tmp_path,
                repeater=repeater,
                http=http,
                aws=aws,
                subject_tokens=subject_tokens,
                echo_server=echo_server,
                private_key=private_key,
                ec_key=ec_key,
                ca_path=ca_path,
            )
