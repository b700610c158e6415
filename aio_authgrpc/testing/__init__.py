"""Real servers on the loopback interface for tests: they issue, check and refuse tokens as Google's do.

`Authority` issues tokens. `GuardedServer` puts a service of your own behind a guard that demands them,
`BookstoreServer` the Bookstore, and `EchoServer` takes every call and echoes it. `ScriptedTokens` is a token
source without an endpoint, and `FakeClock` makes time pass. `GoogleCloud` has every endpoint that
google-auth's credentials use, the metadata server, STS and the IAM API among them, and an
`InterceptingProxy` that routes Google's names to them. `EnvoyProxy` runs a real Envoy in front of a server,
`ChaosProxy` spoils the connections to one, and `RedisServer` runs a real Redis or Valkey. The servers and
proxies are async context managers that listen on free ports of 127.0.0.1. Nothing is patched.

`aio_authgrpc.testing.pytest_plugin` has fixtures for the most common ones.
"""

from __future__ import annotations

try:
    import jwt as _jwt
    import trustme as _trustme
except ImportError as exc:
    raise ImportError(
        "aio_authgrpc.testing needs PyJWT and trustme: pip install 'aio-authgrpc[testing]'", name=exc.name
    ) from exc

from aio_authgrpc.testing.clock import FakeClock
from aio_authgrpc.testing.envoy.admin import EnvoyCounts
from aio_authgrpc.testing.envoy.process import EnvoyNotFoundError, find_envoy
from aio_authgrpc.testing.envoy.proxy import EnvoyProxy, forwarded_user_info
from aio_authgrpc.testing.google.authority import JWKS_PATH, TOKEN_PATH, Authority
from aio_authgrpc.testing.google.credential_files import CredentialFiles
from aio_authgrpc.testing.google.gdch_server import GdchServer
from aio_authgrpc.testing.google.google_apis import GoogleApis
from aio_authgrpc.testing.google.google_cloud import GoogleCloud
from aio_authgrpc.testing.google.keys import SigningKey
from aio_authgrpc.testing.google.metadata_server import MetadataServer
from aio_authgrpc.testing.google.workloads import AwsMetadataServer, SubjectTokenServer
from aio_authgrpc.testing.guard.interceptor import endpoint_user_info
from aio_authgrpc.testing.scripted_tokens import ScriptedTokens
from aio_authgrpc.testing.servers.bookstore_server import BookstoreServer
from aio_authgrpc.testing.servers.chaos_proxy import ChaosProxy
from aio_authgrpc.testing.servers.echo_server import EchoServer, EchoStub
from aio_authgrpc.testing.servers.grpc_server import LoopbackGrpcServer
from aio_authgrpc.testing.servers.guarded_server import GuardArguments, GuardedServer
from aio_authgrpc.testing.servers.http_server import LoopbackHttpServer, RecordedRequest
from aio_authgrpc.testing.servers.intercepting_proxy import InterceptingProxy
from aio_authgrpc.testing.servers.misbehaviour import Gate
from aio_authgrpc.testing.servers.ordered_calls import RecordedCall
from aio_authgrpc.testing.servers.redis_server import RedisNotFoundError, RedisServer, find_redis

__all__ = [
    "JWKS_PATH",
    "TOKEN_PATH",
    "Authority",
    "AwsMetadataServer",
    "BookstoreServer",
    "ChaosProxy",
    "CredentialFiles",
    "EchoServer",
    "EchoStub",
    "EnvoyCounts",
    "EnvoyNotFoundError",
    "EnvoyProxy",
    "FakeClock",
    "Gate",
    "GdchServer",
    "GoogleApis",
    "GoogleCloud",
    "GuardArguments",
    "GuardedServer",
    "InterceptingProxy",
    "LoopbackGrpcServer",
    "LoopbackHttpServer",
    "MetadataServer",
    "RecordedCall",
    "RecordedRequest",
    "RedisNotFoundError",
    "RedisServer",
    "ScriptedTokens",
    "SigningKey",
    "SubjectTokenServer",
    "endpoint_user_info",
    "find_envoy",
    "find_redis",
    "forwarded_user_info",
]

del _jwt, _trustme
