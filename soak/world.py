"""What all parts of one schedule share: time, choices, the record of what happened."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from soak.loop import DatabaseClock, VirtualClock
from soak.swarm import Swarm
from soak.tape import Tape


class Violation(Exception):
    """An invariant was broken. `invariant` is its number in docs/failures.md."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail


class World:
    """One schedule's time, choices and record."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tape: Tape, swarm: Swarm) -> None:
        self.loop = loop
        self.clock = VirtualClock(loop)
        self.database_clock = DatabaseClock(loop)
        self.tape = tape
        self.swarm = swarm
        self.fired: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self.crashed: Counter[str] = Counter()
        self.violation: Violation | None = None
        self.calm_at: float | None = None
        """When faults ended."""
        self.over = asyncio.Event()
        """Set when the schedule ends, or an invariant breaks."""
        self._trace: list[tuple[float, str, str]] = []

    def strikes(self, fault: str) -> bool:
        """Whether this fault happens now, by its rate."""
        rate = self.swarm.rates[fault]
        if rate and self.tape.unit(fault) >= 1.0 - rate:
            self.fired[fault] += 1
            return True
        return False

    def note(self, who: str, what: str) -> None:
        """Write a line of the trace."""
        self._trace.append((self.loop.time(), who, what))

    def broken(self, invariant: str, detail: str) -> None:
        """Record the first broken invariant and end the schedule."""
        if self.violation is None:
            self.violation = Violation(invariant, detail)
            self.note("checker", f"{invariant}: {detail}")
            self.over.set()

    def go(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside the rest."""
        return self.loop.create_task(work)

    def lines(self) -> list[str]:
        """The trace, a line each."""
        return [f"{at:10.4f} {who:<9} {what}" for at, who, what in self._trace]

    def digest(self) -> str:
        """A hash of all that happened."""
        digest = hashlib.sha256()
        for at, who, what in self._trace:
            digest.update(f"{at!r} {who} {what}\n".encode())
        return digest.hexdigest()
