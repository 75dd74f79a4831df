"""Books with a payout of every life, made by the engine, and hands that change them.

`live_every_life` needs a database and a file for the anchor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bursar.bootstrap import QUERIES, RULES
from bursar.db.connection import Connection, connect
from bursar.db.pool import Pool, open_pool
from bursar.engine.engine import Engine
from bursar.engine.postgres import PostgresStore
from bursar.engine.verify import Audit, compare
from bursar.kit.clock import SystemClock
from bursar.kit.ids import SystemIds, SystemRandomness
from bursar.payouts.commands import ExpirePayout
from bursar.payouts.inbox import ApplyEvent, ReceiveEvent
from bursar.payouts.verify import audit, checks
from bursar.rails.outcomes import Accepted, Executed, NotExecuted, Unknown
from bursar.rails.port import EventKind, ProviderEvent
from bursar.worker.housekeeping import Sealer
from tests.conftest import Database
from tests.engine.wiring import (
    ORIGIN,
    OTHER,
    SHOP,
    begin,
    cancel,
    create,
    fund,
    new_merchant,
    reply,
)

DECLINED = NotExecuted(code="AC04", reason="closed", retryable=False, sent=True)
REFUSED_FOR_NOW = NotExecuted(code="AM04", reason="our balance", retryable=True, sent=True)
ENTRIES = 86
"""How many journal entries `live_every_life` leaves."""


@dataclass(frozen=True)
class Hand:
    """A superuser for whom no trigger fires, in a transaction that will be rolled back."""

    connection: Connection

    async def change(self, *statements: str) -> None:
        """Run statements of which every one changes something."""
        for statement in statements:
            done = await self.connection.execute(statement)
            assert not done.endswith(" 0"), f"nothing was changed by: {statement}"

    async def disagreement(self, anchor: Path | None = None) -> str:
        """What is found wrong now; empty if nothing is."""
        return (await compare(self.connection, checks(anchor))).disagreement or ""


@dataclass(frozen=True)
class Books:
    """A database with lives in it, and the checkpoints that were exported from it."""

    database: Database
    anchor: Path

    async def audit(self, anchor: Path | None = None) -> Audit:
        """Verify as the auditor."""
        return await audit(self.database.dsns.auditor, anchor=anchor)

    async def superuser(self) -> Connection:
        """A connection on which no trigger fires."""
        parts = urlsplit(self.database.admin_dsn)
        dsn = urlunsplit(parts._replace(path=f"/{self.database.name}"))
        connection = await connect(dsn, name="superuser")
        await connection.execute("SET session_replication_role = replica")
        return connection

    @asynccontextmanager
    async def hand(self) -> AsyncIterator[Hand]:
        """Whatever is done in the block is taken back at its end."""
        connection = await self.superuser()
        try:
            transaction = connection.transaction()
            await transaction.start()
            yield Hand(connection)
            await transaction.rollback()
        finally:
            await connection.close()


@dataclass(frozen=True)
class Actor:
    """Does things to payouts through the engine."""

    engine: Engine

    async def told(
        self,
        attempt: str,
        kind: EventKind,
        amount: int = 100,
        return_id: str | None = None,
        *,
        sequence: int | None = None,
    ) -> None:
        """The provider tells a fact about `pa_<attempt>`."""
        event = ProviderEvent(
            event_id=f"ev_{attempt}_{kind}_{return_id}_{sequence}",
            kind=kind,
            provider_key=attempt,
            provider_ref=f"bt_{attempt}",
            amount_minor=amount,
            currency="EUR",
            cost_minor=2 if kind == EventKind.PAID else 0,
            code=None,
            reason=None,
            return_id=return_id,
            sequence=sequence,
        )
        await self.engine.submit(
            ReceiveEvent(origin=ORIGIN, provider="bank", event_id=event.event_id, body="{}")
        )
        await self.engine.submit(
            ApplyEvent(origin=ORIGIN, provider="bank", event=event, retry_delay=timedelta(0))
        )

    async def pay(self, name: str) -> None:
        """`po_<name>`, settled at once at a cost of 3."""
        await self.engine.submit(create(name, fee=2))
        await self.engine.submit(begin(name, f"{name}-1"))
        executed = Executed(
            provider_ref=f"bt_{name}-1", amount_minor=100, currency="EUR", cost_minor=3
        )
        await self.engine.submit(reply(f"{name}-1", executed))

    async def plain_lives(self) -> None:
        """Waiting, cancelled, paid, declined, retried, sent, sending, unknown."""
        submit = self.engine.submit
        names = ("waiting", "cancelled", "declined", "retried", "sent", "sending", "unknown")
        await asyncio.gather(*(submit(create(name, fee=1)) for name in names))
        await submit(cancel("cancelled"))
        for name in names[2:]:
            await submit(begin(name, f"{name}-1"))
        await submit(reply("declined-1", DECLINED))
        await submit(reply("retried-1", REFUSED_FOR_NOW))
        await submit(begin("retried", "retried-2"))
        executed = Executed(provider_ref="bt_r", amount_minor=100, currency="EUR", cost_minor=1)
        await submit(reply("retried-2", executed))
        await submit(reply("sent-1", Accepted("bt_sent-1")))
        await submit(reply("unknown-1", Unknown("timeout")))
        await self.pay("settled")

    async def odd_lives(self) -> None:
        """Returned, part returned and over, paid late without funds, paid twice."""
        submit = self.engine.submit
        await self.pay("returned")
        await self.told("returned-1", EventKind.RETURNED, 100, "r1")
        await self.pay("part")
        await self.told("part-1", EventKind.RETURNED, 40, "r1")
        await self.told("part-1", EventKind.RETURNED, 80, "r2")
        await submit(create("late", fee=5, merchant=OTHER))
        await submit(begin("late", "late-1"))
        await submit(reply("late-1", DECLINED))
        await submit(create("drain", 80, merchant=OTHER))
        await self.told("late-1", EventKind.PAID)
        await submit(create("twice"))
        await submit(begin("twice", "twice-1"))
        await submit(reply("twice-1", REFUSED_FOR_NOW))
        await submit(begin("twice", "twice-2"))
        await self.told("twice-1", EventKind.PAID)

    async def contradicted_lives(self) -> None:
        """Paid twice and one came back, taken back by order, paid again after that, and denied."""
        submit = self.engine.submit
        await submit(create("both", fee=3))
        await submit(begin("both", "both-1"))
        await submit(reply("both-1", REFUSED_FOR_NOW))
        await submit(begin("both", "both-2"))
        await self.told("both-2", EventKind.PAID)
        await self.told("both-1", EventKind.PAID)
        await self.told("both-2", EventKind.RETURNED, 70, "r1")
        await self.told("both-1", EventKind.RETURNED, 60, "r1")
        for name in ("undone", "redone"):
            await submit(create(name, fee=2))
            await submit(begin(name, f"{name}-1"))
            await self.told(f"{name}-1", EventKind.FAILED, sequence=3)
            await self.told(f"{name}-1", EventKind.PAID, sequence=2)
        await self.told("redone-1", EventKind.PAID, sequence=4)
        await self.told("sending-1", EventKind.FAILED)
        await self.pay("denied")
        await self.told("denied-1", EventKind.FAILED)


async def live_every_life(books: Books) -> None:
    """Fill the database; seal three checkpoints on the way."""
    pool = await open_pool(books.database.dsns.owner, size=3, name="test")
    engine = new_engine(pool)
    sealing = await connect(books.database.dsns.worker, name="test")
    sealer = await Sealer.take_over(sealing, books.anchor)
    assert sealer is not None
    try:
        actor = Actor(engine)
        for merchant in (SHOP, OTHER):
            await engine.submit(new_merchant(merchant))
        await engine.submit(fund(10_000))
        await engine.submit(fund(5_000, "JPY"))
        await engine.submit(fund(110, merchant=OTHER))
        assert await sealer.seal() == 1
        await actor.plain_lives()
        assert await sealer.seal() == 2
        await actor.odd_lives()
        await actor.contradicted_lives()
        await engine.submit(create("expired"))
        async with pool.acquire() as connection:
            await connection.execute(
                "UPDATE payouts SET expires_at = now() WHERE id = 'po_expired'"
            )
        await engine.submit(ExpirePayout(origin=ORIGIN, payout_id="po_expired"))
        assert await sealer.seal() == 3
    finally:
        await sealing.close()
        await engine.close()
        await pool.close()


def new_engine(pool: Pool) -> Engine:
    """An engine over `pool`."""
    return Engine(
        PostgresStore(pool, QUERIES),
        RULES,
        clock=SystemClock(),
        ids=SystemIds(),
        randomness=SystemRandomness(),
    )
