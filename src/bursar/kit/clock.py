"""The only place that reads real time. Everything else is handed a `Clock`."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final, Protocol

# On Linux CLOCK_MONOTONIC stands still while the machine is suspended, and leases in the database
# do not.
_SINCE_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Time as the application may use it. Truth about *when* comes from the database's clock."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin, never going back: for intervals and deadlines.

        They count while the machine sleeps, where the system can tell.
        """
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
        """Seconds since the machine started, suspended or not."""
        return time.clock_gettime(_SINCE_BOOT)

    def wall(self) -> datetime:
        """Aware UTC time of the machine."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds` of real time."""
        await asyncio.sleep(seconds)
