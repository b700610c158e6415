"""google-cloud clients over this package: `client()` for the async ones, `credentials()` for all others.

GAPIC is what Google calls the generated part of its client libraries, such as
`google.cloud.secretmanager_v1.SecretManagerServiceAsyncClient`.
"""

from aio_authgrpc.gapic.cached_credentials import CachedCredentials, credentials
from aio_authgrpc.gapic.cloud_client import client

__all__ = ["CachedCredentials", "client", "credentials"]
