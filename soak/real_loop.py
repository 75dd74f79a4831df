"""An event loop with real sockets and virtual time, which stands still while a server works."""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import asyncpg

from bursar.db.connection import connect
from bursar.db.queries import load_queries
from soak.loop import NothingLeft

T = TypeVar("T")
_SQL: Final = load_queries(__file__, "on_postgres.sql")
CONNECTING: Final = 0
"""Stands for the process of a server that is not known yet."""
STALL_S: Final = 0.005
"""Real time after which a statement may be one that waits for a lock."""
STALLS_MAX: Final = 12_000
"""A server that says nothing for so many stalls is broken."""


class LockWatch:
    """Tells which statements wait for locks. Has a thread and a connection of its own."""

    def __init__(self, dsn: str) -> None:
        """`dsn` is the admin's: others may not see what each process waits for."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._connection: asyncpg.Connection = self._do(connect(dsn, name="soak lock watch"))

    def all_wait(self, busy: list[int], live: list[int]) -> bool:
        """Whether each of these waits for a lock that one of the `live` has."""
        rows = self._do(self._connection.fetch(_SQL["waiting_for_locks"], busy, live))
        return len(rows) == len(busy)

    def close(self) -> None:
        """Let go of the connection and the thread."""
        self._do(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Patient(selectors.DefaultSelector):
    """Waits for sockets while a server works; else waiting is a jump in time.

    Who waits for a lock waits for one that has it, and that one may wait for time to pass: if
    all statements do, time goes on.
    """

    def __init__(self, watch: LockWatch) -> None:
        super().__init__()
        self.now = 0.0
        self.busy: Counter[int] = Counter()
        self.live: set[int] = set()
        self.lock_waits = 0
        self._watch = watch
        self._stuck = False

    def begins(self, pid: int) -> None:
        """A statement was sent."""
        self.busy[pid] += 1
        self._stuck = False

    def ends(self, pid: int) -> None:
        """It was answered, or nobody waits for the answer any more."""
        self.busy[pid] -= 1
        if not self.busy[pid]:
            del self.busy[pid]
        self._stuck = False

    def opens(self, pid: int) -> None:
        """A connection is there."""
        self.live.add(pid)

    def closes(self, pid: int) -> None:
        """It is gone, and so are its locks, in a while."""
        self.live.discard(pid)
        self._stuck = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        stalls = 0
        while self.busy and not (self._stuck and timeout is not None):
            ready = super().select(STALL_S)
            if ready:
                return ready
            stalls += 1
            if stalls > STALLS_MAX:
                raise NothingLeft("the server is silent")
            if timeout is not None and self._all_wait():
                self.lock_waits += 1
                self._stuck = True
        if timeout is None:
            raise NothingLeft("no task is ready, no timer is set, no statement runs")
        self.now += timeout
        return []

    def _all_wait(self) -> bool:
        return CONNECTING not in self.busy and self._watch.all_wait(
            list(self.busy), list(self.live)
        )


class RealLoop(asyncio.SelectorEventLoop):
    """Runs schedules against a server. Whoever asks it something counts as busy meanwhile."""

    def __init__(self, watch: LockWatch) -> None:
        self.patient = _Patient(watch)
        super().__init__(self.patient)
        # What is due within so long is due now: see `VirtualLoop`.
        self._clock_resolution = 1e-6
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        """Virtual seconds since the schedule began."""
        return self.patient.now
