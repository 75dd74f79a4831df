"""An event loop whose time is a number: when nothing is ready, it is the next timer's time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

T0 = datetime(2026, 3, 27, 9, tzinfo=UTC)
"""The wall's time when a schedule begins."""
EPOCH_MS = int(T0.timestamp() * 1000)


class NothingLeft(Exception):
    """Everything waits for something that nobody will do."""


class _Jump:
    """Stands where a selector stands: there are no sockets, so waiting is a jump in time."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        self._jump = jump

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise NothingLeft("no task is ready and no timer is set")
        if timeout > 0:
            self._jump(timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order in which they became ready; timers by time, then by age.

    It has no sockets, no threads and no real time, so the same program runs the same way.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        # What is due within so long is due now: more than a float's last digit, in any year.
        self._clock_resolution = 1e-6
        self._selector = _Jump(self._advance)
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        """Virtual seconds since the schedule began."""
        return self._now

    def _advance(self, seconds: float) -> None:
        self._now += seconds

    def _process_events(self, _events: list[Any]) -> None:
        """No sockets, no events."""

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody is woken."""


class VirtualClock:
    """Real time as the schedule has it: the providers' clock. Implements `kit.clock.Clock`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        """Seconds since the schedule began."""
        return self._loop.time()

    def wall(self) -> datetime:
        """Aware UTC, exact."""
        return T0 + timedelta(seconds=self._loop.time())

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch: the providers' clock."""
        return EPOCH_MS + int(self._loop.time() * 1000)

    async def sleep(self, seconds: float) -> None:
        """Wait virtually."""
        await asyncio.sleep(seconds)


class DatabaseClock(VirtualClock):
    """The database's clock: it may jump ahead of the world's, and never goes back."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._jumps: list[tuple[datetime, timedelta]] = []

    def wall(self) -> datetime:
        """What the database takes for now."""
        return super().wall() + sum((ahead for _, ahead in self._jumps), timedelta(0))

    def jump(self, seconds: float) -> None:
        """From now on it is ahead by so much more."""
        after = self.wall() + timedelta(seconds=seconds)
        self._jumps.append((after, timedelta(seconds=seconds)))

    def virtual(self, moment: datetime) -> float:
        """When in the schedule a moment of this clock was, in seconds."""
        ahead = sum((by for after, by in self._jumps if moment >= after), timedelta(0))
        return (moment - ahead - T0).total_seconds()


class SkewedClock(VirtualClock):
    """A process's own clock: its wall is wrong by `skew_s`, which may jump; intervals are exact."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, origin_s: float) -> None:
        """`origin_s` is where its monotonic time starts: another machine, another origin."""
        super().__init__(loop)
        self.skew_s = 0.0
        self._origin_s = origin_s

    def monotonic(self) -> float:
        """Seconds from this machine's origin."""
        return self._origin_s + super().monotonic()

    def wall(self) -> datetime:
        """What this machine believes."""
        return super().wall() + timedelta(seconds=self.skew_s)
