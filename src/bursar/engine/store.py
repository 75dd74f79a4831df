"""What the engine asks of a database. Postgres and the in-memory twin both answer it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from bursar.engine.model import ChildSet, Key, Row, Table
from bursar.engine.working_set import Changes

R = TypeVar("R", bound=Row)


class Session(Protocol):
    """One transaction. Every method may raise `TransactionConflict` or `ConstraintError`."""

    @property
    def now(self) -> datetime:
        """The database's time, read once when the transaction began."""
        ...

    async def peek(self, table: Table[R], keys: Sequence[Key]) -> Sequence[R]:
        """Rows by key, without locks: only their never-changing columns may be trusted."""
        ...

    async def claim(self, table: Table[R], rows: Sequence[R]) -> Sequence[Key]:
        """Insert in key order what does not exist; waits for rivals. Returns the keys won."""
        ...

    async def lock(self, table: Table[R], keys: Sequence[Key]) -> Sequence[R]:
        """Rows by key, locked in key order until the end of the transaction."""
        ...

    async def children(self, child: ChildSet[R], parents: Sequence[str]) -> Sequence[R]:
        """The children of locked parents, in key order."""
        ...

    async def write(self, changes: Changes) -> None:
        """Write everything, one statement per table: updates (each counted), then inserts.

        Raises `StaleRow` if an update misses a row.
        """
        ...

    async def commit(self) -> None:
        """Make it durable. Raises `CommitUnknown` if the answer was lost."""
        ...

    async def rollback(self) -> None:
        """Give up. Never raises."""
        ...


class Store(Protocol):
    """A database that runs groups."""

    async def begin(self, *, patience_s: float | None = None) -> Session:
        """Start a transaction. Raises `TransactionConflict` if no connection can be had.

        It waits `patience_s` for each row that another has locked, then raises `RowHeld`; None:
        as long as its role may.
        """
        ...

    async def entomb(self, group_id: str) -> bool:
        """Settle an unknown commit: True if the group had committed, False if it never can.

        Inserts the group's id from a new connection, which waits for the old transaction.
        Raises `TransactionConflict` while the database can't be reached.
        """
        ...

    async def take_due(self, queue: str, limit: int, arguments: Mapping[str, Any]) -> list[str]:
        """Keys of the rows due in `queue`, first come first; locks nothing beyond the call."""
        ...
