"""Numbered SQL files, applied once, in order, each in its own transaction.

`migrations/0001_ledger.sql` becomes version 1. A released file may never change, and the checksum
of each that was applied is kept. Before the first release, 0.1.0, files are edited in place. Two
processes that migrate at once meet at an advisory lock.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bursar.db.connection import Connection, connect
from bursar.db.errors import MigrationFailed
from bursar.db.queries import load_queries

DIRECTORY = Path(__file__).with_name("migrations")
_QUERIES = load_queries(__file__)
_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql\Z")
# plpgsql's BEGIN has no semicolon; these would end the migration's own transaction.
_OWN_TRANSACTION = re.compile(
    r"^\s*(BEGIN|COMMIT|ROLLBACK|START TRANSACTION|END)\s*;", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True)
class Migration:
    """One file: its number, name, SHA-256 in hexadecimal and text."""

    version: int
    name: str
    checksum: str
    sql: str


def read_migrations(directory: Path = DIRECTORY) -> list[Migration]:
    """Every migration in order. Raises MigrationFailed on a bad name, a gap or a repetition."""
    found = []
    for path in sorted(directory.glob("*.sql")):
        match = _FILE.match(path.name)
        if match is None:
            raise MigrationFailed(f"{path.name}: the name must be like 0001_what_it_does.sql")
        text = path.read_bytes()
        sql = text.decode("utf-8")
        if _OWN_TRANSACTION.search(sql):
            raise MigrationFailed(f"{path.name}: must not begin or end a transaction itself")
        found.append(Migration(int(match[1]), match[2], hashlib.sha256(text).hexdigest(), sql))
    for expected, migration in enumerate(found, start=1):
        if migration.version != expected:
            raise MigrationFailed(
                f"expected migration {expected:04d}, found {migration.version:04d}"
            )
    return found


async def migrate(owner_dsn: str, directory: Path = DIRECTORY) -> list[int]:
    """Apply what is missing, as the schema's owner; returns the versions applied now.

    Raises MigrationFailed when an applied file changed, when the database has a migration that
    this code does not know (it is newer: this code cannot tell whether it still fits), or when
    a file fails, whose transaction is then rolled back whole.
    """
    migrations = read_migrations(directory)
    connection = await connect(owner_dsn, name="bursar migrate")
    try:
        await connection.fetchval(_QUERIES["wait_for_migration_lock"])
        await connection.fetchval(_QUERIES["lock_migrations"])
        await connection.execute(_QUERIES["restore_lock_timeout"])
        await connection.execute(_QUERIES["create_migrations_table"])
        done = _done(migrations, await connection.fetch(_QUERIES["applied_migrations"]))
        for migration in migrations[done:]:
            await _apply(connection, migration)
        await connection.fetchval(_QUERIES["unlock_migrations"])
    finally:
        await connection.close()
    return [migration.version for migration in migrations[done:]]


async def assert_migrated(connection: Connection, directory: Path = DIRECTORY) -> None:
    """Raise MigrationFailed unless the database has all migrations of this code, unchanged.

    What a process asks when it starts, in its own role; it applies nothing. Migrations that this
    code does not know are accepted: while an installation is renewed, both versions run, and a
    migration is written so that the version before it can go on (F56).
    """
    migrations = read_migrations(directory)
    if not await connection.fetchval(_QUERIES["is_migrated"]):
        raise MigrationFailed("the database was never migrated: run `bursar migrate`")
    applied = await connection.fetch(_QUERIES["applied_migrations"])
    _compare(migrations, applied)
    if len(applied) < len(migrations):
        raise MigrationFailed(
            f"the database is at migration {len(applied)}, this code needs {len(migrations)}: "
            "run `bursar migrate`"
        )


def _done(migrations: list[Migration], applied: list[asyncpg.Record]) -> int:
    """How many migrations the database has, all of them equal to ours and none beyond."""
    if len(applied) > len(migrations):
        raise MigrationFailed(
            f"the database is at migration {applied[-1]['version']}, this code knows "
            f"{len(migrations)}: run a newer Bursar"
        )
    _compare(migrations, applied)
    return len(applied)


def _compare(migrations: list[Migration], applied: list[asyncpg.Record]) -> None:
    """Raise MigrationFailed if one that both know differs."""
    for migration, row in zip(migrations, applied, strict=False):
        if (row["version"], row["checksum"]) != (migration.version, migration.checksum):
            raise MigrationFailed(
                f"migration {row['version']:04d}_{row['name']} was changed after it was applied:"
                " the data are of an unreleased version and can't be carried over. Move the data"
                " directory away, or with DATABASE_URL make a new database"
            )


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                _QUERIES["record_migration"],
                migration.version,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as error:
        raise MigrationFailed(
            f"migration {migration.version:04d}_{migration.name}: {error}"
        ) from error
