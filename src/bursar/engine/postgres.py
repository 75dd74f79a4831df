"""The engine's store on Postgres, over asyncpg. Read committed; row locks carry the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

import asyncpg
import msgspec

from bursar.db.connection import CONNECTION_ERRORS
from bursar.db.pool import Pool
from bursar.engine.errors import (
    CommitUnknown,
    ConstraintError,
    DatabaseAway,
    RowHeld,
    StaleRow,
    TransactionConflict,
)
from bursar.engine.model import GROUP_COMMITS, ChildSet, GroupCommit, Key, Row, Table
from bursar.engine.working_set import Changes

R = TypeVar("R", bound=Row)

_RETRY = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.QueryCanceledError,
)
_AWAY: tuple[type[Exception], ...] = (
    *CONNECTION_ERRORS,
    asyncpg.DatabaseDroppedError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresIOError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""No command is at fault and none can do better alone: the server goes, its disk or memory is full,
or it became a standby."""
COMMIT_DEADLINE_S = 10.0
REPLAN_ROWS_FIRST = 64
REPLAN_ROWS_LAST = 1 << 22
"""Plans are made anew when this store has inserted so many rows, and at each doubling: a plan made
for a nearly empty table reads all of it. By itself it would end only with an ANALYZE of the table,
or when the driver prepares the statement again (`STATEMENT_LIFETIME_S` of db/pool.py): that is
minutes of a young database at full load. Beyond the last, no plan changes with size any more."""
COPY_ROWS_MIN = 32
"""From so many rows on COPY takes a third less time than INSERT over arrays; it costs a round trip
more, so fewer go by INSERT."""


def _translated(error: Exception) -> Exception:
    """An asyncpg error as the engine's: away, conflict, constraint, or the error itself."""
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return ConstraintError(error.constraint_name or "unnamed", str(error))
    if isinstance(error, _AWAY):
        return DatabaseAway(f"{type(error).__name__}: {error}")
    if isinstance(error, asyncpg.LockNotAvailableError):
        return RowHeld(str(error))
    if isinstance(error, _RETRY):
        return TransactionConflict(f"{type(error).__name__}: {error}")
    return error


def _columns(rows: Sequence[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*map(msgspec.structs.astuple, rows), strict=True)]


def _key_columns(table: Table[Any], keys: Sequence[Key]) -> list[list[str]]:
    if len(table.key) == 1:
        return [[str(key) for key in keys]]
    return [list(column) for column in zip(*keys, strict=True)]


class PostgresStore:
    """Implements `Store`. `queries` are the named statements of all contexts, merged."""

    def __init__(self, pool: Pool, queries: Mapping[str, str]) -> None:
        """Takes its connections from `pool`: one at a time for groups."""
        self._pool = pool
        self._queries = queries
        self._inserted = 0
        self._replan_at = REPLAN_ROWS_FIRST
        self._age = 0
        self._planned: dict[int, int] = {}

    async def begin(self, *, patience_s: float | None = None) -> PostgresSession:
        """Open a transaction and read the database's time. See `Store`."""
        try:
            connection = await self._pool.acquire()
        except Exception as error:
            raise _translated(error) from error
        session = PostgresSession(self._pool, connection, self._queries, self._count)
        try:
            await self._replan(connection)
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            session.now = await connection.fetchval(self._queries["transaction_time"])
            if patience_s is not None:
                limit = f"{max(1, round(patience_s * 1000))}ms"
                await connection.fetchval(self._queries["wait_for_locks"], limit)
        except Exception as error:
            await session.rollback()
            raise _translated(error) from error
        except BaseException:
            await session.rollback()
            raise
        return session

    def _count(self, rows: int) -> None:
        self._inserted += rows
        while self._inserted >= self._replan_at and self._replan_at <= REPLAN_ROWS_LAST:
            self._replan_at *= 2
            self._age += 1

    async def _replan(self, connection: Any) -> None:
        """Drop the plans of a connection that were made when the tables were much smaller.

        What is kept is a number for each server process ever met: their ids come round again. A
        new one under an old id has no plans, so what is noted of it does no harm.
        """
        pid = connection.get_server_pid()
        if self._planned.get(pid, 0) != self._age:
            await connection.execute("DISCARD PLANS")
            self._planned[pid] = self._age

    async def entomb(self, group_id: str) -> bool:
        """See `Store`. Waits for the lost transaction by its row lock on the group's id."""
        try:
            async with self._pool.acquire() as connection:
                try:
                    return await self._entomb(connection, group_id)
                except asyncpg.ReadOnlySQLTransactionError:
                    connection.terminate()
                    raise
        except Exception as error:
            raise _translated(error) from error

    async def _entomb(self, connection: Any, group_id: str) -> bool:
        tombstone = await connection.fetchval(self._queries["entomb_group"], group_id)
        if tombstone is not None:
            return False
        return bool(await connection.fetchval(self._queries["group_committed"], group_id))

    async def take_due(self, queue: str, limit: int, arguments: Mapping[str, Any]) -> list[str]:
        """See `Store`: runs `due_<queue>(limit, *arguments)`."""
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(self._queries[f"due_{queue}"], limit, *arguments.values())
        return [row[0] for row in rows]


