"""The second baseline: one set-based statement per table, written by hand, on one connection.

All columns are built before the clock starts, so the baseline is charged for the driver and the
database only: no decision, no hash, no JSON. It inserts the final key and reply at once, where
the engine claims first and fills in later; it takes no locks and records no group.
"""

from typing import Any

import asyncpg

from bench.recorded import Recorded, columns, record_groups
from bench.stopwatch import Stopwatch
from bench.workload import stream
from bursar.bootstrap import QUERIES
from bursar.db.connection import connect
from bursar.engine.model import GROUP_COMMITS, IDEMPOTENCY_KEYS

Statement = tuple[str, list[list[Any]]]
_WARM_GROUPS = 10


def _statements(recorded: Recorded) -> list[Statement]:
    """What one group comes to, in the order in which the engine writes."""
    changes = recorded.changes
    found: list[Statement] = []
    for table, rows in recorded.claimed.items():
        final = changes.updates.get(table, rows)
        found.append((f"claim_{table.name}", columns(sorted(final, key=table.key_of))))
    for table, rows in sorted(changes.updates.items(), key=lambda item: item[0].rank):
        if table is not IDEMPOTENCY_KEYS:
            found.append((f"update_{table.name}", columns(sorted(rows, key=table.key_of))))
    for table, rows in sorted(changes.inserts.items(), key=lambda item: item[0].rank):
        if table is not GROUP_COMMITS:
            found.append((f"insert_{table.name}", columns(rows)))
    return found


async def rate(dsn: str, merchants: tuple[str, ...], *, group: int, payouts: int) -> float:
    """Payouts per second in groups of `group`, on one connection, warmed up before."""
    connection = await connect(dsn, name="bench sets")
    try:
        commands = stream(merchants, _WARM_GROUPS * group + payouts)
        recorded = await record_groups(connection, commands, size=group, chained=True)
        groups = [_statements(each) for each in recorded]
        for statements in groups[:_WARM_GROUPS]:
            await _run(connection, statements)
        watch = Stopwatch()
        for statements in groups[_WARM_GROUPS:]:
            await _run(connection, statements)
        return payouts / watch.seconds()
    finally:
        await connection.close()


async def _run(connection: asyncpg.Connection, statements: list[Statement]) -> None:
    await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    for name, arguments in statements:
        await connection.fetch(QUERIES[name], *arguments)
    await connection.execute("COMMIT")
