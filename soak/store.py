"""The twin behind faults: slow, away, in conflict, and with COMMIT's answer lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from bursar.engine.errors import CommitUnknown, DatabaseAway, TransactionConflict
from bursar.engine.memory import MemoryStore
from bursar.engine.model import ChildSet, Key, Row, Table
from bursar.engine.store import Session, Store
from bursar.engine.working_set import Changes
from bursar.ledger.model import ACCOUNTS
from bursar.payouts.memory import MemoryReads
from bursar.payouts.model import Attempt
from bursar.payouts.store import PayoutReads

R = TypeVar("R", bound=Row)
T = TypeVar("T")


class Commit:
    """What one transaction wrote. The checker reads it when it is in the database."""

    def __init__(self, node: str, now: datetime) -> None:
        self.node = node
        self.now = now
        self.inserted: list[tuple[Table[Any], Any]] = []
        self.updated: list[tuple[Table[Any], Any, Any]] = []
        """(table, before, after)."""


class Process(Protocol):
    """The process that uses the store: whether it lives, and its luck."""

    alive: bool

    @property
    def label(self) -> str:
        """The name of this life of the process."""
        ...

    def strikes(self, fault: str) -> bool:
        """Whether this fault happens now."""
        ...

    async def latency(self) -> None:
        """Wait for the network and the server."""
        ...

    async def forever(self) -> None:
        """Never return, if the process is dead; else at once."""
        ...

    async def limbo(self) -> None:
        """Wait as long as the server takes to see that nobody listens."""
        ...


class Founder:
    """The process that lays the ground before anything can go wrong. Implements `Process`."""

    alive = True
    label = "found"

    def strikes(self, _fault: str) -> bool:
        """Never."""
        return False

    async def latency(self) -> None:
        """None."""

    async def forever(self) -> None:
        """It lives."""

    async def limbo(self) -> None:
        """None."""


class TwinPool:
    """Answers the one read that the API makes before a write: a merchant's accounts."""

    def __init__(self, memory: MemoryStore) -> None:
        self._memory = memory

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[TwinPool]:
        """Itself: the twin has no connections."""
        yield self

    async def fetch(self, _sql: str, merchant: str) -> list[tuple[Any, ...]]:
        """The accounts as rows of `accounts_of_merchant`."""
        rows = self._memory.tables[ACCOUNTS.name].values()
        return [msgspec.structs.astuple(row) for row in rows if row.merchant_id == merchant]


class Database:
    """The one database of a schedule: the twin.

    `on_commit` sees every transaction that took effect. `memory` has the committed rows, also
    in a subclass over another store.
    """

    def __init__(self, memory: MemoryStore) -> None:
        self.memory = memory
        self.on_commit: Callable[[Commit], None] = lambda _commit: None
        self.sessions: set[NodeSession] = set()
        self.store: Store = memory
        self.reads: PayoutReads = MemoryReads(memory)
        self.pool: Any = TwinPool(memory)

    async def begin(self, _process: Process, *, patience_s: float | None) -> Session:
        """Start a transaction; its time is read before it waits for others, as in Postgres."""
        now = self.memory.clock.wall()
        session = await self.memory.begin(patience_s=patience_s)
        session.now = now
        return session

    async def finish(self, session: Session, commit: Commit) -> None:
        """Commit."""
        await session.commit()
        self.on_commit(commit)

    async def cut(self, session: Session) -> None:
        """End a transaction whose process is gone."""
        await session.rollback()

    async def passed_over(
        self, _queue: str, _limit: int, _arguments: Mapping[str, Any], _due: Sequence[str]
    ) -> bool:
        """Whether something due was not in the answer, since somebody had it locked."""
        return False


class NodeStore:
    """The database as one process meets it. Implements `Store`."""

    def __init__(
        self, database: Database, process: Process, *, on_away: Callable[[str], None]
    ) -> None:
        """`on_away` is told of a queue that could not be read: it has to be polled again."""
        self.database = database
        self.process = process
        self._on_away = on_away

    async def begin(self, *, patience_s: float | None = None) -> NodeSession:
        """Start a transaction."""
        process = self.process
        await process.latency()
        if process.strikes("db.away"):
            raise DatabaseAway("no connection")
        session = await self.database.begin(process, patience_s=patience_s)
        if not process.alive:
            await session.rollback()
            await process.forever()
        own = NodeSession(self, session)
        self.database.sessions.add(own)
        return own

    async def entomb(self, group_id: str) -> bool:
        """Settle a lost commit; the answer may be lost too."""
        process = self.process
        await process.latency()
        if process.strikes("db.away"):
            raise DatabaseAway("no connection")
        committed = await self.database.store.entomb(group_id)
        await process.forever()
        if process.strikes("db.tombstone_unheard"):
            raise DatabaseAway("the connection was lost")
        return committed

    async def take_due(self, queue: str, limit: int, arguments: Mapping[str, Any]) -> list[str]:
        """Due keys."""
        process = self.process
        await process.latency()
        if process.strikes("db.away"):
            self._on_away(queue)
            raise DatabaseAway("no connection")
        due = await self.database.store.take_due(queue, limit, arguments)
        if await self.database.passed_over(queue, limit, arguments, due):
            self._on_away(queue)
        await process.latency()
        return due


