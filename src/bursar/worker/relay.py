"""Journal entries out of the database, at least once, in order per merchant: to a file.

The journal is not the outbox. The commit that writes an entry also writes a row per sink in
`deliveries`; a relay hands the entry over and then deletes that row. A crash between the two
hands it over again: readers drop what they have seen by (merchant_id, seq). A line that a crash cut
short was not acknowledged, so it is cut off and comes again.
"""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import msgspec
import structlog

from bursar.db.pool import Pool
from bursar.engine.queries import QUERIES
from bursar.kit.canonical import canonical_json
from bursar.kit.clock import Clock
from bursar.worker.files import append_lines, make_appendable

log = structlog.get_logger(__name__)

FILE_SINK = "file"
BATCH = 500
POLL_S = 0.5


async def relay_once(pool: Pool, export: Path) -> int:
    """Append the entries that wait to `export`, one JSON object a line; returns how many."""
    async with pool.acquire() as connection:
        rows = await connection.fetch(QUERIES["deliveries_waiting"], FILE_SINK, BATCH)
    if not rows:
        return 0
    lines = [
        canonical_json(dict(row) | {"body": msgspec.Raw(row["body"].encode())}) for row in rows
    ]
    await asyncio.to_thread(append_lines, export, b"\n".join(lines) + b"\n")
    async with pool.acquire() as connection:
        await connection.execute(
            QUERIES["delete_deliveries"],
            FILE_SINK,
            [row["merchant_id"] for row in rows],
            [row["seq"] for row in rows],
        )
    return len(rows)


async def run_relay(pool: Pool, export: Path, clock: Clock) -> None:
    """Relay until cancelled. One relay per file: another worker's waits for its lock.

    Raises `FileUnwritable` at once if `export` can't be appended to.
    """
    make_appendable(export)
    with export.with_suffix(".lock").open("w") as lock:
        while not _locked(lock.fileno()):
            await clock.sleep(POLL_S)
        while True:
            relayed = 0
            try:
                relayed = await relay_once(pool, export)
            except Exception as error:  # noqa: BLE001 - the database may be away; try again
                log.info("relay_failed", error=str(error))
            if relayed < BATCH:
                await clock.sleep(POLL_S)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
