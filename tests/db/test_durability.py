"""The boot check, the pool, and what the roles may not do."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from bursar.db.connection import CONNECTION_ERRORS, connect
from bursar.db.durability import assert_durable
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.errors import UnsafeDatabase
from bursar.db.pool import Pool, open_pool
from bursar.db.prepare import prepare
from bursar.db.roles import ADMIN
from tests.conftest import Database, binaries_of


@pytest.mark.both_postgres
async def test_every_role_of_a_prepared_database_is_durable(database: Database) -> None:
    """F55, F57: settings and timeouts hold for each role as it connects."""
    for dsn in (
        database.dsns.owner,
        database.dsns.api,
        database.dsns.worker,
        database.dsns.auditor,
    ):
        connection = await connect(dsn, name="test")
        try:
            await assert_durable(connection)
        finally:
            await connection.close()


async def test_a_superuser_is_refused(database: Database) -> None:
    """The admin has no timeouts and passes every grant: no process may run as it (F57)."""
    with pytest.raises(UnsafeDatabase) as caught:
        await open_pool(database.admin_dsn, size=1, name="test")

    assert caught.value.code == "unsafe_database"
    assert "superuser" in caught.value.detail
    assert "statement_timeout is not set" in caught.value.detail


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("SET synchronous_commit = off", "synchronous_commit is off"),
        ("SET synchronous_commit = local", "synchronous_commit is local"),
        ("SET statement_timeout = 0", "statement_timeout is not set"),
        ("SET lock_timeout = 0", "lock_timeout is not set"),
        ("SET idle_in_transaction_session_timeout = 0", "idle_in_transaction_session_timeout"),
    ],
)
async def test_each_missing_promise_is_named(
    database: Database, change: str, complaint: str
) -> None:
    """F55, F57: one setting off is enough."""
    connection = await connect(database.dsns.api, name="test")
    try:
        await connection.execute(change)
        with pytest.raises(UnsafeDatabase, match=complaint):
            await assert_durable(connection)
    finally:
        await connection.close()


@pytest.fixture(params=["fsync", "full_page_writes"])
def careless(request: pytest.FixtureRequest, scratch: Path) -> Iterator[EmbeddedPostgres]:
    """A server with one durable setting off."""
    server = EmbeddedPostgres(
        scratch / f"careless-{request.param}",
        binaries=binaries_of("wheel"),
        settings={request.param: "off"},
        die_with_parent=True,
    )
    server.start()
    yield server
    server.destroy()


async def test_a_careless_server_is_refused(careless: EmbeddedPostgres) -> None:
    """F55: with fsync or full_page_writes off, no pool opens."""
    dsns = await prepare(careless)

    with pytest.raises(UnsafeDatabase, match=r"(fsync|full_page_writes) is off"):
        await open_pool(dsns.api, size=1, name="test")


async def test_the_pool_replaces_a_broken_connection(database: Database) -> None:
    """A backend that dies costs its user at most a few errors of a known kind (F54)."""
    pool = await open_pool(database.dsns.api, size=1, name="test")
    try:
        async with pool.acquire() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
        admin = await connect(database.admin_dsn, name="test")
        await admin.fetchval("SELECT pg_terminate_backend($1)", pid)
        await admin.close()

        assert await _next_backend(pool, pid) != pid
    finally:
        await pool.close()


async def _next_backend(pool: Pool, old: int) -> int:
    for _ in range(100):
        with contextlib.suppress(*CONNECTION_ERRORS):
            async with pool.acquire() as connection:
                pid: int = await connection.fetchval("SELECT pg_backend_pid()")
            if pid != old:
                return pid
        await asyncio.sleep(0.01)
    return old


async def test_the_pool_sends_nothing_on_release(database: Database) -> None:
    """The driver's reset query would double the round trips of a single statement."""
    pool = await open_pool(database.dsns.api, size=1, name="test")
    try:
        async with pool.acquire() as connection:
            await connection.fetchval("SELECT 41")
        admin = await connect(database.admin_dsn, name="test")
        last = await admin.fetchval(
            "SELECT query FROM pg_stat_activity WHERE application_name = 'test' "
            "AND pid <> pg_backend_pid()"
        )
        await admin.close()
    finally:
        await pool.close()

    assert last == "SELECT 41"


async def test_an_open_transaction_ends_with_the_release(database: Database) -> None:
    """A leaked transaction would hold locks that money waits for."""
    pool = await open_pool(database.dsns.owner, size=1, name="test")
    try:
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("CREATE TABLE leaked (n integer)")
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT to_regclass('leaked')") is None
    finally:
        await pool.close()


@pytest.mark.both_postgres
@pytest.mark.parametrize("role", ["api", "worker", "auditor"])
async def test_no_process_may_change_the_schema(database: Database, role: str) -> None:
    """No DDL at run time: only the owner migrates."""
    connection = await connect(getattr(database.dsns, role), name="test")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE stray (n integer)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM schema_migrations")
    finally:
        await connection.close()


async def test_a_stranger_may_not_enter(database: Database, postgres: EmbeddedPostgres) -> None:
    """The database is closed to roles that are not Bursar's, and so are wrong passwords."""
    admin = await connect(database.admin_dsn, name="test")
    await admin.execute("CREATE ROLE stranger LOGIN PASSWORD 'x'")
    try:
        address = postgres.dsn(ADMIN, database.name).partition("@")[2]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connect(f"postgresql://stranger:x@{address}", name="test")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await connect(f"postgresql://bursar_api:x@{address}", name="test")
    finally:
        await admin.execute("DROP ROLE stranger")
        await admin.close()
