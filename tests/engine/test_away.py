"""A database that refuses everybody: 503 for all, and no command is blamed for it."""

import asyncio

import asyncpg
import pytest

from bursar.bootstrap import QUERIES
from bursar.db.pool import open_pool
from bursar.engine.errors import ConstraintError, DatabaseAway, Overloaded
from bursar.engine.model import GROUP_COMMITS
from bursar.engine.postgres import PostgresStore, _translated
from bursar.ledger.model import ACCOUNTS
from tests.conftest import Database
from tests.engine.faults import Faulty
from tests.engine.stores import Place
from tests.engine.wiring import fund


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.AdminShutdownError,
        asyncpg.CannotConnectNowError,
        asyncpg.CrashShutdownError,
        asyncpg.DatabaseDroppedError,
        asyncpg.DiskFullError,
        asyncpg.IdleSessionTimeoutError,
        asyncpg.OutOfMemoryError,
        asyncpg.PostgresIOError,
        asyncpg.ReadOnlySQLTransactionError,
        asyncpg.TooManyConnectionsError,
    ],
)
def test_what_no_command_is_to_blame_for(error: type[Exception]) -> None:
    """F49, F54: 25006, the classes 53 and 57P0x, and a disk's errors."""
    assert isinstance(_translated(error("x")), DatabaseAway)


async def test_a_full_disk_refuses_the_group_and_never_its_members(on_postgres: Place) -> None:
    """F54: 503 for each, by the group's own few tries: not by one try for each of them."""
    faulty = Faulty(on_postgres.store)
    faulty.fail("write", *[_translated(asyncpg.DiskFullError("x"))] * 8)
    engine = on_postgres.engine(faulty)
    answers = await asyncio.gather(
        *(engine.submit(fund(1)) for _ in range(20)), return_exceptions=True
    )
    assert {getattr(answer, "code", None) for answer in answers} == {Overloaded.code}
    assert faulty.begun == 8
    await engine.submit(fund(1))
    assert sum(row.credits_posted for row in await on_postgres.rows(ACCOUNTS)) == 1


async def test_one_that_goes_while_each_runs_alone_is_not_asked_by_each(on_twin: Place) -> None:
    """F54: the first alone finds that it is away; the others behind it need not wait for that."""
    faulty = Faulty(on_twin.store)
    faulty.fail("write", ConstraintError("x", "x"), *[DatabaseAway("x")] * 8)
    engine = on_twin.engine(faulty)
    answers = await asyncio.gather(
        *(engine.submit(fund(1)) for _ in range(20)), return_exceptions=True
    )
    assert {getattr(answer, "code", None) for answer in answers} == {Overloaded.code}
    assert faulty.begun == 1 + 8


async def test_a_connection_to_a_standby_is_left(on_postgres: Place, database: Database) -> None:
    """F49: after a failover the pool's connection leads to a server that only reads."""
    pool = await open_pool(database.dsns.owner, size=1, name="failed over")
    try:
        engine = on_postgres.engine(PostgresStore(pool, QUERIES))
        await pool.execute("SET default_transaction_read_only = on")
        await engine.submit(fund(1))
        await pool.execute("SET default_transaction_read_only = on")
        store = PostgresStore(pool, QUERIES)
        with pytest.raises(DatabaseAway):
            await store.entomb("grp_x")
        assert await store.entomb("grp_x") is False
        await engine.close()
    finally:
        pool.terminate()
    assert [c.group_id for c in await on_postgres.rows(GROUP_COMMITS) if c.tombstone] == ["grp_x"]
