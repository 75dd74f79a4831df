"""Waking workers within milliseconds of a commit, by LISTEN/NOTIFY. Polling is the fall-back.

A notification is a hint and carries no data: losing one costs a poll interval, never work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context

import asyncpg
import structlog

from bursar.db.connection import CONNECTION_ERRORS, connect
from bursar.engine.queries import QUERIES
from bursar.kit.clock import Clock

log = structlog.get_logger(__name__)

CHANNEL = "bursar_wake"
RECONNECT_S = 0.5
_AWAY: tuple[type[Exception], ...] = (*CONNECTION_ERRORS, asyncpg.PostgresError)

Connect = Callable[..., Awaitable[asyncpg.Connection]]
"""As `db.connection.connect`."""


class Notifier:
    """Sends topics after commits, on its own connection; topics that wait together go once."""

    def __init__(self, dsn: str, clock: Clock, *, name: str, connecting: Connect = connect) -> None:
        """Connects on first use; `name` shows in pg_stat_activity."""
        self._connect = connecting
        self._dsn = dsn
        self._clock = clock
        self._name = name
        self._topics: set[str] = set()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def notify(self, topics: Iterable[str]) -> None:
        """Send soon; never blocks, never raises. A sender that died is started again."""
        self._topics.update(topics)
        self._arrived.set()
        if self._closed or (self._task is not None and not self._task.done()):
            return
        self._task = asyncio.create_task(self._run(), name="notifier", context=Context())
        self._task.add_done_callback(_tell_of_death)

    async def close(self) -> None:
        """Stop; what was not sent is found by polling."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                await self._send()
            except _AWAY as error:
                log.info("notify_failed", error=str(error))
            await self._clock.sleep(RECONNECT_S)

    async def _send(self) -> None:
        """Send what arrives, on one connection, until that fails."""
        await self._arrived.wait()
        connection = await self._connect(self._dsn, name=self._name)
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                topics, self._topics = self._topics, set()
                for topic in topics:
                    await connection.execute(QUERIES["notify"], topic)
        finally:
            await _close(connection)


class Listener:
    """Events that are set when a topic is notified."""

    def __init__(
        self,
        dsn: str,
        clock: Clock,
        topics: Iterable[str],
        *,
        name: str,
        connecting: Connect = connect,
    ) -> None:
        """Start it with `run` in a task."""
        self._connect = connecting
        self._dsn = dsn
        self._clock = clock
        self._name = name
        self.events = {topic: asyncio.Event() for topic in topics}

    async def run(self) -> None:
        """Listen until cancelled; reconnects, and wakes everyone after each reconnect."""
        while True:
            try:
                await self._listen()
            except _AWAY as error:
                log.info("listen_failed", error=str(error))
            await self._clock.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        connection = await self._connect(self._dsn, name=self._name)
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        try:
            await connection.add_listener(CHANNEL, self._heard)
            for event in self.events.values():
                event.set()
            await lost.wait()
        finally:
            await _close(connection)

    def _heard(self, _connection: object, _pid: int, _channel: str, topic: object) -> None:
        event = self.events.get(str(topic))
        if event is not None:
            event.set()


async def _close(connection: asyncpg.Connection) -> None:
    with contextlib.suppress(Exception):
        await connection.close(timeout=1)


def _tell_of_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("notifier_died", error=repr(error))
