"""Stores that misbehave on request, and commands that do whatever a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from bursar.engine.model import ChildSet, CommandBase, Key, Needs, Peeked, Row, Table
from bursar.engine.store import Session, Store
from bursar.engine.working_set import Changes, WorkingSet
from tests.engine.wiring import ORIGIN

R = TypeVar("R", bound=Row)


class Act(CommandBase, frozen=True, kw_only=True):
    """Decides as `act` says; `wants` is what it admits to needing, or how it fails to."""

    act: Callable[[WorkingSet], Any]
    wants: Needs | Exception = Needs()

    def needs(self, _peeked: Peeked) -> Needs:
        """What it was made with."""
        if isinstance(self.wants, Exception):
            raise self.wants
        return self.wants

    def decide(self, ws: WorkingSet) -> Any:
        """What it was made with."""
        return self.act(ws)


def act(
    decision: Callable[[WorkingSet], Any],
    *,
    wants: Needs | Exception = Needs(),  # noqa: B008 - frozen
) -> Act:
    """A command of the test's own."""
    return Act(origin=ORIGIN, act=decision, wants=wants)


class Faulty:
    """A store that passes everything on, but raises what it is told to, where it is told to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.faults: dict[str, list[Exception]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = 0
        self.blind_peeks = 0

    def fail(self, step: str, *errors: Exception) -> None:
        """Raise these, one each time, at `begin`, `lock`, `write` or `commit`."""
        self.faults.setdefault(step, []).extend(errors)

    def trip(self, step: str) -> None:
        """Raise what is due at this step."""
        due = self.faults.get(step)
        if due:
            raise due.pop(0)

    async def begin(self, *, patience_s: float | None = None) -> Session:
        """Wait at the gate first."""
        await self.gate.wait()
        self.begun += 1
        self.trip("begin")
        return FaultySession(self, await self._store.begin(patience_s=patience_s))

    async def entomb(self, group_id: str) -> bool:
        """As the store says."""
        self.trip("entomb")
        return await self._store.entomb(group_id)

    async def take_due(self, queue: str, limit: int, arguments: Mapping[str, Any]) -> list[str]:
        """As the store says."""
        return await self._store.take_due(queue, limit, arguments)


class FaultySession:
    """A session of `Faulty`."""

    def __init__(self, store: Faulty, session: Session) -> None:
        self._store = store
        self._session = session

    @property
    def now(self) -> datetime:
        """The session's."""
        return self._session.now

    async def peek(self, table: Table[R], keys: Sequence[Key]) -> Sequence[R]:
        """Nothing, as if read before the rows were there, while `blind_peeks` last."""
        if self._store.blind_peeks:
            self._store.blind_peeks -= 1
            return []
        return await self._session.peek(table, keys)

    async def claim(self, table: Table[R], rows: Sequence[R]) -> Sequence[Key]:
        """As the session says."""
        return await self._session.claim(table, rows)

    async def lock(self, table: Table[R], keys: Sequence[Key]) -> Sequence[R]:
        """Fails if told to."""
        self._store.trip("lock")
        return await self._session.lock(table, keys)

    async def children(self, child: ChildSet[R], parents: Sequence[str]) -> Sequence[R]:
        """As the session says."""
        return await self._session.children(child, parents)

    async def write(self, changes: Changes) -> None:
        """Fails after writing if told to."""
        await self._session.write(changes)
        self._store.trip("write")

    async def commit(self) -> None:
        """Fails before or after committing if told to."""
        try:
            self._store.trip("commit")
        except Exception:
            await self._session.rollback()
            raise
        await self._session.commit()
        self._store.trip("committed")

    async def rollback(self) -> None:
        """As the session says."""
        await self._session.rollback()
