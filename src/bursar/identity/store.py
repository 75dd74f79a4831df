"""Reads of identity, and the short memory of which keys are valid."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import msgspec

from bursar.db.pool import Pool
from bursar.db.queries import load_queries
from bursar.identity.model import Principal, Role
from bursar.kit.clock import Clock

QUERIES = load_queries(__file__)

TTL_S: Final = 0.5
"""How long a valid key is believed without asking: a revoked one is refused within a second."""

ASK_DEADLINE_S: Final = 5.0
_REMEMBERED_MAX: Final = 10_000

FindPrincipal = Callable[[bytes], Awaitable[Principal | None]]
"""Who is behind the key with this hash; None if no key has it, or it is expired or revoked."""


class KeyLine(msgspec.Struct, frozen=True):
    """A key for a list: everything but what it is made of."""

    id: str
    prefix: str
    merchant_id: str | None
    person_id: str
    person_name: str
    role: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class MerchantLine(msgspec.Struct, frozen=True):
    """A merchant for a list. The fee is in basis points of a payout's amount."""

    id: str
    name: str
    payout_fee_bps: int
    currencies: list[str]
    created_at: datetime


async def find_principal(pool: Pool, key_hash: bytes) -> Principal | None:
    """Who is behind a key, by the database's clock. Raises the driver's errors."""
    row = await pool.fetchrow(QUERIES["principal_of_key"], key_hash)
    if row is None:
        return None
    person_id, key_id, role, merchant_id, payout_fee_bps = row
    return Principal(person_id, key_id, Role(role), merchant_id, payout_fee_bps)


async def works_for(pool: Pool, person_id: str, merchant_id: str | None) -> bool:
    """Whether a person has a valid key of the merchant; of the platform if that is None."""
    found: bool = await pool.fetchval(QUERIES["works_for"], person_id, merchant_id)
    return found


async def list_api_keys(pool: Pool, merchant_id: str | None) -> list[KeyLine]:
    """The keys of one merchant, or of all, oldest first."""
    rows = await pool.fetch(QUERIES["list_api_keys"], merchant_id)
    return [KeyLine(*row) for row in rows]


async def list_merchants(pool: Pool) -> list[MerchantLine]:
    """All merchants with the currencies they have accounts in, oldest first."""
    return [MerchantLine(*row) for row in await pool.fetch(QUERIES["list_merchants"])]


class KeyCache:
    """Remembers valid keys for `TTL_S`.

    Many requests with one key ask the database once. Unknown keys are asked for each time: keys
    made up by the thousand push out no real ones.
    """

    def __init__(self, find: FindPrincipal, clock: Clock) -> None:
        """`find` asks the database; `clock` measures the memory."""
        self._find = find
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._asked: dict[bytes, tuple[float, asyncio.Task[Principal | None]]] = {}

    async def find(self, key_hash: bytes) -> Principal | None:
        """Who is behind a key, at most `TTL_S` out of date.

        Raises the driver's errors, and TimeoutError after `ASK_DEADLINE_S`.
        """
        now = self._clock.monotonic()
        known = self._known.get(key_hash)
        if known is not None and now - known[0] < TTL_S:
            return known[1]
        asked = self._asked.get(key_hash)
        if asked is None or now - asked[0] >= TTL_S:
            asked = (now, asyncio.create_task(self._ask(key_hash, now)))
            self._asked[key_hash] = asked
        # Whoever asked first may go away; the others still wait for the answer.
        return await asyncio.shield(asked[1])

    async def _ask(self, key_hash: bytes, asked_at: float) -> Principal | None:
        try:
            async with asyncio.timeout(ASK_DEADLINE_S):
                principal = await self._find(key_hash)
        finally:
            asked = self._asked.get(key_hash)
            if asked is not None and asked[0] == asked_at:
                del self._asked[key_hash]
        self._known.pop(key_hash, None)
        if principal is not None:
            # The age counts from the question: what is revoked after it can't be believed longer.
            self._known[key_hash] = (asked_at, principal)
            if len(self._known) > _REMEMBERED_MAX:
                self._known.popitem(last=False)
        return principal