class NodeSession:
    """A transaction of one process. Implements `Session`."""

    def __init__(self, store: NodeStore, session: Session) -> None:
        self._store = store
        self._process = store.process
        self._session = session
        self.commit_state = Commit(store.process.label, session.now)
        self.now = session.now
        self._claimed: dict[tuple[str, Key], tuple[Table[Any], Any]] = {}
        self.committing = False
        self.limbo = False

    async def peek(self, table: Table[R], keys: Sequence[Key]) -> Sequence[R]:
        """As the store."""
        return await self._alive(self._session.peek(table, keys))

    async def lock(self, table: Table[R], keys: Sequence[Key]) -> Sequence[R]:
        """As the store."""
        return await self._alive(self._session.lock(table, keys))

    async def claim(self, table: Table[R], rows: Sequence[R]) -> Sequence[Key]:
        """As the store."""
        won = await self._alive(self._session.claim(table, rows))
        for row in rows:
            key = table.key_of(row)
            if key in won:
                self._claimed[table.name, key] = (table, row)
        return won

    async def children(self, child: ChildSet[R], parents: Sequence[str]) -> Sequence[R]:
        """As the store."""
        return await self._alive(self._session.children(child, parents))

    async def write(self, changes: Changes) -> None:
        """As the store, after a while; may meet a conflict."""
        await self._process.latency()
        if self._process.strikes("db.conflict"):
            raise TransactionConflict("deadlock detected")
        seen = self.commit_state
        tables = self._store.database.memory.tables
        for table, rows in changes.updates.items():
            before = tables.get(table.name, {})
            for row in rows:
                key = table.key_of(row)
                if (table.name, key) in self._claimed:
                    self._claimed[table.name, key] = (table, row)
                else:
                    seen.updated.append((table, before.get(key), row))
        for table, keys in changes.released.items():
            for key in keys:
                self._claimed.pop((table.name, key), None)
        seen.inserted.extend(self._claimed.values())
        seen.inserted.extend(
            (table, row) for table, rows in changes.inserts.items() for row in rows
        )
        await self._alive(self._session.write(changes))

    async def _alive(self, answer: Awaitable[T]) -> T:
        """The server's answer, if its process still lives to hear it."""
        try:
            return await answer
        finally:
            await self._process.forever()

    async def commit(self) -> None:
        """Commit; or be refused; or take effect, or not, while the answer is lost."""
        process = self._process
        self.committing = True
        await process.latency()
        if process.strikes("db.refused_commit"):
            await self.end(applied=False)
            raise TransactionConflict("could not serialize access")
        if process.strikes("db.cut_applied"):
            self._later(applied=True)
            raise CommitUnknown("the connection was lost")
        if process.strikes("db.cut_lost"):
            self._later(applied=False)
            raise CommitUnknown("the connection was lost")
        await self.end(applied=True)
        await process.latency()

    async def rollback(self) -> None:
        """Give up; of a dead process's transaction the server disposes."""
        await self._process.forever()
        if not self.committing:
            await self.end(applied=False)

    def _later(self, *, applied: bool) -> None:
        """The server finishes what it was told a while after nobody listens any more."""
        self.limbo = True
        asyncio.get_running_loop().create_task(self._end_later(applied=applied))

    async def _end_later(self, *, applied: bool) -> None:
        await self._process.limbo()
        await self.end(applied=applied)

    async def end(self, *, applied: bool) -> None:
        """The transaction's end in the database, once."""
        database = self._store.database
        if self not in database.sessions:
            return
        database.sessions.discard(self)
        if applied:
            await database.finish(self._session, self.commit_state)
        elif self.limbo or not self._process.alive:
            await database.cut(self._session)
        else:
            await self._session.rollback()


class NodeReads:
    """Reads between commands. Implements `PayoutReads`."""

    def __init__(self, database: Database, process: Process) -> None:
        self._reads = database.reads
        self._process = process

    async def attempt_now(self, attempt_id: str) -> tuple[Attempt, str, datetime] | None:
        """As the store."""
        await self._process.latency()
        if self._process.strikes("db.away"):
            raise OSError("no connection")
        found = await self._reads.attempt_now(attempt_id)
        await self._process.latency()
        return found

    async def inbox_body(self, provider: str, event_id: str) -> str | None:
        """As the store."""
        await self._process.latency()
        if self._process.strikes("db.away"):
            raise OSError("no connection")
        return await self._reads.inbox_body(provider, event_id)
