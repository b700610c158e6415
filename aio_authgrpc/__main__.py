"""`python -m aio_authgrpc` runs the `aio-authgrpc` command."""

from aio_authgrpc.cli import main

if __name__ == "__main__":
    main()
