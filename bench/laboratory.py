"""A server of the run's own, fresh databases on it, and engines over them."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bursar.bootstrap import QUERIES, RULES
from bursar.db.connection import connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.pool import open_pool
from bursar.db.prepare import prepare
from bursar.db.queries import load_queries
from bursar.db.roles import Dsns
from bursar.engine.engine import Engine
from bursar.engine.postgres import PostgresStore
from bursar.kit.clock import SystemClock
from bursar.kit.ids import SystemIds, SystemRandomness
from bursar.ledger.model import LIMITED, AccountRole
from bursar.settings import Settings

SQL = load_queries(__file__)
CURRENCY = "EUR"
FUNDS_MINOR = 10**15


@dataclass(frozen=True)
class Laboratory:
    """The server, in a data directory that `bursar`'s processes can be pointed at."""

    server: EmbeddedPostgres
    directory: Path


@contextmanager
def open_laboratory() -> Iterator[Laboratory]:
    """A started server with durable settings in a directory that is deleted at the end."""
    with temporary_directory() as directory:
        server = EmbeddedPostgres(directory / "data", die_with_parent=True)
        server.start()
        try:
            yield Laboratory(server, directory / "data")
        finally:
            server.destroy()


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A directory that the server's account can enter, deleted at the end."""
    directory = Path(tempfile.mkdtemp(prefix="bursar-bench-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class Database:
    """A migrated database with `merchants`, each with funded accounts in `CURRENCY`."""

    dsns: Dsns
    merchants: tuple[str, ...]


def merchant_id(number: int) -> str:
    """The id of the seeded merchant `number`."""
    return f"mer_{number:032x}"


async def make_database(lab: Laboratory, name: str, *, merchants: int) -> Database:
    """A fresh database. Merchants are numbered from 16: below, the demo's has its place."""
    dsns = await prepare(lab.server, database=name)
    first = 16
    owner = await connect(dsns.owner, name="bench seed")
    try:
        await owner.execute(SQL["seed_merchants"], first, merchants)
        await owner.execute(SQL["seed_heads"], first, merchants)
        await owner.execute(
            SQL["seed_accounts"],
            first,
            merchants,
            CURRENCY,
            [role.value for role in AccountRole],
            [role.value for role in LIMITED],
            FUNDS_MINOR,
        )
    finally:
        await owner.close()
    await settle(dsns)
    return Database(dsns, tuple(merchant_id(first + n) for n in range(merchants)))


async def settle(dsns: Dsns) -> None:
    """Statistics, visibility and a checkpoint, so that none of them falls into a measurement."""
    owner = await connect(dsns.owner, name="bench settle")
    try:
        await owner.execute(SQL["settle_statistics"])
    finally:
        await owner.close()


@asynccontextmanager
async def open_engine(dsns: Dsns) -> AsyncIterator[Engine]:
    """An engine as the API's process has it, with the settings' own group size."""
    settings = Settings()
    pool = await open_pool(dsns.api, size=2, name="bench engine")
    engine = Engine(
        PostgresStore(pool, QUERIES),
        RULES,
        clock=SystemClock(),
        ids=SystemIds(),
        randomness=SystemRandomness(),
        group_max=settings.engine_group_max,
        queue_max=settings.engine_queue_max,
    )
    try:
        yield engine
    finally:
        await engine.close()
        await pool.close()


async def server_facts(lab: Laboratory) -> str:
    """The server's version and whether it flushes, for the head of the report."""
    connection = await connect(lab.server.dsn("postgres", "postgres"), name="bench")
    try:
        version = await connection.fetchval(SQL["server_version"])
        fsync = await connection.fetchval(SQL["fsync"])
    finally:
        await connection.close()
    return f"Postgres {version}, fsync {fsync}"
