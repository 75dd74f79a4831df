"""Reading payouts. Writing goes through commands only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

import msgspec

from bursar.db.pool import Pool
from bursar.db.queries import load_queries
from bursar.engine import queries as engine_queries
from bursar.payouts.model import Attempt, Payout

QUERIES = load_queries(__file__)

_BEFORE_ALL = (datetime(9999, 12, 31, tzinfo=UTC), "")


class HistoryLine(msgspec.Struct, frozen=True):
    """One journal entry about a payout. `body` is canonical JSON."""

    seq: int
    kind: str
    actor: str
    correlation_id: str
    at: datetime
    body: str


class PayoutDetail(msgspec.Struct, frozen=True):
    """A payout with its attempts, oldest first, and its journal."""

    payout: Payout
    attempts: list[Attempt]
    history: list[HistoryLine]


class PayoutFilter(msgspec.Struct, frozen=True):
    """Which payouts to list; None does not filter. `after` is (created_at, id) of the last row."""

    state: str | None = None
    reference: str | None = None
    ids: list[str] | None = None
    after: tuple[datetime, str] | None = None


async def list_payouts(
    pool: Pool, merchant_id: str, wanted: PayoutFilter, *, limit: int
) -> list[Payout]:
    """At most `limit` payouts of a merchant, newest first.

    Named by ids or reference they come whole, in one page.
    """
    if wanted.ids is not None or wanted.reference is not None:
        found = await _named(pool, merchant_id, wanted)
        if wanted.after is not None:
            found = [row for row in found if (row.created_at, row.id) < wanted.after]
        return found[:limit]
    after_at, after_id = wanted.after or _BEFORE_ALL
    async with pool.acquire() as connection:
        if wanted.state is None:
            records = await connection.fetch(
                QUERIES["list_payouts"], merchant_id, after_at, after_id, limit
            )
        else:
            records = await connection.fetch(
                QUERIES["list_payouts_in_state"],
                merchant_id,
                after_at,
                after_id,
                wanted.state,
                limit,
            )
    return [Payout(*record) for record in records]


async def _named(pool: Pool, merchant_id: str, wanted: PayoutFilter) -> list[Payout]:
    async with pool.acquire() as connection:
        ids = wanted.ids
        if wanted.reference is not None:
            payout_id = await connection.fetchval(
                QUERIES["payout_id_of_reference"], merchant_id, wanted.reference
            )
            ids = [payout_id] if payout_id and (ids is None or payout_id in ids) else []
        records = await connection.fetch(
            QUERIES["list_payouts_by_id"], merchant_id, ids, wanted.state
        )
    return [Payout(*record) for record in records]


async def get_payout_detail(pool: Pool, merchant_id: str, payout_id: str) -> PayoutDetail | None:
    """A merchant's payout with attempts and history; None if the merchant has no such payout."""
    async with pool.acquire() as connection:
        record = await connection.fetchrow(QUERIES["payout_of_merchant"], merchant_id, payout_id)
        if record is None:
            return None
        attempts = await connection.fetch(QUERIES["attempts_of_payout"], payout_id)
        history = await connection.fetch(
            engine_queries.QUERIES["journal_of_subject"], merchant_id, payout_id
        )
    return PayoutDetail(
        Payout(*record),
        [Attempt(*row) for row in attempts],
        [HistoryLine(*row) for row in history],
    )


class PayoutReads(Protocol):
    """What the worker reads between commands, with no lock kept."""

    async def attempt_now(self, attempt_id: str) -> tuple[Attempt, str, datetime] | None:
        """An attempt, its payout's correlation id and the database's time, read together."""
        ...

    async def inbox_body(self, provider: str, event_id: str) -> str | None:
        """The raw body of a stored event."""
        ...


class PostgresReads:
    """Implements `PayoutReads`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def attempt_now(self, attempt_id: str) -> tuple[Attempt, str, datetime] | None:
        """See `PayoutReads`."""
        async with self._pool.acquire() as connection:
            record = await connection.fetchrow(QUERIES["attempt_now"], attempt_id)
        if record is None:
            return None
        *columns, correlation_id, now = record
        return Attempt(*columns), correlation_id, now

    async def inbox_body(self, provider: str, event_id: str) -> str | None:
        """See `PayoutReads`."""
        async with self._pool.acquire() as connection:
            body: str | None = await connection.fetchval(QUERIES["inbox_body"], provider, event_id)
        return body
