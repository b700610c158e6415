"""`python -m aio_authgrpc.cli` is `aio-authgrpc`."""

from aio_authgrpc.cli import main

if __name__ == "__main__":
    main()
