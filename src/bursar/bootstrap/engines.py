"""An engine over Postgres, for as long as somebody needs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from bursar.bootstrap.schema import QUERIES, RULES
from bursar.db.pool import Pool, open_pool
from bursar.engine.engine import Engine
from bursar.engine.group import GroupRules
from bursar.engine.postgres import PostgresStore
from bursar.engine.wake import Notifier
from bursar.kit.clock import SystemClock
from bursar.kit.crashpoints import CrashPoints, NoCrash, parse_crash_point
from bursar.kit.ids import SystemIds, SystemRandomness
from bursar.settings import Settings
from bursar.worker.relay import FILE_SINK


@dataclass(frozen=True)
class Wired:
    """An engine, and the pool that its process reads from."""

    engine: Engine
    pool: Pool


class EngineFactory(Protocol):
    """What a process opens its engine with: `open_engine`, unless another is handed in."""

    def __call__(
        self, settings: Settings, dsn: str, /, *, name: str, crash: CrashPoints | None = None
    ) -> AbstractAsyncContextManager[Wired]:
        """As `open_engine`."""


class PoolOpener(Protocol):
    """Opens a pool, as `open_pool` of db/pool does."""

    async def __call__(self, dsn: str, /, *, size: int, name: str) -> Pool:
        """`size` connections; `name` is in pg_stat_activity."""


@asynccontextmanager
async def open_engine(
    settings: Settings,
    dsn: str,
    *,
    name: str,
    crash: CrashPoints | None = None,
    open_pool: PoolOpener = open_pool,
) -> AsyncIterator[Wired]:
    """An engine over Postgres for as long as the block lasts; `name` is in pg_stat_activity."""
    async with AsyncExitStack() as stack:
        pool = await open_pool(dsn, size=settings.pool_size, name=name)
        stack.push_async_callback(close, pool)
        # Commits have connections of their own, so that reads can't keep a group waiting (F53).
        commits = await open_pool(dsn, size=2, name=f"{name} commits")
        stack.push_async_callback(close, commits)
        notifier = Notifier(dsn, SystemClock(), name=f"{name} notify")
        stack.push_async_callback(notifier.close)
        engine = Engine(
            PostgresStore(commits, QUERIES),
            _rules(settings),
            clock=SystemClock(),
            ids=SystemIds(),
            randomness=SystemRandomness(),
            on_wake=notifier.notify,
            group_max=settings.engine_group_max,
            queue_max=settings.engine_queue_max,
            crash=crash,
        )
        stack.push_async_callback(engine.close)
        yield Wired(engine, pool)


async def close(pool: Pool) -> None:
    """Close the pool, giving up after 3 s on connections that do not come back."""
    with suppress(TimeoutError):
        await asyncio.wait_for(pool.close(), timeout=3)


def _rules(settings: Settings) -> GroupRules:
    sinks = () if settings.journal_export is None else (FILE_SINK,)
    return replace(RULES, sinks=sinks)


def crash_points(settings: Settings) -> CrashPoints:
    """Where this process dies on purpose: nowhere, unless a test asked for it."""
    return NoCrash() if settings.crash_at is None else parse_crash_point(settings.crash_at)
