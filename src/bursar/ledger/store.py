"""Reading the ledger. Writing goes through commands only."""

from __future__ import annotations

from bursar.db.pool import Pool
from bursar.db.queries import load_queries
from bursar.ledger.model import Account, Transfer

QUERIES = load_queries(__file__)


async def list_accounts(pool: Pool, merchant_id: str) -> list[Account]:
    """All accounts of a merchant, by currency and role."""
    async with pool.acquire() as connection:
        records = await connection.fetch(QUERIES["accounts_of_merchant"], merchant_id)
    return [Account(*record) for record in records]


async def list_transfers(pool: Pool, merchant_id: str, ref: str) -> list[Transfer]:
    """The transfers about a payout, by its id or its reference, in the order they were made."""
    async with pool.acquire() as connection:
        records = await connection.fetch(QUERIES["transfers_of_subject"], merchant_id, ref)
    return [Transfer(*record) for record in records]
