"""Redis or Valkey: one token for all processes and machines that have the same identity."""

from aio_authgrpc.redis.client import RedisClient
from aio_authgrpc.redis.store import SharedTokenStore

__all__ = ["RedisClient", "SharedTokenStore"]
