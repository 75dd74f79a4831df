"""The two stores behind one face: what a test may ask of either."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from bursar.bootstrap import QUERIES, RULES
from bursar.db.pool import Pool, open_pool
from bursar.engine.engine import GROUP_MAX, QUEUE_MAX, Engine
from bursar.engine.memory import MemoryStore
from bursar.engine.model import Row, Table
from bursar.engine.postgres import PostgresStore
from bursar.engine.store import Store
from bursar.kit.clock import Clock, SystemClock
from bursar.kit.ids import SystemIds, SystemRandomness
from bursar.payouts.memory import new_store
from tests.engine.wiring import SHOP, SetClock, new_merchant

R = TypeVar("R", bound=Row)


@dataclass
class Place:
    """A store, and what a test needs to look inside it."""

    store: Store
    clock: Clock
    pool: Pool | None = None
    engines: list[Engine] = field(default_factory=list)

    def engine(
        self,
        store: Store | None = None,
        *,
        group_max: int = GROUP_MAX,
        queue_max: int = QUEUE_MAX,
    ) -> Engine:
        """An engine over the store, closed at the test's end."""
        made = Engine(
            store or self.store,
            RULES,
            clock=self.clock,
            ids=SystemIds(),
            randomness=SystemRandomness(),
            group_max=group_max,
            queue_max=queue_max,
        )
        self.engines.append(made)
        return made

    async def rows(self, table: Table[R]) -> list[R]:
        """All committed rows of a table, in key order."""
        if isinstance(self.store, MemoryStore):
            return sorted(self.store.rows(table), key=table.key_of)
        assert self.pool is not None
        columns = ", ".join(table.columns)
        records = await self.pool.fetch(f"SELECT {columns} FROM {table.name}")
        return sorted((table.load(*record) for record in records), key=table.key_of)


@asynccontextmanager
async def postgres_place(dsn: str, *, size: int = 4) -> AsyncIterator[Place]:
    """A place on Postgres for as long as the block lasts."""
    pool = await open_pool(dsn, size=size, name="tests")
    place = Place(PostgresStore(pool, QUERIES), SystemClock(), pool)
    try:
        yield place
        for engine in place.engines:
            await engine.close()
        await pool.close()
    finally:
        pool.terminate()


@asynccontextmanager
async def twin_place() -> AsyncIterator[Place]:
    """A place in memory."""
    clock = SetClock()
    place = Place(new_store(clock), clock)
    yield place
    for engine in place.engines:
        await engine.close()


async def open_shop(place: Place) -> None:
    """Make the merchant that most tests use."""
    await place.engine().submit(new_merchant(SHOP))
