"""What nobody waits for: sealing checkpoints, forgetting old commit marks and old replies."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

import asyncpg
import structlog

from bursar.db.connection import Connection
from bursar.db.pool import Pool
from bursar.engine.checkpoints import AnchorLine
from bursar.engine.journal import GENESIS, checkpoint_hash
from bursar.engine.model import JournalHead
from bursar.engine.queries import QUERIES
from bursar.kit.canonical import canonical_json
from bursar.kit.clock import Clock
from bursar.worker.files import append_lines, make_appendable

log = structlog.get_logger(__name__)

SEAL_EVERY_S = 1.0
PRUNE_EVERY_S = 60.0
PRUNE_BATCH = 50_000
BLANK_EVERY_S = 600.0
BLANK_BATCH = 1000
BLANK_REACH = timedelta(days=30)
"""How far back a worker looks at its start. Where none ran for longer, older replies stay."""
_WINDOW = timedelta(hours=1)


Sealed = dict[str, JournalHead]
"""Where each chain stood in the last checkpoint that this process made of it."""


class Sealer:
    """Makes the checkpoints, alone: `take_over` gives it for as long as its connection lives."""

    def __init__(
        self,
        connection: Connection,
        anchor: Path | None,
        *,
        number: int,
        digest: bytes,
        sealed: Sealed,
    ) -> None:
        """`number` and `digest` are the last checkpoint's; `sealed` is kept up to date."""
        self._connection = connection
        self._anchor = anchor
        self._number = number
        self._hash = digest
        self._sealed = sealed

    @classmethod
    async def take_over(
        cls, connection: Connection, anchor: Path | None, *, sealed: Sealed | None = None
    ) -> Self | None:
        """The one sealer of the database, or None while another connection has it.

        `sealed` is what this process has sealed before, when it had another connection. If this
        raises, the connection may be the sealer's, so it must not serve anything else.
        """
        if not await connection.fetchval(QUERIES["take_seal"]):
            return None
        await connection.execute(QUERIES["notice_loss_of_sealer"])
        last = await connection.fetchrow(QUERIES["last_checkpoint"])
        number, digest = (0, GENESIS) if last is None else last
        known = {} if sealed is None else sealed
        return cls(connection, anchor, number=number, digest=digest, sealed=known)

    async def seal(self) -> int | None:
        """Store a checkpoint of the heads that moved, and export it; returns its id.

        The first time in a process these are all heads, since what another had seen is not known
        here: so a file begins with all of them too. None: no head moved. An export that fails is
        logged; the hash of the next line covers what it left out.
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
        self._sealed.update((head.merchant_id, head) for head in moved)
        if self._anchor is not None:
            made = AnchorLine(number, at.isoformat(), previous.hex(), digest.hex(), by_merchant)
            try:
                line = canonical_json(made) + b"\n"
                await asyncio.to_thread(append_lines, self._anchor, line)
            except OSError as error:
                log.warning("checkpoint_not_exported", id=number, error=str(error))
        return number


async def run_sealer(pool: Pool, anchor: Path | None, clock: Clock) -> None:
    """Seal about each second until cancelled, or stand by while another worker does.

    Whoever seals keeps one of the pool's connections. Raises `FileUnwritable` at once if `anchor`
    can't be appended to.
    """
    if anchor is not None:
        make_appendable(anchor)
    sealed: Sealed = {}
    while True:
        try:
            await _seal_while_ours(pool, anchor, clock, sealed)
        except Exception as error:  # noqa: BLE001 - the database may be away; the next tick seals
            log.info("seal_failed", error=str(error))
        await clock.sleep(SEAL_EVERY_S)


async def _seal_while_ours(pool: Pool, anchor: Path | None, clock: Clock, sealed: Sealed) -> None:
    async with pool.acquire() as connection:
        ours = True  # until it is known not to be: an answer may have been lost
        try:
            sealer = await Sealer.take_over(connection, anchor, sealed=sealed)
            ours = sealer is not None
            while sealer is not None:
                await sealer.seal()
                await clock.sleep(SEAL_EVERY_S)
        finally:
            if ours:
                # The lock must not go back into the pool; what the server ended has left it.
                with suppress(asyncpg.InterfaceError):
                    connection.terminate()


async def run_pruner(pool: Pool, clock: Clock) -> None:
    """Delete commit marks that no lost transaction can still need, until cancelled."""
    while True:
        await clock.sleep(PRUNE_EVERY_S)
        try:
            await prune(pool)
        except Exception as error:  # noqa: BLE001 - see run_sealer
            log.info("prune_failed", error=str(error))


async def prune(pool: Pool, *, batch: int = PRUNE_BATCH) -> int:
    """Delete old commit marks, at most `batch` in a statement, until none is left; how many.

    A statement for all of them would, once it had fallen behind, meet the role's time-out for ever.
    """
    pruned = 0
    while True:
        async with pool.acquire() as connection:
            done = await connection.execute(QUERIES["prune_group_commits"], batch)
        count = int(done.rpartition(" ")[2])
        pruned += count
        if count < batch:
            return pruned


async def run_blanker(pool: Pool, clock: Clock) -> None:
    """Blank stored replies that are too old to be replayed, until cancelled."""
    done: datetime | None = None
    while True:
        try:
            done = await blank_replies(pool, done)
        except Exception as error:  # noqa: BLE001 - see run_sealer
            log.info("blank_failed", error=str(error))
        await clock.sleep(BLANK_EVERY_S)


async def blank_replies(
    pool: Pool, since: datetime | None, *, batch: int = BLANK_BATCH
) -> datetime:
    """Blank the replies from `since` on that nobody can be answered with. None: `BLANK_REACH` back.

    An hour of them at a time, `batch` in a statement: each is short, whatever there is. Returns
    where to go on next time.
    """
    end: datetime = await pool.fetchval(QUERIES["replies_replayable_since"])
    start = end - BLANK_REACH if since is None else since
    while start < end:
        until = min(start + _WINDOW, end)
        while True:
            blanked = await pool.execute(QUERIES["blank_replies"], start, until, batch)
            if int(blanked.rpartition(" ")[2]) < batch:
                break
        start = until
    return start
