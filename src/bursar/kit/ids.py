"""The only place that draws randomness: identifiers and jitter.

An identifier is a typed prefix, an underscore and 32 hexadecimal digits: 48 bits of Unix
milliseconds, then 80 random bits. Identifiers of one kind therefore sort by time of making,
which keeps B-tree inserts on the right-hand edge.
"""

import os
import random
import re
import secrets
import time
from typing import Protocol

_SHAPE = re.compile(r"[a-z]{2,4}_[0-9a-f]{32}\Z")


class Ids(Protocol):
    """Makes identifiers."""

    def new(self, prefix: str) -> str:
        """A fresh identifier such as `po_0199…`, unique without coordination."""
        ...


class Randomness(Protocol):
    """Draws numbers for jitter."""

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high]."""
        ...


class SystemIds:
    """Identifiers from the operating system's entropy and clock."""

    def new(self, prefix: str) -> str:
        """A fresh identifier; about 0.6 microseconds."""
        millis = time.time_ns() // 1_000_000
        return f"{prefix}_{millis:012x}{os.urandom(10).hex()}"


class SystemRandomness:
    """The operating system's generator."""

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high]."""
        return random.SystemRandom().uniform(low, high)


class SeededIds:
    """Identifiers and jitter that repeat for a seed: tests and simulated schedules."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatability is the purpose
        self._count = 0

    def new(self, prefix: str) -> str:
        """The next identifier of this seed, in rising order."""
        self._count += 1
        return f"{prefix}_{self._count:012x}{self._random.getrandbits(80):020x}"

    def uniform(self, low: float, high: float) -> float:
        """The next number of this seed in [low, high]."""
        return self._random.uniform(low, high)


def new_secret() -> str:
    """256 random bits, URL-safe: API keys and passwords."""
    return secrets.token_urlsafe(32)


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` has the shape of an identifier with this prefix."""
    return text.startswith(f"{prefix}_") and _SHAPE.match(text) is not None
