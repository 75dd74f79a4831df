"""What nobody waits for: sealing checkpoints and forgetting old commit marks."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import structlog

from bursar.db.pool import Pool
from bursar.engine.journal import checkpoint_hash
from bursar.engine.model import JournalHead
from bursar.engine.queries import QUERIES
from bursar.kit.canonical import canonical_json
from bursar.kit.clock import Clock

log = structlog.get_logger(__name__)

SEAL_EVERY_S = 1.0
PRUNE_EVERY_S = 60.0


class Checkpoint(msgspec.Struct, frozen=True):
    """All chains' heads at one moment. `heads` maps merchant to [seq, link_seq, hash]."""

    id: int
    at: str
    hash: str
    heads: dict[str, tuple[int, int, str]]


async def seal(pool: Pool, anchor: Path | None, last: bytes | None) -> bytes:
    """Hash all heads into a checkpoint if one moved since `last`, and export it to `anchor`.

    The file is outside the database, so whoever rewrites the database can't rewrite it too. One
    JSON line each; returns the newest hash.
    """
    async with pool.acquire() as connection:
        heads = [JournalHead(*row) for row in await connection.fetch(QUERIES["journal_heads_all"])]
        sealed = checkpoint_hash(heads)
        if sealed == last:
            return sealed
        by_merchant = {
            head.merchant_id: (head.seq, head.link_seq, head.hash.hex()) for head in heads
        }
        row = await connection.fetchrow(
            QUERIES["insert_checkpoint"], sealed, canonical_json(by_merchant).decode()
        )
    if anchor is not None and row is not None:
        checkpoint = Checkpoint(row["id"], row["at"].isoformat(), sealed.hex(), by_merchant)
        _append_line(anchor, canonical_json(checkpoint))
    return sealed


def _append_line(path: Path, line: bytes) -> None:
    """Append a line of its own, whatever a killed process left at the end of the file."""
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        cut = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        file.write((b"\n" if cut else b"") + line + b"\n")


async def run_sealer(pool: Pool, anchor: Path | None, clock: Clock) -> None:
    """Seal about each second, until cancelled."""
    last: bytes | None = None
    while True:
        try:
            last = await seal(pool, anchor, last)
        except Exception as error:  # noqa: BLE001 - the database may be away; the next tick seals
            log.info("seal_failed", error=str(error))
        await clock.sleep(SEAL_EVERY_S)


async def run_pruner(pool: Pool, clock: Clock) -> None:
    """Delete commit marks that no lost transaction can still need, until cancelled."""
    while True:
        await clock.sleep(PRUNE_EVERY_S)
        try:
            async with pool.acquire() as connection:
                await connection.execute(QUERIES["prune_group_commits"])
        except Exception as error:  # noqa: BLE001 - see run_sealer
            log.info("prune_failed", error=str(error))
