"""The in-memory twin of the Postgres store: the same contract, for tests and schedules.

Transactions are serial: `begin` waits until the one before has ended. A transaction works on
copies of the tables it touches, so a rollback forgets everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from bursar.engine.errors import ConstraintError, RowHeld, StaleRow, TransactionConflict
from bursar.engine.model import GROUP_COMMITS, ChildSet, GroupCommit, Key, Row, Table
from bursar.engine.working_set import Changes
from bursar.kit.clock import Clock

R = TypeVar("R", bound=Row)
Rows = dict[Key, Any]
Due = Callable[[Mapping[str, Rows], datetime, Mapping[str, Any]], Iterable[str]]


class Unique:
    """A unique constraint of the twin: `value` of each row of a table, None for no claim."""

    def __init__(self, name: str, table: Table[R], value: Callable[[R], object]) -> None:
        """`name` is the constraint's name in the schema."""
        self.name = name
        self.table: Table[Any] = table
        self.value: Callable[[Any], object] = value


class MemoryStore:
    """Tables as dictionaries. Implements `Store`."""

    def __init__(
        self,
        clock: Clock,
        *,
        queues: Mapping[str, Due] | None = None,
        unique: Sequence[Unique] = (),
    ) -> None:
        """`queues` answers `take_due`; `unique` repeats the schema's unique indexes."""
        self.clock = clock
        self.tables: dict[str, Rows] = {}
        self._queues = dict(queues or {})
        self._unique = unique
        self._lock = asyncio.Lock()

    async def begin(self, *, patience_s: float | None = None) -> MemorySession:
        """Wait for the transaction before, then start. It holds every row: see `Store`."""
        if patience_s is None or not self._lock.locked():
            await self._lock.acquire()
            return MemorySession(self, self._lock)
        try:
            async with asyncio.timeout(patience_s):
                await self._lock.acquire()
        except TimeoutError as error:
            raise RowHeld("another transaction has the store") from error
        return MemorySession(self, self._lock)

    async def entomb(self, group_id: str) -> bool:
        """True if the group had committed, else it never will."""
        async with self._lock:
            commits = self.tables.setdefault(GROUP_COMMITS.name, {})
            if group_id in commits:
                return not commits[group_id].tombstone
            commits[group_id] = GroupCommit(group_id, tombstone=True, at=self.clock.wall())
            return False

    async def take_due(self, queue: str, limit: int, arguments: Mapping[str, Any]) -> list[str]:
        """Keys due in a queue, by the function registered for it."""
        due = self._queues[queue](self.tables, self.clock.wall(), arguments)
        return [key for _, key in zip(range(limit), due, strict=False)]

    def rows(self, table: Table[R]) -> list[R]:
        """All rows of a table, for tests and checks."""
        return list(self.tables.get(table.name, {}).values())

    def check_unique(self, tables: Mapping[str, Rows]) -> None:
        """Raise `ConstraintError` if two rows of one of these tables claim one value."""
        for rule in self._unique:
            seen: set[object] = set()
            for row in tables.get(rule.table.name, {}).values():
                value = rule.value(row)
                if value is None:
                    continue
                if value in seen:
                    raise ConstraintError(rule.name, str(value))
                seen.add(value)


class MemorySession:
    """One serial transaction. Implements `Session`."""

    def __init__(self, store: MemoryStore, lock: asyncio.Lock) -> None:
        """The caller holds `lock`; commit or rollback gives it back."""
        self._store = store
        self._lock = lock
        self._written: dict[str, Rows] = {}
        self._ended = False
        self.now = store.clock.wall()

    async def peek(self, table: Table[R], keys: Sequence[Key]) -> Sequence[R]:
        """Rows by key."""
        rows = self._table(table.name)
        return [rows[key] for key in keys if key in rows]

    async def lock(self, table: Table[R], keys: Sequence[Key]) -> Sequence[R]:
        """Rows by key; the whole store is locked already."""
        return await self.peek(table, keys)

    async def claim(self, table: Table[R], rows: Sequence[R]) -> Sequence[Key]:
        """Insert what does not exist."""
        own = self._own(table.name)
        won = [table.key_of(row) for row in rows if table.key_of(row) not in own]
        own.update({table.key_of(row): row for row in rows if table.key_of(row) not in own})
        return won

    async def children(self, child: ChildSet[R], parents: Sequence[str]) -> Sequence[R]:
        """Rows of the child table whose parent is asked for."""
        wanted = set(parents)
        rows = self._table(child.table.name)
        found = sorted(key for key, row in rows.items() if child.parent(row) in wanted)
        return [rows[key] for key in found]

    async def write(self, changes: Changes) -> None:
        """Apply updates, then inserts, then let go of unused claims."""
        for table, rows in changes.updates.items():
            own = self._own(table.name)
            for row in rows:
                if table.key_of(row) not in own:
                    raise StaleRow(f"{table.name} {table.key_of(row)}")
                own[table.key_of(row)] = row
        for table, rows in changes.inserts.items():
            own = self._own(table.name)
            for row in rows:
                if table.key_of(row) in own:
                    if table.name == GROUP_COMMITS.name:
                        raise TransactionConflict("this group was settled as lost")
                    raise ConstraintError(f"{table.name}_pkey", str(table.key_of(row)))
                own[table.key_of(row)] = row
        for table, keys in changes.released.items():
            own = self._own(table.name)
            for key in keys:
                own.pop(key, None)
        self._store.check_unique(self._written)

    async def commit(self) -> None:
        """Make the written tables the store's."""
        if not self._ended:
            self._store.tables.update(self._written)
        self._end()

    async def rollback(self) -> None:
        """Forget what was written; nothing to do once the transaction has ended."""
        self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._written = {}
        self._lock.release()

    def _table(self, name: str) -> Rows:
        written = self._written.get(name)
        return self._store.tables.get(name, {}) if written is None else written

    def _own(self, name: str) -> Rows:
        if name not in self._written:
            self._written[name] = dict(self._store.tables.get(name, {}))
        return self._written[name]
