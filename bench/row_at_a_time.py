"""The first baseline: the very statements of the product, one transaction per payout.

What a careful service without groups would do: claim the key and the reference, lock the
accounts and the journal's head, write, commit. It is spared what costs the engine time: the
rows are decided before the clock starts, and only the numbers that depend on a lock (counters
and places in the journal) are set by it; its hash is prebuilt; it records no group.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import msgspec

from bench.recorded import Recorded, columns, record_groups
from bench.stopwatch import Stopwatch
from bench.workload import stream
from bursar.bootstrap import QUERIES
from bursar.db.connection import connect
from bursar.engine.model import (
    GROUP_COMMITS,
    JOURNAL,
    JOURNAL_HEADS,
    JOURNAL_LINKS,
    JournalHead,
    Row,
    Table,
)
from bursar.ledger.model import ACCOUNTS, TRANSFERS, Account

_set = msgspec.structs.replace
_COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


class Prepared(msgspec.Struct, frozen=True):
    """One payout's rows, and how far each account's counters move."""

    rows: Recorded
    moves: dict[str, tuple[int, ...]]


async def prepare(
    connection: asyncpg.Connection, merchants: tuple[str, ...], payouts: int
) -> list[Prepared]:
    """Decide `payouts` new payouts, each for itself."""
    commands = stream(merchants, payouts)
    recorded = await record_groups(connection, commands, size=1, chained=False)
    return [Prepared(rows, _moves(rows)) for rows in recorded]


def _moves(rows: Recorded) -> dict[str, tuple[int, ...]]:
    before = {account.address: account for account in rows.locked[ACCOUNTS]}
    return {
        after.address: tuple(
            getattr(after, name) - getattr(before[after.address], name) for name in _COUNTERS
        )
        for after in rows.changes.updates[ACCOUNTS]
    }


async def create(connection: asyncpg.Connection, payout: Prepared) -> None:
    """One payout in one transaction. Raises the driver's errors."""
    await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    try:
        await _write(connection, payout)
    except BaseException:
        await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


async def _write(connection: asyncpg.Connection, payout: Prepared) -> None:
    async def run(kind: str, table: Table[Any], rows: Any) -> None:
        await connection.fetch(QUERIES[f"{kind}_{table.name}"], *columns(rows))

    rows, changes = payout.rows, payout.rows.changes
    await connection.fetchval(QUERIES["transaction_time"])
    for table, claimed in rows.claimed.items():
        await run("claim", table, claimed)
    addresses = sorted(payout.moves)
    locked = await connection.fetch(QUERIES["lock_accounts"], addresses)
    merchants = [head.merchant_id for head in rows.locked[JOURNAL_HEADS]]
    (record,) = await connection.fetch(QUERIES["lock_journal_heads"], merchants)
    head = JournalHead(*record)
    for table in sorted(changes.updates, key=lambda table: table.rank):
        if table is ACCOUNTS:
            moved = [_moved(Account(*each), payout.moves) for each in locked]
            await run("update", table, moved)
        else:
            await run("update", table, _placed(table, changes.updates[table], head))
    for table in sorted(changes.inserts, key=lambda table: table.rank):
        if table is not GROUP_COMMITS:
            await run("insert", table, _placed(table, changes.inserts[table], head))


def _moved(account: Account, moves: dict[str, tuple[int, ...]]) -> Account:
    move = moves[account.address]
    return _set(
        account,
        **{name: getattr(account, name) + by for name, by in zip(_COUNTERS, move, strict=True)},
    )


def _placed(table: Table[Any], rows: list[Any], head: JournalHead) -> list[Any]:
    """The rows with their place in the journal behind the locked head."""
    place = _PLACES.get(table)
    return rows if place is None else [place(row, head) for row in rows]


_PLACES: dict[Table[Any], Callable[[Any, JournalHead], Row]] = {
    JOURNAL: lambda row, head: _set(row, seq=head.seq + 1),
    TRANSFERS: lambda row, head: _set(row, journal_seq=head.seq + 1),
    JOURNAL_HEADS: lambda row, head: _set(row, seq=head.seq + 1, link_seq=head.link_seq + 1),
    JOURNAL_LINKS: lambda row, head: _set(
        row,
        link_seq=head.link_seq + 1,
        first_seq=head.seq + 1,
        last_seq=head.seq + 1,
        previous_hash=head.hash,
    ),
}


async def rate(dsn: str, merchants: tuple[str, ...], *, connections: int, payouts: int) -> float:
    """Payouts per second over `connections` at once, each warmed up before."""
    lent = [await connect(dsn, name="bench rows") for _ in range(connections)]
    try:
        warm = min(connections * 8, payouts)
        await _run(lent, iter(await prepare(lent[0], merchants, warm)))
        prepared = iter(await prepare(lent[0], merchants, payouts))
        watch = Stopwatch()
        await _run(lent, prepared)
        return payouts / watch.seconds()
    finally:
        for connection in lent:
            await connection.close()


async def _run(lent: list[asyncpg.Connection], payouts: Iterator[Prepared]) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        for payout in payouts:
            await create(connection, payout)

    await asyncio.gather(*map(work, lent))


async def latencies(dsn: str, merchants: tuple[str, ...], *, payouts: int) -> list[float]:
    """Seconds of each of `payouts` made one after the other."""
    connection = await connect(dsn, name="bench rows")
    try:
        await _run([connection], iter(await prepare(connection, merchants, min(20, payouts))))
        prepared = await prepare(connection, merchants, payouts)
        seconds = []
        for payout in prepared:
            watch = Stopwatch()
            await create(connection, payout)
            seconds.append(watch.seconds())
        return seconds
    finally:
        await connection.close()
