"""Checkpoints against the chains: the ones in the database, and those exported to a file.

A chain that was rewritten from end to end agrees with itself. Only what was sealed before, and
kept where the rewriter could not reach, shows that it is not the same chain.

Checkpoints are a chain too: each lists the heads that moved since the one before, and its hash
covers that one's. So the last exported line vouches for all checkpoints up to it, those that a
sealer stored and could not export included. The README has the form of a line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from bursar.db.connection import Connection
from bursar.engine.journal import GENESIS, checkpoint_hash
from bursar.engine.model import JournalHead
from bursar.engine.queries import QUERIES
from bursar.engine.verify import Check, Disagreement
from bursar.kit.errors import BursarError

_BATCH = 1000
_HEADS_BYTES = 4_000_000
"""Of stored heads read at a time, beside those of one checkpoint more."""
_FIRST = -(2**63)

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
HexHash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
ChainName = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,200}\Z")]
Heads = dict[ChainName, tuple[Count, Count, HexHash]]


class AnchorDamaged(BursarError):
    """The anchor file can't be read as checkpoints: it proves nothing until it is restored."""

    code = "anchor_damaged"
    status = 422
    title = "Anchor damaged"


class AnchorLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One exported checkpoint. `heads` maps a chain that moved to [seq, link_seq, hash]."""

    id: Count
    at: str
    previous: HexHash
    hash: HexHash
    heads: Heads


class _Stored(msgspec.Struct, frozen=True):
    """A row of `checkpoints`."""

    id: int
    previous_hash: bytes
    hash: bytes
    heads: str


class _Exported(msgspec.Struct, frozen=True):
    """What is kept of a line of the file until it is compared: heads are many, lines too."""

    number: int
    id: int
    hash: str


async def stored(connection: Connection) -> str:
    """Each stored checkpoint follows the one before, and each of its heads is a link."""
    decoder = msgspec.json.Decoder(Heads)
    number, digest = 0, GENESIS
    async with _links(connection) as links:
        async for row in _checkpoints(connection):
            heads = _follows(row, number + 1, digest, decoder)
            number, digest = row.id, row.hash
            await links.expect(heads, f"checkpoint {row.id}")
        await links.settle()
    return f"checkpoints: {number} stored, {links.compared} heads found in the chains"


async def _checkpoints(connection: Connection) -> AsyncIterator[_Stored]:
    """In order of their numbers, which the caller has found to have no gaps so far."""
    start = _FIRST
    while True:
        records = await connection.fetch(QUERIES["verify_checkpoints"], start, _HEADS_BYTES)
        for record in records:
            row = _Stored(*record)
            start = row.id + 1
            yield row
        if not records:
            return


def _follows(
    row: _Stored, number: int, previous_hash: bytes, decoder: msgspec.json.Decoder[Heads]
) -> list[JournalHead]:
    """The heads of a checkpoint that is number `number`, after the one of `previous_hash`."""
    key: dict[str, object] = {"id": row.id}
    if row.id != number:
        raise Disagreement(
            "checkpoints",
            {"id": number},
            expected=f"a checkpoint before checkpoint {row.id}",
            found="none",
        )
    try:
        heads = _heads(decoder.decode(row.heads))
    except msgspec.DecodeError as error:
        raise Disagreement(
            "checkpoints", key, expected="heads as JSON", found=str(error)
        ) from error
    sealed = checkpoint_hash(previous_hash, number, heads)
    for name, expected in (("previous_hash", previous_hash), ("hash", sealed)):
        found: bytes = getattr(row, name)
        if found != expected:
            raise Disagreement(
                "checkpoints",
                key,
                expected=f"{name} {expected.hex()}, from the checkpoint before and its heads,",
                found=found.hex(),
            )
    return heads


def anchored(path: Path) -> Check:
    """Each checkpoint exported to `path` is stored, and each of its heads is a link.

    The file is measured now, before the snapshot is taken: a worker may be writing to it. Raises
    OSError now, and `AnchorDamaged` from the check.
    """
    size = path.stat().st_size

    async def check(connection: Connection) -> str:
        batch: list[_Exported] = []
        count = 0
        cut: list[int] = []
        async with _links(connection) as links:
            for number, line in _read(path, size, cut):
                count += 1
                batch.append(_Exported(number, line.id, line.hash))
                await links.expect(_heads(line.heads), f"line {number} of {path.name}")
                if len(batch) >= _BATCH:
                    await links.settle()
                    await _are_stored(connection, batch, path)
                    batch.clear()
            await links.settle()
            await _are_stored(connection, batch, path)
        if not count:
            raise AnchorDamaged(f"{path}: there is no checkpoint in it")
        note = f"; line {cut[0]} was cut off while it was written and left out" if cut else ""
        return f"anchor: {count} checkpoints, {links.compared} heads found in the chains{note}"

    return check


def _heads(heads: Heads) -> list[JournalHead]:
    return [
        JournalHead(merchant_id, seq, link_seq, bytes.fromhex(digest))
        for merchant_id, (seq, link_seq, digest) in heads.items()
    ]


def _read(path: Path, size: int, cut: list[int]) -> Iterator[tuple[int, AnchorLine]]:
    """The file's first `size` bytes as numbered checkpoints.

    A last line without its end, from a writer that was killed, is left out and noted in `cut`.
    """
    decoder = msgspec.json.Decoder(AnchorLine)
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            size -= len(text)
            if size < 0 or not text.endswith(b"\n"):
                cut.append(number)
                return
            if text.strip():
                yield number, _checkpoint(decoder, text, f"{path}: line {number}")
            if size == 0:
                return


def _checkpoint(decoder: msgspec.json.Decoder[AnchorLine], text: bytes, place: str) -> AnchorLine:
    try:
        line = decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AnchorDamaged(f"{place} is damaged: {error}") from error
    sealed = checkpoint_hash(bytes.fromhex(line.previous), line.id, _heads(line.heads))
    if sealed.hex() != line.hash:
        raise AnchorDamaged(f"{place} is damaged: its hash is not that of its heads")
    return line


async def _are_stored(connection: Connection, batch: list[_Exported], path: Path) -> None:
    """An exported checkpoint was committed before it was exported."""
    rows = await connection.fetch(QUERIES["verify_checkpoint_hashes"], [line.id for line in batch])
    found: dict[int, bytes] = {row[0]: row[1] for row in rows}
    for line in batch:
        digest = found.get(line.id)
        if digest is None or digest.hex() != line.hash:
            raise Disagreement(
                "checkpoints",
                {"id": line.id},
                expected=f"hash {line.hash}, as in line {line.number} of {path.name},",
                found="no such checkpoint" if digest is None else digest.hex(),
            )


@asynccontextmanager
async def _links(connection: Connection) -> AsyncIterator[_Links]:
    """Looking heads up, by plans that are for that; afterwards the audit's own are back."""
    await connection.execute(QUERIES["verify_lookups"])
    yield _Links(connection)
    await connection.execute(QUERIES["verify_plans"])


