"""A server whose certificate is made as told."""

from __future__ import annotations

import datetime

import grpc
import trustme

from aio_authgrpc.testing import EchoServer


class CertifiedServer(EchoServer):
    """An EchoServer with a certificate for `names`, which ended at `not_after`."""

    def __init__(self, *names: str, not_after: datetime.datetime | None = None) -> None:
        super().__init__()
        self._names = names
        self._not_after = not_after

    def _make_credentials(self) -> grpc.ServerCredentials:
        self._ca = trustme.CA()
        long_ago = None if self._not_after is None else self._not_after - datetime.timedelta(days=1)
        certificate = self._ca.issue_cert(*self._names, not_before=long_ago, not_after=self._not_after)
        chain = b"".join(link.bytes() for link in certificate.cert_chain_pems)
        return grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