class PostgresSession:
    """Implements `Session` on one connection."""

    now: datetime

    def __init__(
        self,
        pool: Pool,
        connection: Any,
        queries: Mapping[str, str],
        on_insert: Callable[[int], None] = lambda _rows: None,
    ) -> None:
        """The connection, lent by `pool`, goes back at commit or rollback.

        `on_insert` is told of every number of rows inserted.
        """
        self._pool = pool
        self._connection = connection
        self._queries = queries
        self._on_insert = on_insert
        self._ended = False
        self._standby = False

    async def _fetch(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        try:
            rows: list[asyncpg.Record] = await self._connection.fetch(
                self._queries[name], *arguments
            )
        except Exception as error:
            # After a failover the connection leads to the old primary: another may do better.
            self._standby |= isinstance(error, asyncpg.ReadOnlySQLTransactionError)
            raise _translated(error) from error
        return rows

    async def peek(self, table: Table[R], keys: Sequence[Key]) -> Sequence[R]:
        """Runs `peek_<table>`."""
        return await self._load(f"peek_{table.name}", table, keys)

    async def lock(self, table: Table[R], keys: Sequence[Key]) -> Sequence[R]:
        """Runs `lock_<table>`."""
        return await self._load(f"lock_{table.name}", table, keys)

    async def _load(self, name: str, table: Table[R], keys: Sequence[Key]) -> Sequence[R]:
        records = await self._fetch(name, *_key_columns(table, keys))
        load = table.load
        return [load(*record) for record in records]

    async def claim(self, table: Table[R], rows: Sequence[R]) -> Sequence[Key]:
        """Runs `claim_<table>`; returns the keys it inserted."""
        records = await self._fetch(f"claim_{table.name}", *_columns(rows))
        if len(table.key) == 1:
            return [record[0] for record in records]
        return [tuple(record) for record in records]

    async def children(self, child: ChildSet[R], parents: Sequence[str]) -> Sequence[R]:
        """Runs `children_<name>`."""
        records = await self._fetch(f"children_{child.name}", list(parents))
        load = child.table.load
        return [load(*record) for record in records]

    async def write(self, changes: Changes) -> None:
        """One statement per table: updates, then inserts, then unused claims let go."""
        for table, rows in _in_order(changes.updates):
            rows.sort(key=table.key_of)
            updated = await self._fetch(f"update_{table.name}", *_columns(rows))
            if len(updated) != len(rows):
                raise StaleRow(f"{table.name}: {len(updated)} of {len(rows)} rows")
        for table, rows in _in_order(changes.inserts):
            if table is not GROUP_COMMITS:
                await self._insert(table, rows)
        for table, keys in _in_order(changes.released):
            await self._fetch(f"release_{table.name}", *_key_columns(table, keys))
        for commit in changes.inserts.get(GROUP_COMMITS, ()):
            await self._record_commit(commit)

    async def _insert(self, table: Table[R], rows: Sequence[R]) -> None:
        self._on_insert(len(rows))
        if len(rows) < COPY_ROWS_MIN:
            await self._fetch(f"insert_{table.name}", *_columns(rows))
            return
        try:
            await self._connection.copy_records_to_table(
                table.name, columns=table.columns, records=map(msgspec.structs.astuple, rows)
            )
        except Exception as error:
            raise _translated(error) from error

    async def _record_commit(self, commit: GroupCommit) -> None:
        written = await self._fetch("insert_group_commits", commit.group_id, commit.at)
        if not written:
            raise TransactionConflict("another process settled this group as lost")

    async def commit(self) -> None:
        """COMMIT. A lost answer is `CommitUnknown`; a refusal is a conflict."""
        try:
            async with asyncio.timeout(COMMIT_DEADLINE_S):
                status = await self._connection.execute("COMMIT")
        except Exception as error:
            await self._drop()
            if isinstance(error, _RETRY) and not isinstance(error, asyncpg.QueryCanceledError):
                raise _translated(error) from error
            if isinstance(error, asyncpg.IntegrityConstraintViolationError):
                raise _translated(error) from error
            raise CommitUnknown(str(error)) from error
        except BaseException:
            await self._drop()
            raise
        self._ended = True
        # What it ends in is known now: a failure to give the connection back changes nothing.
        with suppress(Exception):
            await self._pool.release(self._connection)
        if status != "COMMIT":
            # The server ends an aborted transaction politely, with a rollback.
            raise TransactionConflict(f"COMMIT was answered {status}")

    async def rollback(self) -> None:
        """ROLLBACK; a connection that can't is dropped, and so is one to a standby."""
        if self._ended:
            return
        if self._standby:
            await self._drop()
            return
        try:
            await self._connection.execute("ROLLBACK")
        except BaseException:  # noqa: BLE001 - whatever happened, the connection is dropped
            await self._drop()
        else:
            self._ended = True
            await self._pool.release(self._connection)

    async def _drop(self) -> None:
        self._ended = True
        with suppress(Exception):
            self._connection.terminate()
            await self._pool.release(self._connection)


def _in_order(by_table: dict[Table[Any], list[Any]]) -> list[tuple[Table[Any], list[Any]]]:
    return sorted(by_table.items(), key=lambda item: item[0].rank)
