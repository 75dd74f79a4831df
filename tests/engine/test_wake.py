"""Notifier and listener outlive their connections."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
import pytest

from bursar.db.connection import CONNECTION_ERRORS
from bursar.engine.wake import Connect, Listener, Notifier
from tests.conftest import Database
from tests.engine.wiring import SetClock

ERRORS = [*CONNECTION_ERRORS, asyncpg.InsufficientPrivilegeError]


class Line:
    """A connection on which the planned errors come first."""

    def __init__(self, errors: list[Exception]) -> None:
        self.errors = errors
        self.sent: list[str] = []
        self.closed = False
        self.heard: Callable[..., None] | None = None

    async def execute(self, _query: str, topic: str) -> None:
        """One notification."""
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append(topic)

    def add_termination_listener(self, _callback: object) -> None:
        """Never ends by itself."""

    async def add_listener(self, _channel: str, heard: Callable[..., None]) -> None:
        """Begin to listen."""
        if self.errors:
            raise self.errors.pop(0)
        self.heard = heard

    async def close(self, *, timeout: float) -> None:
        """At most a second."""
        assert timeout == 1
        self.closed = True


class Lines:
    """All connections that were made; `errors` are raised by them, one each time."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made: list[Line] = []

    @property
    def connect(self) -> Connect:
        """In place of the driver's."""

        async def connecting(_dsn: str, *, name: str) -> Line:
            assert name == "test"
            self.made.append(Line(self.errors))
            return self.made[-1]

        return cast(Connect, connecting)

    @property
    def sent(self) -> list[str]:
        """All that was sent."""
        return [topic for line in self.made for topic in line.sent]


async def until(condition: Callable[[], Any]) -> None:
    """Wait for the code under test."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ERRORS)
async def test_a_notifier_outlives_its_connection(kind: type[Exception]) -> None:
    """Whatever the driver calls it; and no connection is left behind."""
    lines = Lines(kind("gone"))
    notifier = Notifier("", SetClock(), name="test", connecting=lines.connect)
    notifier.notify(["lost"])
    await until(lambda: not lines.errors)
    notifier.notify(["a"])
    await until(lambda: lines.sent == ["a"])
    await notifier.close()
    assert [line.closed for line in lines.made] == [True, True]


async def test_a_dead_notifier_is_started_again() -> None:
    """An error that nobody foresaw costs a poll interval, not every wake-up from then on."""
    lines = Lines(ZeroDivisionError("unforeseen"))
    notifier = Notifier("", SetClock(), name="test", connecting=lines.connect)
    notifier.notify(["lost"])
    await until(lambda: lines.made and lines.made[0].closed)
    for _ in range(3):
        await asyncio.sleep(0)
    notifier.notify(["a"])
    await until(lambda: lines.sent == ["a"])
    await notifier.close()
    notifier.notify(["late"])
    await asyncio.sleep(0)
    assert lines.sent == ["a"]
    assert len(lines.made) == 2


@pytest.mark.parametrize("kind", ERRORS)
async def test_a_listener_outlives_its_connection(kind: type[Exception]) -> None:
    """It listens again, on a new connection, and wakes whoever slept meanwhile."""
    lines = Lines(kind("gone"))
    listener = Listener("", SetClock(), ["t"], name="test", connecting=lines.connect)
    task = asyncio.create_task(listener.run())
    async with asyncio.timeout(5):
        await listener.events["t"].wait()
    task.cancel()
    await asyncio.wait([task])
    assert [line.closed for line in lines.made] == [True, True]


async def test_wakes_across_a_killed_connection(database: Database) -> None:
    """On a real server: both connections are cut, and the next topics arrive."""
    clock = SetClock()
    notifier = Notifier(database.dsns.api, clock, name="wake test n")
    listener = Listener(database.dsns.worker, clock, ["t"], name="wake test l")
    task = asyncio.create_task(listener.run())
    woken = listener.events["t"]
    async with asyncio.timeout(10), _admin(database) as admin:
        await woken.wait()  # listening
        for round_ in range(2):
            woken.clear()
            while not woken.is_set():
                notifier.notify(["t"])
                await asyncio.sleep(0.01)
            if round_ == 0:
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'wake test%'"
                )
    await notifier.close()
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def _admin(database: Database) -> Any:
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        yield connection
    finally:
        await connection.close()
