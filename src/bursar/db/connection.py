"""One connection to Postgres."""

from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

# A connection of our own, or one lent by a pool: they answer to the same calls.
Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy

CONNECT_TIMEOUT_S = 5.0

# The connection is gone: what it had begun is rolled back, or, if COMMIT was on its way,
# unknown. The driver raises InternalClientError where the server's farewell was read already.
CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.AdminShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.TooManyConnectionsError,
    OSError,
    TimeoutError,
)


async def connect(dsn: str, *, name: str) -> asyncpg.Connection:
    """One connection outside the pool: listening, migrating, auditing.

    `name` shows in pg_stat_activity. Raises the driver's errors or TimeoutError.
    """
    return await asyncpg.connect(
        dsn, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": name}
    )
