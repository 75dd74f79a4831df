"""What a process that serves demands of its database, and `bursar migrate`, which provides it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar import bootstrap
from bursar.db.connection import connect
from bursar.db.durability import assert_not_owner, assert_role
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.errors import MigrationFailed, UnsafeDatabase
from bursar.db.migrate import assert_migrated, read_migrations
from bursar.db.pool import open_pool
from bursar.db.roles import API, OWNER, WORKER
from bursar.settings import load_settings
from tests.conftest import Database, drop, new_database, run_blocking

LATEST = len(read_migrations())


def bursar(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing in its environment but what is given."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name != "DATABASE_URL" and not name.startswith("BURSAR_")
    }
    return subprocess.run(
        [sys.executable, "-m", "bursar", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean | environment,
    )


async def _change(dsn: str, statement: str) -> None:
    connection = await connect(dsn, name="test")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _superuser(database: Database) -> str:
    return database.admin_dsn.replace("/postgres?", f"/{database.name}?")


@pytest.mark.both_postgres
async def test_the_roles_of_a_prepared_database_may_serve(database: Database) -> None:
    """Each sees in its own role that the schema is this code's."""
    for dsn, role in ((database.dsns.api, API), (database.dsns.worker, WORKER)):
        pool = await open_pool(dsn, size=1, name="test")
        try:
            await bootstrap.assert_fit_to_serve(pool, role)
        finally:
            await pool.close()


@pytest.mark.parametrize("other", ["api", "worker", "auditor"])
async def test_the_role_of_another_process_is_refused(database: Database, other: str) -> None:
    """I15: it may enter and read, and would fail at the first write."""
    pool = await open_pool(getattr(database.dsns, other), size=1, name="test")
    try:
        for role in {API, WORKER} - {f"bursar_{other}"}:
            with pytest.raises(UnsafeDatabase, match=f"as {role}, not as bursar_{other}"):
                await bootstrap.assert_fit_to_serve(pool, role)
    finally:
        await pool.close()


async def test_a_member_of_the_role_may_serve(database: Database) -> None:
    """Each machine may have a login of its own."""
    admin = await connect(_superuser(database), name="test")
    try:
        await admin.execute("CREATE ROLE clerk IN ROLE bursar_api; SET ROLE clerk")
        await assert_role(admin, API)
        with pytest.raises(UnsafeDatabase):
            await assert_role(admin, WORKER)
    finally:
        await admin.execute("RESET ROLE; DROP ROLE clerk")
        await admin.close()


async def test_a_schema_that_is_ahead_is_accepted(database: Database) -> None:
    """F56: while an installation is renewed, the old version and the new one both run."""
    later = f"INSERT INTO schema_migrations VALUES ({LATEST + 1}, 'later', 'x')"
    await _change(database.dsns.owner, later)
    connection = await connect(database.dsns.api, name="test")
    try:
        await assert_migrated(connection)
    finally:
        await connection.close()


@pytest.mark.both_postgres
async def test_the_owner_and_its_members_are_refused(database: Database) -> None:
    """I15: no grant and no trigger holds who owns the tables, or can become their owner."""
    owner = await connect(database.dsns.owner, name="test")
    admin = await connect(_superuser(database), name="test")
    try:
        with pytest.raises(UnsafeDatabase, match="bursar_owner has the rights of the schema's"):
            await assert_not_owner(owner)
        await admin.execute("CREATE ROLE deputy IN ROLE bursar_owner; SET ROLE deputy")
        with pytest.raises(UnsafeDatabase, match="deputy has the rights of the schema's owner"):
            await assert_not_owner(admin)
    finally:
        await owner.close()
        await admin.execute("RESET ROLE; DROP ROLE deputy")
        await admin.close()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            f"DELETE FROM schema_migrations WHERE version = {LATEST}",
            f"is at migration {LATEST - 1}, this code needs {LATEST}: run `bursar migrate`",
        ),
        (
            "UPDATE schema_migrations SET checksum = 'x' WHERE version = 1",
            "migration 0001_engine was changed after it was applied",
        ),
    ],
)
async def test_another_schema_is_refused(database: Database, change: str, complaint: str) -> None:
    """F56: code that does not know a schema would read and write it wrongly."""
    await _change(database.dsns.owner, change)
    connection = await connect(database.dsns.api, name="test")
    try:
        with pytest.raises(MigrationFailed) as caught:
            await assert_migrated(connection)
    finally:
        await connection.close()
    assert complaint in caught.value.detail


