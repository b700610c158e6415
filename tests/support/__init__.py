"""What the tests share: types and fakes, typed. What users need too is in `aio_authgrpc.testing`."""
