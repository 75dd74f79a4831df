"""Migrations: in order, once, unchanged, and by one process at a time."""

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bursar.db.connection import connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.errors import MigrationFailed
from bursar.db.migrate import DIRECTORY, migrate, read_migrations
from bursar.db.prepare import prepare
from bursar.db.queries import load_queries
from tests.conftest import Database, drop, new_database, run_blocking

Write = Callable[..., Path]

_FIRST = "CREATE TABLE first (n integer);"
_SECOND = "CREATE TABLE second (n integer); INSERT INTO first VALUES (2);"


@pytest.fixture
def empty(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A database that no migration has touched."""
    made = new_database(postgres, template="template1")
    yield made
    run_blocking(drop(made))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write migration files; returns their directory."""

    def write(**files: str) -> Path:
        for name, sql in files.items():
            tmp_path.joinpath(f"{name.removeprefix('m')}.sql").write_text(sql, encoding="utf-8")
        return tmp_path

    return write


async def _count(database: Database, table: str) -> int:
    connection = await connect(database.dsns.owner, name="test")
    try:
        number: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
        return number
    finally:
        await connection.close()


@pytest.mark.both_postgres
async def test_missing_files_are_applied_once_and_in_order(empty: Database, write: Write) -> None:
    """A second run, and a run after a file was added, apply only what is new."""
    owner = empty.dsns.owner
    assert await migrate(owner, write(m0001_first=_FIRST)) == [1]

    assert await migrate(owner, write(m0002_second=_SECOND)) == [2]

    assert await migrate(owner, write()) == []
    assert await _count(empty, "first") == 1


async def test_a_changed_file_is_refused(empty: Database, write: Write) -> None:
    """Editing an applied file would make two databases of one number differ."""
    await migrate(empty.dsns.owner, write(m0001_first=_FIRST))
    write(m0001_first=_FIRST + "\n", m0002_second=_SECOND)

    with pytest.raises(MigrationFailed, match="0001_first was changed") as caught:
        await migrate(empty.dsns.owner, write())
    assert "Move the data directory away" in caught.value.detail

    assert await _count(empty, "schema_migrations") == 1


async def test_a_newer_database_is_refused(empty: Database, write: Write) -> None:
    """F56: code that does not know a migration cannot tell whether it fits."""
    directory = write(m0001_first=_FIRST, m0002_second=_SECOND)
    await migrate(empty.dsns.owner, directory)
    directory.joinpath("0002_second.sql").unlink()

    with pytest.raises(MigrationFailed, match="run a newer Bursar"):
        await migrate(empty.dsns.owner, directory)


async def test_a_failing_file_leaves_nothing(empty: Database, write: Write) -> None:
    """One transaction for each file: what stood before the failing line goes with it."""
    directory = write(m0001_first=_FIRST, m0002_bad="INSERT INTO first VALUES (1); SELECT 1/0;")

    with pytest.raises(MigrationFailed, match="0002_bad: division by zero"):
        await migrate(empty.dsns.owner, directory)

    assert await _count(empty, "first") == 0
    assert await _count(empty, "schema_migrations") == 1


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"m0001_a": "", "m0003_c": ""}, "expected migration 0002, found 0003"),
        ({"m0002_b": ""}, "expected migration 0001"),
        ({"m0001_a": "", "m0001_b": ""}, "expected migration 0002, found 0001"),
        ({"m1_a": ""}, "the name must be like"),
        ({"m0001_a": "SELECT 1;\nCOMMIT;\nSELECT 2;"}, "must not begin or end a transaction"),
    ],
)
def test_a_doubtful_directory_is_refused(
    write: Write, files: dict[str, str], complaint: str
) -> None:
    """Nothing runs when the files themselves are in doubt."""
    with pytest.raises(MigrationFailed, match=complaint):
        read_migrations(write(**files))


def test_our_own_files_are_in_order() -> None:
    """The package's migrations pass the reader."""
    assert all(migration.sql.strip() for migration in read_migrations(DIRECTORY))


def _migrate_in_a_process(dsn: str, directory: Path, results: "multiprocessing.Queue[int]") -> None:
    results.put(len(asyncio.run(migrate(dsn, directory))))


async def test_two_processes_at_once_apply_each_file_once(empty: Database, write: Write) -> None:
    """The advisory lock: the second waits, then finds nothing to do."""
    directory = write(m0001_first=f"SELECT pg_sleep(0.3); {_FIRST}", m0002_second=_SECOND)
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[int] = context.Queue()
    rivals = [
        context.Process(target=_migrate_in_a_process, args=(empty.dsns.owner, directory, results))
        for _ in range(2)
    ]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        await asyncio.to_thread(rival.join)

    assert sorted([results.get(), results.get()]) == [0, 2]
    assert await _count(empty, "first") == 1
    results.close()


async def test_a_process_waits_for_the_migration_lock(empty: Database, write: Write) -> None:
    """While another session holds the lock nothing is applied, and no timeout strikes."""
    queries = load_queries(str(DIRECTORY.with_name("migrate.py")))
    holder = await connect(empty.dsns.owner, name="test")
    await holder.fetchval(queries["lock_migrations"])
    waiting = asyncio.create_task(migrate(empty.dsns.owner, write(m0001_first=_FIRST)))
    await asyncio.sleep(0.3)

    assert not waiting.done()

    await holder.close()
    assert await waiting == [1]


@pytest.mark.both_postgres
async def test_prepare_twice_at_once_and_again(postgres: EmbeddedPostgres) -> None:
    """Every start of every process may prepare: roles, database and schema stay the same."""
    name = "bursar_prepared"

    both = await asyncio.gather(*(prepare(postgres, database=name) for _ in range(3)))

    assert both[0] == both[1] == both[2] == await prepare(postgres, database=name)
    connection = await connect(both[0].auditor, name="test")
    assert await connection.fetchval("SELECT current_database()") == name
    await connection.close()


async def test_prepare_on_a_server_of_yours(postgres: EmbeddedPostgres, database: Database) -> None:
    """With an admin's address, the passwords come from the caller."""
    secrets = postgres.passwords()

    dsns = await prepare(database.admin_dsn, passwords=secrets, database=database.name)

    assert dsns == database.dsns
    with pytest.raises(ValueError, match="a password for each role"):
        await prepare(database.admin_dsn)
