"""Seeds derived from keys."""

from __future__ import annotations

import hashlib


def derive_seed(*keys: int | str) -> int:
    """A seed of 63 bits from a tuple of keys, the same on every machine and in every process.

    Unlike sums or products of keys, neighbouring tuples give unrelated seeds.
    """
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
