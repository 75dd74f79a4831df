"""The only place that reads real time. Everything else is handed a `Clock`."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time as the application may use it. Truth about *when* comes from the database's clock."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin, never going back: for intervals and deadlines."""
        ...

    def wall(self) -> datetime:
        """Aware UTC time, for signatures and display; it may jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()

    def wall(self) -> datetime:
        """Aware UTC time of the machine."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds` of real time."""
        await asyncio.sleep(seconds)
