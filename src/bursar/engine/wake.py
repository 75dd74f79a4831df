"""Waking workers within milliseconds of a commit, by LISTEN/NOTIFY. Polling is the fall-back.

A notification is a hint and carries no data: losing one costs a poll interval, never work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from contextvars import Context

import asyncpg
import structlog

from bursar.db.pool import connect
from bursar.engine.queries import QUERIES
from bursar.kit.clock import Clock

log = structlog.get_logger(__name__)

CHANNEL = "bursar_wake"
RECONNECT_S = 0.5


class Notifier:
    """Sends topics after commits, on its own connection; topics that wait together go once."""

    def __init__(self, dsn: str, clock: Clock, *, name: str) -> None:
        """Connects on first use; `name` shows in pg_stat_activity."""
        self._dsn = dsn
        self._clock = clock
        self._name = name
        self._topics: set[str] = set()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def notify(self, topics: Iterable[str]) -> None:
        """Send soon; never blocks, never raises."""
        self._topics.update(topics)
        self._arrived.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="notifier", context=Context())

    async def close(self) -> None:
        """Stop; what was not sent is found by polling."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        connection: asyncpg.Connection | None = None
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            topics, self._topics = self._topics, set()
            try:
                if connection is None or connection.is_closed():
                    connection = await connect(self._dsn, name=self._name)
                for topic in topics:
                    await connection.execute(QUERIES["notify"], topic)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.info("notify_failed", error=str(error))
                connection = None
                await self._clock.sleep(RECONNECT_S)


class Listener:
    """Events that are set when a topic is notified."""

    def __init__(self, dsn: str, clock: Clock, topics: Iterable[str], *, name: str) -> None:
        """Start it with `run` in a task."""
        self._dsn = dsn
        self._clock = clock
        self._name = name
        self.events = {topic: asyncio.Event() for topic in topics}

    async def run(self) -> None:
        """Listen until cancelled; reconnects, and wakes everyone after each reconnect."""
        while True:
            try:
                await self._listen()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.info("listen_failed", error=str(error))
            await self._clock.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        connection = await connect(self._dsn, name=self._name)
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        try:
            await connection.add_listener(CHANNEL, self._heard)
            for event in self.events.values():
                event.set()
            await lost.wait()
        finally:
            with contextlib.suppress(Exception):
                await connection.close(timeout=1)

    def _heard(self, _connection: object, _pid: int, _channel: str, topic: object) -> None:
        event = self.events.get(str(topic))
        if event is not None:
            event.set()
