"""Run what google-auth's documentation shows, or the same with the import changed and `await` added.

    python documented_usage.py google-auth|here OPTION REGULAR_ENDPOINT MTLS_ENDPOINT CERT KEY

The options are those of the docstring of google.auth.transport.grpc.secure_authorized_channel (seed 000).
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import pathlib
import sys

from aio_authgrpc.testing import EchoStub

BEGINNING = """
import grpc
import google.auth
import google.auth.transport.grpc
import google.auth.transport.requests

# Get credentials.
credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])

# Get an HTTP request function to refresh credentials.
request = google.auth.transport.requests.Request()
"""

OPTIONS = {
    "1": """
regular_ssl_credentials = grpc.ssl_channel_credentials()

channel = google.auth.transport.grpc.secure_authorized_channel(
    credentials, request, regular_endpoint,
    ssl_credentials=regular_ssl_credentials)
""",
    "2": """
def my_client_cert_callback():
    return (pem_cert_bytes, pem_key_bytes)

channel = google.auth.transport.grpc.secure_authorized_channel(
    credentials, request, mtls_endpoint,
    client_cert_callback=my_client_cert_callback)
""",
    "3": """
default_ssl_credentials = google.auth.transport.grpc.SslCredentials()

# Choose the endpoint based on the SSL credentials type.
if default_ssl_credentials.is_mtls:
    endpoint_to_use = mtls_endpoint
else:
    endpoint_to_use = regular_endpoint
channel = google.auth.transport.grpc.secure_authorized_channel(
    credentials, request, endpoint_to_use,
    ssl_credentials=default_ssl_credentials.ssl_credentials)
""",
    "4": """
channel = google.auth.transport.grpc.secure_authorized_channel(
    credentials, request, mtls_endpoint)
""",
}

END = """
answer = EchoStub(channel).UnaryUnary(b"hello", timeout=10)
channel.close()
request.session.close()
"""


def usage(library: str, option: str) -> str:
    """Return the code, for google-auth as documented, for this package changed in two ways."""
    code = BEGINNING + OPTIONS[option] + END
    if library == "google-auth":
        return code
    code = code.replace("google.auth.transport.grpc", "aio_authgrpc")
    for called in ("aio_authgrpc.SslCredentials(", "aio_authgrpc.secure_authorized_channel(", "EchoStub("):
        code = code.replace(f"= {called}", f"= await {called}")
    return code.replace("\nchannel.close()", "\nawait channel.close()")


def main(library: str, option: str, regular: str, mtls: str, cert: str, key: str) -> None:
    """Run one, and print the answer."""
    namespace = {
        "regular_endpoint": regular,
        "mtls_endpoint": mtls,
        "pem_cert_bytes": pathlib.Path(cert).read_bytes(),
        "pem_key_bytes": pathlib.Path(key).read_bytes(),
        "EchoStub": EchoStub,
    }
    code = compile(usage(library, option), library, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, namespace)
    if inspect.iscoroutine(running):
        asyncio.run(running)
    print(namespace["answer"])  # noqa: T201 - for the test


if __name__ == "__main__":
    main(*sys.argv[1:])