class _Links:
    """Looks heads up in the chains, in batches. A head that did not move is looked up once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last: dict[str, JournalHead] = {}
        self._waiting: list[tuple[JournalHead, str]] = []
        self.compared = 0

    async def expect(self, heads: list[JournalHead], source: str) -> None:
        """`source` sealed these heads."""
        for head in heads:
            if self._last.get(head.merchant_id) != head:
                self._last[head.merchant_id] = head
                self._waiting.append((head, source))
        if len(self._waiting) >= _BATCH:
            await self.settle()

    async def settle(self) -> None:
        """Look up what waits. Raises `Disagreement`."""
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _BATCH):
            await self._look_up(waiting[start : start + _BATCH])

    async def _look_up(self, waiting: list[tuple[JournalHead, str]]) -> None:
        records = await self._connection.fetch(
            QUERIES["verify_sealed_links"],
            [head.merchant_id for head, _ in waiting],
            [head.link_seq for head, _ in waiting],
        )
        for (head, source), record in zip(waiting, records, strict=True):
            self.compared += 1
            last_seq, digest = record if head.link_seq else (0, GENESIS)
            if (last_seq, digest) != (head.seq, head.hash):
                found = "no such link" if digest is None else f"{digest.hex()} after {last_seq}"
                raise Disagreement(
                    "journal_links",
                    {"merchant_id": head.merchant_id, "link_seq": head.link_seq},
                    expected=f"hash {head.hash.hex()} after entry {head.seq}, "
                    f"as {source} sealed it,",
                    found=f"{found}: the chain was cut or rewritten",
                )
