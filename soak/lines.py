"""Connections that schedules use: time stands still while one waits for the server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

import asyncpg

from bursar.db.queries import load_queries
from soak.real_loop import CONNECTING, RealLoop

T = TypeVar("T")
_SQL: Final = load_queries(__file__, "on_postgres.sql")
NEVER_S: Final = 1e9
SETTINGS: Final = {
    "search_path": "simclock, pg_catalog, public",
    "plan_cache_mode": "force_custom_plan",
    "lock_timeout": "3s",
    # No server dies here.
    "synchronous_commit": "off",
    # Of a process that is gone the server learns also while it waits for a lock.
    "client_connection_check_interval": "20ms",
}


class Line:
    """A connection. While it waits for the server, time stands still."""

    def __init__(self, loop: RealLoop, connection: asyncpg.Connection) -> None:
        self._loop = loop
        self.raw = connection
        self.pid: int = connection.get_server_pid()

    async def _wait(self, answer: Coroutine[Any, Any, T]) -> T:
        with busy(self._loop, self.pid):
            return await answer

    def get_server_pid(self) -> int:
        """As the driver's."""
        return self.pid

    def terminate(self) -> None:
        """As the driver's."""
        self._loop.patient.closes(self.pid)
        self.raw.terminate()

    async def execute(self, *arguments: Any) -> str:
        """As the driver's."""
        return await self._wait(self.raw.execute(*arguments))

    async def fetch(self, *arguments: Any) -> list[Any]:
        """As the driver's."""
        return await self._wait(self.raw.fetch(*arguments))

    async def fetchrow(self, *arguments: Any) -> Any:
        """As the driver's."""
        return await self._wait(self.raw.fetchrow(*arguments))

    async def fetchval(self, *arguments: Any) -> Any:
        """As the driver's."""
        return await self._wait(self.raw.fetchval(*arguments))

    async def copy_records_to_table(self, *arguments: Any, **options: Any) -> str:
        """As the driver's."""
        return await self._wait(self.raw.copy_records_to_table(*arguments, **options))


@contextmanager
def busy(loop: RealLoop, pid: int) -> Iterator[None]:
    """Time stands still, as long as this server process does not wait for a lock."""
    loop.patient.begins(pid)
    try:
        yield
    finally:
        loop.patient.ends(pid)


class _Lending:
    """What `acquire` gives: to be awaited, or to be entered."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._lent: Line | None = None

    def __await__(self) -> Generator[Any, Any, Line]:
        return self._lines.lend().__await__()

    async def __aenter__(self) -> Line:
        self._lent = await self._lines.lend()
        return self._lent

    async def __aexit__(self, *_: object) -> None:
        if self._lent is not None:
            await self._lines.release(self._lent)


class Lines:
    """Stands where the driver's pool stands, and tells the time to each connection it lends."""

    def __init__(self, loop: RealLoop, now: Callable[[], datetime], dsn: str, role: str) -> None:
        """`dsn` is the admin's, who takes on `role`; `now` is the database's time."""
        self._loop = loop
        self._now = now
        self._dsn = dsn
        self._settings = {"role": role, "application_name": "soak", **SETTINGS}
        self._idle: list[Line] = []
        self._all: list[Line] = []

    def acquire(self) -> _Lending:
        """A connection, for one that asks."""
        return _Lending(self)

    async def lend(self) -> Line:
        """One that is idle, or another."""
        line = self._idle.pop() if self._idle else await self._connect()
        await line.fetchval(_SQL["tell_time"], self._now().isoformat())
        return line

    async def _connect(self) -> Line:
        with busy(self._loop, CONNECTING):
            connection = await asyncpg.connect(
                self._dsn, timeout=NEVER_S, server_settings=self._settings
            )
        line = Line(self._loop, connection)
        self._loop.patient.opens(line.pid)
        self._all.append(line)
        return line

    async def release(self, line: Line) -> None:
        """Take a connection back."""
        if not line.raw.is_closed():
            self._idle.append(line)

    def close(self) -> None:
        """Drop all connections."""
        for line in self._all:
            line.terminate()