async def test_a_database_without_a_schema_is_refused(postgres: EmbeddedPostgres) -> None:
    """Somebody forgot the first step, or named another database."""
    empty = new_database(postgres, template="template1")
    connection = await connect(empty.dsns.api, name="test")
    try:
        await assert_not_owner(connection)
        with pytest.raises(MigrationFailed, match="never migrated: run `bursar migrate`"):
            await assert_migrated(connection)
    finally:
        await connection.close()
        await drop(empty)


@pytest.mark.parametrize("command", ["api", "worker"])
async def test_a_process_that_may_not_serve_says_so_in_a_line(
    database: Database, tmp_path: Path, command: str
) -> None:
    """Exit code 1, no traceback, and no port opened meanwhile (F55, F56, I15)."""
    own = getattr(database.dsns, command)

    async def complaint(dsn: str) -> str:
        done = await asyncio.to_thread(
            bursar, command, BURSAR_PROCESS_DSN=dsn, BURSAR_DATA_DIR=str(tmp_path)
        )
        assert done.returncode == 1
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        return line

    assert "has the rights of the schema's owner" in await complaint(database.dsns.owner)
    assert "the role is a superuser" in await complaint(_superuser(database))
    await _change(
        database.dsns.owner, f"ALTER DATABASE {database.name} SET synchronous_commit = off"
    )
    assert "synchronous_commit is off" in await complaint(own)
    await _change(database.dsns.owner, f"ALTER DATABASE {database.name} RESET ALL")
    await _change(database.dsns.owner, f"DELETE FROM schema_migrations WHERE version = {LATEST}")
    assert "run `bursar migrate`" in await complaint(own)


async def test_a_worker_that_cannot_export_says_so_in_a_line(
    database: Database, tmp_path: Path
) -> None:
    """I14: it stops at once, and does not warn each second for ever."""
    (tmp_path / "checkpoints.jsonl").mkdir()
    done = await asyncio.to_thread(
        bursar,
        "worker",
        BURSAR_PROCESS_DSN=database.dsns.worker,
        BURSAR_DATA_DIR=str(tmp_path),
        BURSAR_LOG_LEVEL="error",
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"bursar: {tmp_path}/checkpoints.jsonl can't be opened for appending: Is a directory"
    ]


@pytest.fixture
def fresh(scratch: Path) -> Iterator[EmbeddedPostgres]:
    """A server on which nothing was made yet, that stands for one of yours."""
    server = EmbeddedPostgres(scratch / "yours", die_with_parent=True)
    server.start()
    yield server
    server.destroy()


def test_migrate_makes_what_the_processes_need(fresh: EmbeddedPostgres, tmp_path: Path) -> None:
    """As an admin at first, as the owner later; again and again without harm."""
    url = fresh.dsn(database="postgres")
    first = bursar("migrate", DATABASE_URL=url, BURSAR_DATA_DIR=str(tmp_path))
    again = bursar("migrate", DATABASE_URL=url, BURSAR_DATA_DIR=str(tmp_path))
    settings = load_settings(data_dir=tmp_path, database_url=url)
    owner = bootstrap.process_dsn(settings, OWNER)
    later = bursar("migrate", "--data-dir", str(tmp_path / "none"), DATABASE_URL=owner)

    assert {first.returncode, again.returncode, later.returncode} == {0}, first.stderr
    assert {first.stdout, again.stdout, later.stdout} == {
        f"the database is at migration {LATEST}\n"
    }
    assert (tmp_path / "roles.json").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "none").exists()
    for role in (API, WORKER):
        assert run_blocking(_serves(bootstrap.process_dsn(settings, role), role)) == role


async def _serves(dsn: str, needed: str) -> str:
    pool = await open_pool(dsn, size=1, name="test")
    try:
        await bootstrap.assert_fit_to_serve(pool, needed)
        role: str = await pool.fetchval("SELECT current_user")
        return role
    finally:
        await pool.close()


def test_migrate_needs_an_address(tmp_path: Path) -> None:
    """The embedded server is migrated by `bursar up`; nothing is made by mistake."""
    done = bursar("migrate", BURSAR_DATA_DIR=str(tmp_path / "data"))

    assert done.returncode == 2
    assert done.stderr.startswith("bursar: DATABASE_URL must name the Postgres")
    assert not (tmp_path / "data").exists()
