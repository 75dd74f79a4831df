"""A row that somebody outside holds: it costs those who need it, and nobody else (F38)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bursar.bootstrap import QUERIES
from bursar.db.pool import open_pool
from bursar.engine import engine as engine_module
from bursar.engine.engine import GROUP_MAX, PATIENCE_S
from bursar.engine.errors import Overloaded, RowHeld
from bursar.engine.postgres import PostgresStore
from bursar.ledger.model import ACCOUNTS, AccountRole, address
from bursar.settings import Settings
from tests.conftest import Database
from tests.engine.faults import Faulty
from tests.engine.stores import Place
from tests.engine.wiring import OTHER, SHOP, fund, new_merchant

LOCK_LIMIT_S = 1.0
HELD = address(SHOP, AccountRole.AVAILABLE, "EUR")


@asynccontextmanager
async def held(place: Place) -> AsyncIterator[None]:
    """Somebody outside has locked an account of the shop's for as long as the block lasts."""
    assert place.pool is not None
    async with place.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM accounts WHERE address = $1 FOR UPDATE", HELD)
        yield


@pytest.fixture
async def store(on_postgres: Place, database: Database) -> AsyncIterator[PostgresStore]:
    """A store whose role waits `LOCK_LIMIT_S` for a lock, beside another merchant."""
    await on_postgres.engine().submit(new_merchant(OTHER))
    pool = await open_pool(database.dsns.owner, size=1, name="held up")
    await pool.execute(f"SET lock_timeout = '{LOCK_LIMIT_S}s'")
    yield PostgresStore(pool, QUERIES)
    pool.terminate()


async def test_only_those_who_need_it_are_refused(on_postgres: Place, store: PostgresStore) -> None:
    """One wait of the role's own, then short ones: the innocent behind five others gets through."""
    engine = on_postgres.engine(store)
    async with held(on_postgres):
        began = time.monotonic()
        *refused, done = await asyncio.gather(
            *(engine.submit(fund(1)) for _ in range(5)),
            engine.submit(fund(1, merchant=OTHER)),
            return_exceptions=True,
        )
        first_s = time.monotonic() - began
        assert {getattr(answer, "code", None) for answer in refused} == {Overloaded.code}
        assert getattr(done, "status", None) == 201
        assert first_s < LOCK_LIMIT_S + 5 * PATIENCE_S + 1

        began = time.monotonic()
        refused_again, done = await asyncio.gather(
            engine.submit(fund(1)), engine.submit(fund(1, merchant=OTHER)), return_exceptions=True
        )
        assert isinstance(refused_again, Overloaded)
        assert getattr(done, "status", None) == 201
        assert time.monotonic() - began < LOCK_LIMIT_S
    assert (await engine.submit(fund(1))).status == 201
    rows = {row.address: row.credits_posted for row in await on_postgres.rows(ACCOUNTS)}
    assert (rows[HELD], rows[address(OTHER, AccountRole.AVAILABLE, "EUR")]) == (1, 2)


async def test_a_lone_command_is_refused_after_one_wait(
    on_postgres: Place, store: PostgresStore
) -> None:
    """Waiting again would hold up whoever comes next."""
    engine = on_postgres.engine(store)
    async with held(on_postgres):
        began = time.monotonic()
        with pytest.raises(Overloaded):
            await engine.submit(fund(1))
        assert time.monotonic() - began < LOCK_LIMIT_S * 1.8


async def test_many_who_need_it_wait_ever_less(on_twin: Place) -> None:
    """The whole group's waits are bounded, whatever its size."""
    waits: list[float | None] = []
    faulty = Faulty(on_twin.store)
    begin = faulty.begin

    async def noted(*, patience_s: float | None = None) -> object:
        waits.append(patience_s)
        return await begin(patience_s=patience_s)

    faulty.begin = noted  # type: ignore[assignment,method-assign]
    size = 100
    faulty.fail("lock", *[RowHeld("x")] * (1 + size))
    engine = on_twin.engine(faulty)
    answers = await asyncio.gather(
        *(engine.submit(fund(1)) for _ in range(size)), return_exceptions=True
    )
    assert {getattr(answer, "code", None) for answer in answers} == {Overloaded.code}
    assert waits[0] is None
    assert len(waits) == 1 + size
    assert sum(wait or 0.0 for wait in waits) < 4


async def test_after_a_respite_groups_have_their_patience_back(on_twin: Place) -> None:
    """A short wait would refuse what an ordinary rival delays."""
    waits: list[float | None] = []
    faulty = Faulty(on_twin.store)
    begin = faulty.begin

    async def noted(*, patience_s: float | None = None) -> object:
        waits.append(patience_s)
        return await begin(patience_s=patience_s)

    faulty.begin = noted  # type: ignore[assignment,method-assign]
    faulty.fail("lock", RowHeld("x"))
    engine = on_twin.engine(faulty)
    with pytest.raises(Overloaded):
        await engine.submit(fund(1))
    await engine.submit(fund(1))
    await on_twin.clock.sleep(engine_module.HELD_RESPITE_S)
    await engine.submit(fund(1))
    assert waits == [None, engine_module.GROUP_PATIENCE_S, None]


def test_one_bound_of_a_group() -> None:
    """The engine's own and the one that is documented as a setting."""
    assert Settings.model_fields["engine_group_max"].default == GROUP_MAX
