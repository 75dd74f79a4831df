"""Seeded chance without a generator: each number is a keyed hash of what it is drawn for.

So a draw depends on the seed and the subject alone, never on the order of requests, on the
process, or on how often something was asked before.
"""

import hashlib
import struct

_WORD_RANGE = float(1 << 64)


def _key(seed: int) -> bytes:
    return seed.to_bytes(8, "big", signed=True)


def fractions(seed: int, subject: str) -> tuple[float, ...]:
    """Eight independent numbers in [0, 1) for one subject. `seed` fits 64 bits, signed."""
    digest = hashlib.blake2b(subject.encode(), key=_key(seed), digest_size=64).digest()
    return tuple(word / _WORD_RANGE for word in struct.unpack(">8Q", digest))


def fraction(seed: int, name: str, subject: str) -> float:
    """One number in [0, 1) for one use of a subject, independent of its other uses."""
    text = f"{name}/{subject}".encode()
    digest = hashlib.blake2b(text, key=_key(seed), digest_size=8, person=b"use").digest()
    return int(int.from_bytes(digest) >> 11) / (1 << 53)


def fires(rate: float, seed: int, name: str, subject: str) -> bool:
    """Whether what happens at a rate happens to this subject: never at 0, always at 1."""
    return rate > 0 and fraction(seed, name, subject) < rate


def hex_id(seed: int, subject: str) -> str:
    """32 hexadecimal digits that name one subject under one seed."""
    digest = hashlib.blake2b(subject.encode(), key=_key(seed), digest_size=16, person=b"id")
    return digest.hexdigest()
