"""The rows that the engine itself decides for a payout, recorded without writing them.

The baselines write these very rows, so they can't drift from what the product stores.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast

import asyncpg
import msgspec

from bursar.bootstrap import QUERIES, RULES
from bursar.engine.group import Submission, execute_group
from bursar.engine.model import ChildSet, Key, Row, Table
from bursar.engine.working_set import Changes
from bursar.kit.ids import SystemIds
from bursar.payouts.commands import CreatePayout

_ids = SystemIds()
Claimed = dict[Table[Any], Sequence[Row]]


class Recorded(msgspec.Struct, frozen=True):
    """What a group claimed, what it found when it locked, and what it would have written."""

    claimed: Claimed
    locked: dict[Table[Any], list[Any]]
    changes: Changes


class _Recorder:
    """A session that reads each row once; `chained` groups see what the one before wrote."""

    def __init__(self, connection: asyncpg.Connection, now: datetime, *, chained: bool) -> None:
        self.now = now
        self._connection = connection
        self._chained = chained
        self._rows: dict[tuple[str, Key], Any] = {}
        self._claimed: Claimed = {}
        self._locked: dict[Table[Any], list[Any]] = {}
        self._changes: Changes | None = None

    async def record(self, commands: Sequence[CreatePayout]) -> Recorded:
        """Decide a group."""
        self._claimed, self._locked = {}, {}
        submissions = [Submission(command) for command in commands]
        await execute_group(submissions, self, group_id="", ids=_ids, rules=RULES)
        return Recorded(self._claimed, self._locked, cast("Changes", self._changes))

    async def peek(self, table: Table[Any], keys: Sequence[Key]) -> Sequence[Any]:
        return await self.lock(table, keys)

    async def claim(self, table: Table[Any], rows: Sequence[Row]) -> Sequence[Key]:
        self._claimed[table] = rows
        return [table.key_of(row) for row in rows]

    async def lock(self, table: Table[Any], keys: Sequence[Key]) -> Sequence[Any]:
        missing = [key for key in keys if (table.name, key) not in self._rows]
        if missing:
            for record in await self._connection.fetch(QUERIES[f"lock_{table.name}"], missing):
                row = table.load(*record)
                self._rows[table.name, table.key_of(row)] = row
        self._locked[table] = [self._rows[table.name, key] for key in keys]
        return self._locked[table]

    async def children(self, child: ChildSet[Any], _parents: Sequence[str]) -> Sequence[Any]:
        raise NotImplementedError(child.name)

    async def write(self, changes: Changes) -> None:
        self._changes = changes
        if not self._chained:
            return
        for table, rows in changes.updates.items():
            for row in rows:
                self._rows[table.name, table.key_of(row)] = row

    async def commit(self) -> None:
        """Nothing to do."""

    async def rollback(self) -> None:
        """Nothing to do."""


async def record_groups(
    connection: asyncpg.Connection, commands: Iterable[CreatePayout], *, size: int, chained: bool
) -> list[Recorded]:
    """Groups of `size`, decided in turn. `chained`: each sees what the one before wrote."""
    now = await connection.fetchval(QUERIES["transaction_time"])
    recorder = _Recorder(connection, now, chained=chained)
    waiting = list(commands)
    return [
        await recorder.record(waiting[start : start + size])
        for start in range(0, len(waiting), size)
    ]


def columns(rows: Iterable[Row]) -> list[list[Any]]:
    """Rows as the columns that `unnest` takes."""
    return [list(column) for column in zip(*map(msgspec.structs.astuple, rows), strict=True)]
