"""The only place of the simulators that reads real time."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time as the simulators see it."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


def rfc3339(epoch_ms: int) -> str:
    """`2026-01-31T12:00:00.123Z` for milliseconds since the Unix epoch."""
    at = datetime.fromtimestamp(epoch_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{epoch_ms % 1000:03d}Z"
