"""Connections: the driver's own pool, without what costs a round trip per use.

The driver resets session state on every release. Here whoever borrows a connection leaves none
(settings are per role, locks are per transaction), so that query is left out; an open transaction
would still be rolled back. Who takes a lock or a setting for the session must terminate the
connection, as the sealer does. Broken connections are dropped and replaced on the next use; the
last one returned is the first one lent. JSON columns travel as text.
"""

from typing import TypeAlias

import asyncpg

from bursar.db.connection import CONNECT_TIMEOUT_S, Connection, connect
from bursar.db.durability import assert_durable

__all__ = ["Connection", "Pool", "connect", "open_pool"]

Pool: TypeAlias = asyncpg.Pool

# Longer than any role's own limit on a request path: it ends waits on a dead network only.
COMMAND_TIMEOUT_S = 15.0
_NEVER = 1_000_000_000
# After so long the driver prepares a statement again, which also makes its plan anew.
STATEMENT_LIFETIME_S = 300


async def open_pool(
    dsn: str, *, size: int, name: str, command_timeout_s: float | None = COMMAND_TIMEOUT_S
) -> Pool:
    """`size` connections, opened as needed; `name` shows in pg_stat_activity.

    Checks `assert_durable` on the first connection. Close with `await pool.close()`.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        max_queries=_NEVER,
        max_inactive_connection_lifetime=0,
        max_cached_statement_lifetime=STATEMENT_LIFETIME_S,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        reset=_keep,
        # Reads are planned for the tables as they are; groups set their own mode (engine).
        server_settings={"application_name": name, "plan_cache_mode": "force_custom_plan"},
    )
    try:
        async with pool.acquire() as connection:
            await assert_durable(connection)
    except BaseException:
        pool.terminate()
        raise
    return pool


async def _keep(_connection: Connection) -> None:
    """In place of the driver's reset query: there is no session state to reset."""
