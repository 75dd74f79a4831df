"""COMMIT was sent and its answer never came, on a real socket before a real Postgres (F49).

The connection is cut by a proxy just after COMMIT left the engine: with the server having it, not
having it, or getting it after everybody had gone. Finding 2: with a crash of the server, more
than half of the clients in flight met this.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from bursar.bootstrap import QUERIES
from bursar.db.pool import open_pool
from bursar.engine.engine import Engine
from bursar.engine.errors import OutcomeUnknown, Overloaded
from bursar.engine.model import GROUP_COMMITS, IDEMPOTENCY_KEYS, JOURNAL
from bursar.engine.postgres import PostgresStore
from bursar.ledger.model import ACCOUNTS, TRANSFERS, AccountRole, address
from bursar.payouts.model import PAYOUTS
from tests.conftest import Database
from tests.engine.proxy import Cut, Proxy, proxy_before
from tests.engine.stores import Place
from tests.engine.wiring import SHOP, SetClock, asked, create, fund

AVAILABLE = address(SHOP, AccountRole.AVAILABLE, "EUR")


@dataclass
class Cable:
    """An engine behind a proxy, and the place seen from beside it."""

    engine: Engine
    proxy: Proxy
    place: Place

    async def free(self) -> int:
        """What the merchant may draw, as committed."""
        rows = await self.place.rows(ACCOUNTS)
        return next(row.free for row in rows if row.address == AVAILABLE)

    async def tombstones(self) -> int:
        """Groups that were settled as lost."""
        return sum(row.tombstone for row in await self.place.rows(GROUP_COMMITS))


@pytest.fixture
async def cable(on_postgres: Place, database: Database) -> AsyncIterator[Cable]:
    """The merchant of `on_postgres`, reached through a proxy."""
    async with proxy_before(database.dsns.owner) as (proxy, dsn):
        pool = await open_pool(dsn, size=2, name="behind a proxy")
        try:
            engine = on_postgres.engine(PostgresStore(pool, QUERIES))
            yield Cable(engine, proxy, on_postgres)
            await engine.close()
        finally:
            pool.terminate()


@pytest.mark.parametrize("cut", list(Cut), ids=lambda cut: cut.name.lower())
async def test_each_command_takes_effect_once_and_is_answered(
    cable: Cable, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F49: no answer is lost and nothing is done twice, whatever became of the COMMIT.

    The fundings carry no key: nothing but the group's own id tells a second run from a first.
    """
    monkeypatch.setattr("bursar.engine.postgres.COMMIT_DEADLINE_S", 1.0)
    await cable.engine.submit(fund(100))
    cable.proxy.cuts.append(cut)
    answers = await asyncio.gather(
        *(cable.engine.submit(fund(10)) for _ in range(5)),
        *(cable.engine.submit(create(f"p{n}", 7, request=asked(f"k{n}"))) for n in range(5)),
    )
    assert cable.proxy.made == [cut]
    assert [answer.status for answer in answers] == [201] * 10
    assert [answer.replayed for answer in answers] == [False] * 10
    assert await cable.free() == 100 + 50 - 35
    assert len(await cable.place.rows(PAYOUTS)) == 5
    assert await cable.tombstones() == (1 if cut is Cut.REQUEST else 0)
    kinds = [entry.kind for entry in await cable.place.rows(JOURNAL)]
    assert kinds.count("account.funded") == 6


async def test_a_refusal_of_a_lost_group_is_delivered_too(cable: Cable) -> None:
    """F49: with and without a key."""
    cable.proxy.cuts.append(Cut.ANSWER)
    refused, stored = await asyncio.gather(
        cable.engine.submit(create("a", 7)),
        cable.engine.submit(create("b", 7, request=asked("k"))),
        return_exceptions=True,
    )
    assert getattr(refused, "code", None) == "insufficient_funds"
    assert getattr(stored, "status", None) == 422
    assert [row.outcome for row in await cable.place.rows(IDEMPOTENCY_KEYS)] == ["refused"]


async def test_every_commit_of_a_run_may_be_lost(cable: Cable) -> None:
    """F49: thirty groups, each losing its COMMIT one way or another; the books are exact."""
    await cable.engine.submit(fund(1000))
    cable.proxy.late_s = 0.02
    cable.proxy.cuts += [Cut.ANSWER, Cut.REQUEST, Cut.LATE] * 10

    async def client(number: int) -> list[Any]:
        return [
            await cable.engine.submit(create(f"c{number}_{n}", 1, request=asked(f"{number}_{n}")))
            for n in range(12)
        ]

    answers = await asyncio.gather(*map(client, range(4)))
    assert len(cable.proxy.made) >= 12
    assert {answer.status for part in answers for answer in part} == {201}
    assert await cable.free() == 1000 - 48
    assert len(await cable.place.rows(TRANSFERS)) == 1 + 48


async def test_a_database_that_stays_away_leaves_the_outcome_unknown(
    cable: Cable, database: Database, on_postgres: Place
) -> None:
    """F49: 503 `outcome_unknown`; once it is back, the same key says what had happened."""
    async with proxy_before(database.dsns.owner) as (proxy, dsn):
        pool = await open_pool(dsn, size=2, name="cut off")
        patient = on_postgres.engine(PostgresStore(pool, QUERIES))
        hasty = on_postgres.engine(PostgresStore(pool, QUERIES))
        hasty._clock = SetClock()  # waits for nothing
        await patient.submit(fund(100))
        proxy.cuts.append(Cut.ANSWER)
        proxy.open = False
        with pytest.raises(OutcomeUnknown):
            await hasty.submit(create("a", 7, request=asked("k")))
        with pytest.raises(Overloaded):
            await hasty.submit(create("b", 7, request=asked("k2")))
        proxy.open = True
        again = await patient.submit(create("a", 7, request=asked("k")))
        assert (again.status, again.replayed) == (201, True)
        assert await cable.free() == 93
        await patient.close()
        await hasty.close()
        pool.terminate()
