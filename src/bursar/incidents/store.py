"""Reading incidents. Writing goes through commands only."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from bursar.db.pool import Pool
from bursar.db.queries import load_queries
from bursar.incidents.model import Incident

QUERIES = load_queries(__file__)

_BEFORE_ALL = (datetime(9999, 12, 31, tzinfo=UTC), "")


class IncidentFilter(msgspec.Struct, frozen=True):
    """Which incidents to list; None does not filter. `after` is (opened_at, id) of the last row."""

    is_open: bool | None = None
    kind: str | None = None
    after: tuple[datetime, str] | None = None


async def list_incidents(
    pool: Pool, merchant_id: str, wanted: IncidentFilter, *, limit: int
) -> list[Incident]:
    """At most `limit` incidents of a merchant, or of the platform, newest first."""
    after_at, after_id = wanted.after or _BEFORE_ALL
    match wanted.is_open:
        case None:
            statement = QUERIES["list_incidents"]
        case True:
            statement = QUERIES["list_open_incidents"]
        case _:
            statement = QUERIES["list_closed_incidents"]
    async with pool.acquire() as connection:
        records = await connection.fetch(
            statement, merchant_id, after_at, after_id, wanted.kind, limit
        )
    return [Incident(*record) for record in records]
