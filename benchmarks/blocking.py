"""What a private key costs the event loop: parsing it, with and without the check of its primes, and signing.

    python benchmarks/blocking.py [--rounds 30] [--json]

`checked` is how google-auth, and cryptography by default, parse a key of 2048 bits; the interpreter's lock is
held meanwhile. `unchecked` is how this package does. `signing` is one RS256 signature.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from figures import Spread, print_json, print_table


def _milliseconds(work: Callable[[], object], rounds: int) -> Spread:
    figures = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        figures.append(1000 * (time.perf_counter() - start))
    return Spread.of(figures)


def measure(rounds: int) -> dict[str, Spread]:
    """Return the milliseconds of each."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    load = serialization.load_pem_private_key
    return {
        "checked": _milliseconds(lambda: load(pem, None), rounds),
        "unchecked": _milliseconds(lambda: load(pem, None, unsafe_skip_rsa_key_validation=True), rounds),
        "signing": _milliseconds(lambda: key.sign(pem, padding.PKCS1v15(), hashes.SHA256()), rounds),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    arguments = parser.parse_args()
    figures = measure(arguments.rounds)
    if arguments.json:
        print_json({"rounds": arguments.rounds, "ms": figures})
        return
    rows = [(name, *spread.with_quartiles(2), f"{spread.minimum:.2f}") for name, spread in figures.items()]
    print_table("A private key", ("ms", "median", "quartiles", "minimum"), rows)


if __name__ == "__main__":
    main()
