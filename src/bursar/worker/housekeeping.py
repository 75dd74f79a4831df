"""What nobody waits for: sealing checkpoints and forgetting old commit marks."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Self

import msgspec
import structlog

from bursar.db.connection import Connection
from bursar.db.pool import Pool
from bursar.engine.journal import GENESIS, checkpoint_hash
from bursar.engine.model import JournalHead
from bursar.engine.queries import QUERIES
from bursar.kit.canonical import canonical_json
from bursar.kit.clock import Clock

log = structlog.get_logger(__name__)

SEAL_EVERY_S = 1.0
PRUNE_EVERY_S = 60.0
_BLOCK = 4096


class Checkpoint(msgspec.Struct, frozen=True):
    """The heads that moved since the checkpoint before. The engine's README has the form."""

    id: int
    at: str
    previous: str
    hash: str
    heads: dict[str, tuple[int, int, str]]


class Sealer:
    """Makes the checkpoints, alone: `take_over` gives it for as long as its connection lives."""

    def __init__(
        self, connection: Connection, anchor: Path | None, *, number: int, digest: bytes
    ) -> None:
        """`number` and `digest` are the last checkpoint's."""
        self._connection = connection
        self._anchor = anchor
        self._number = number
        self._hash = digest
        self._sealed: dict[str, JournalHead] = {}

    @classmethod
    async def take_over(cls, connection: Connection, anchor: Path | None) -> Self | None:
        """The one sealer of the database, or None while another connection has it."""
        if not await connection.fetchval(QUERIES["take_seal"]):
            return None
        await connection.execute(QUERIES["notice_loss_of_sealer"])
        last = await connection.fetchrow(QUERIES["last_checkpoint"])
        number, digest = (0, GENESIS) if last is None else last
        return cls(connection, anchor, number=number, digest=digest)

    async def seal(self) -> int | None:
        """Store a checkpoint of the heads that moved, and export it; returns its id.

        The first time these are all heads, since what another sealer had seen is not known here:
        so a file begins with all of them too. None: no head moved. An export that fails is logged;
        the hash of the next line covers what it left out.
        """
        rows = await self._connection.fetch(QUERIES["journal_heads_all"])
        heads = (JournalHead(*row) for row in rows)
        moved = [head for head in heads if self._sealed.get(head.merchant_id) != head]
        if not moved:
            return None
        number, previous = self._number + 1, self._hash
        digest = checkpoint_hash(previous, number, moved)
        by_merchant = {
            head.merchant_id: (head.seq, head.link_seq, head.hash.hex()) for head in moved
        }
        at = await self._connection.fetchval(
            QUERIES["insert_checkpoint"],
            *(number, previous, digest, canonical_json(by_merchant).decode()),
        )
        self._number, self._hash = number, digest
        self._sealed |= {head.merchant_id: head for head in moved}
        if self._anchor is not None:
            made = Checkpoint(number, at.isoformat(), previous.hex(), digest.hex(), by_merchant)
            try:
                await asyncio.to_thread(_append_line, self._anchor, canonical_json(made))
            except OSError as error:
                log.warning("checkpoint_not_exported", id=number, error=str(error))
        return number


def _append_line(path: Path, line: bytes) -> None:
    """Append a line to last; what a killed writer left of a line is cut off first."""
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        whole = _end_of_last_line(file.fileno(), size)
        if whole < size:
            file.truncate(whole)
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if size == 0:  # the file may be new: its name must last as well
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _end_of_last_line(descriptor: int, size: int) -> int:
    """The place after the last line break of a file of `size` bytes."""
    end = size
    while end:
        start = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


async def run_sealer(pool: Pool, anchor: Path | None, clock: Clock) -> None:
    """Seal about each second until cancelled, or stand by while another worker does.

    Whoever seals keeps one of the pool's connections.
    """
    while True:
        try:
            await _seal_while_ours(pool, anchor, clock)
        except Exception as error:  # noqa: BLE001 - the database may be away; the next tick seals
            log.info("seal_failed", error=str(error))
        await clock.sleep(SEAL_EVERY_S)


async def _seal_while_ours(pool: Pool, anchor: Path | None, clock: Clock) -> None:
    async with pool.acquire() as connection:
        sealer = await Sealer.take_over(connection, anchor)
        if sealer is None:
            return
        try:
            while True:
                await sealer.seal()
                await clock.sleep(SEAL_EVERY_S)
        finally:
            connection.terminate()  # the lock must not go back into the pool


async def run_pruner(pool: Pool, clock: Clock) -> None:
    """Delete commit marks that no lost transaction can still need, until cancelled."""
    while True:
        await clock.sleep(PRUNE_EVERY_S)
        try:
            async with pool.acquire() as connection:
                await connection.execute(QUERIES["prune_group_commits"])
        except Exception as error:  # noqa: BLE001 - see run_sealer
            log.info("prune_failed", error=str(error))
