"""Auditing: the runner of `bursar verify`, and the chains replayed from bytes.

Everything is read in one snapshot, through cursors, so memory stays flat whatever the number of
rows. A check either counts what it compared or raises `Disagreement` with the first row that
does not fit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec

from bursar.db.connection import Connection, connect
from bursar.engine.journal import GENESIS, link
from bursar.engine.model import PLATFORM, JournalEntry, JournalHead, JournalLink, Row
from bursar.engine.queries import QUERIES

CHUNK = 1000
"""Rows fetched at a time. Two chunks of each open cursor is all that is in memory."""

T = TypeVar("T")
Check = Callable[[Connection], Awaitable[str]]
"""Compares something in the snapshot; returns a line of counts or raises `Disagreement`."""


class Disagreement(Exception):
    """A row is not what the other rows say it must be."""

    def __init__(self, table: str, key: dict[str, object], *, expected: str, found: str) -> None:
        """`key` names the row's place; `expected` and `found` are in words."""
        where = ", ".join(f"{name} {value}" for name, value in key.items())
        super().__init__(f"{table} ({where}): expected {expected}; found {found}")


class Audit(msgspec.Struct, frozen=True):
    """A line for each check that passed, and the first disagreement, if there is one."""

    lines: tuple[str, ...]
    disagreement: str | None


async def run_checks(dsn: str, checks: Iterable[Check]) -> Audit:
    """Run checks in order, in one read-only snapshot, up to the first disagreement.

    `dsn` is best the auditor's. Raises the driver's errors.
    """
    connection = await connect(dsn, name="bursar verify")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await compare(connection, checks)
    finally:
        await connection.close()


async def compare(connection: Connection, checks: Iterable[Check]) -> Audit:
    """Run checks in order, in the transaction that is open, up to the first disagreement."""
    lines: list[str] = []
    await connection.execute(QUERIES["verify_plans"])
    try:
        for check in checks:
            lines += [await check(connection)]
    except Disagreement as disagreement:
        return Audit(tuple(lines), str(disagreement))
    return Audit(tuple(lines), None)


class Stream(Generic[T]):
    """The rows of one statement in order, a chunk at a time."""

    def __init__(self, cursor: Any, load: Callable[..., T]) -> None:
        """`load` builds a row from the columns. Use `open_stream`."""
        self._cursor = cursor
        self._load = load
        self._rows: list[T] = []
        self._next = 0
        self.taken = 0

    async def peek(self) -> T | None:
        """The next row, which stays; None at the end."""
        if self._next == len(self._rows):
            load = self._load
            self._rows = [load(*record) for record in await self._cursor.fetch(CHUNK)]
            self._next = 0
            if not self._rows:
                return None
        return self._rows[self._next]

    async def next(self) -> T | None:
        """The next row; None at the end."""
        row = await self.peek()
        if row is not None:
            self._next += 1
            self.taken += 1
        return row

    async def take_while(self, belongs: Callable[[T], bool]) -> list[T]:
        """The rows from here on, up to the first that does not belong."""
        taken: list[T] = []
        while await self.peek() is not None:
            rows, start = self._rows, self._next
            end = start
            while end < len(rows) and belongs(rows[end]):
                end += 1
            taken += rows[start:end]
            self._next = end
            if end < len(rows):
                break
        self.taken += len(taken)
        return taken


async def open_stream(
    connection: Connection, statement: str, load: Callable[..., T], *arguments: object
) -> Stream[T]:
    """Run a statement and read its rows as they are wanted."""
    return Stream(await connection.cursor(statement, *arguments), load)


class AttachedRow(Protocol):
    """A row that is hashed with the journal entry it names."""

    @property
    def merchant_id(self) -> str:
        """Whose chain."""
        ...

    @property
    def journal_seq(self) -> int:
        """Which entry."""
        ...


class Attached(msgspec.Struct, frozen=True):
    """A table of such rows.

    `rows` reads it in key order; `headless` finds the first row whose chain has no head.
    """

    table: str
    row: type[Row]
    key: tuple[str, ...]
    rows: str
    headless: str


def chains(attached: Sequence[Attached]) -> Check:
    """Every chain: gap-free, its hashes as the bytes give them, covering every row (F91, I14).

    `attached` stand in the order in which the engine hashes them.
    """

    async def check(connection: Connection) -> str:
        await _headless(connection, attached)
        replay = _Replay(
            await open_stream(connection, QUERIES["verify_links"], JournalLink),
            await open_stream(connection, QUERIES["verify_entries"], JournalEntry),
            [(each, await open_stream(connection, each.rows, each.row)) for each in attached],
        )
        heads = await open_stream(connection, QUERIES["journal_heads_all"], JournalHead)
        while (head := await heads.next()) is not None:
            await replay.chain(head)
        return f"chains: {heads.taken} replayed, {replay.counts()}"

    return check


async def _headless(connection: Connection, attached: Sequence[Attached]) -> None:
    """A row whose merchant has no head would belong to no chain and be read by no replay."""
    if not await connection.fetchval(QUERIES["verify_platform_head"], PLATFORM):
        raise Disagreement(
            "journal_heads",
            {"merchant_id": PLATFORM},
            expected="the platform's chain",
            found="none",
        )
    sources = [
        ("journal_links", ("merchant_id", "link_seq"), QUERIES["verify_headless_links"]),
        ("journal", ("merchant_id", "seq"), QUERIES["verify_headless_entries"]),
        *((each.table, each.key, each.headless) for each in attached),
    ]
    for table, key, statement in sources:
        record = await connection.fetchrow(statement)
        if record is not None:
            raise Disagreement(
                table,
                dict(zip(key, record, strict=True)),
                expected="a chain of this merchant in journal_heads",
                found="none",
            )


class _Replay:
    """All chains side by side: the streams are ordered by merchant, as the heads are."""

    def __init__(
        self,
        links: Stream[JournalLink],
        entries: Stream[JournalEntry],
        attached: Sequence[tuple[Attached, Stream[Row]]],
    ) -> None:
        self._links = links
        self._entries = entries
        self._attached = attached

    def counts(self) -> str:
        attached = "".join(f", {rows.taken} {each.table}" for each, rows in self._attached)
        return f"{self._links.taken} links, {self._entries.taken} entries{attached}"

    async def chain(self, head: JournalHead) -> None:
        """One merchant's chain from its first byte to its head."""
        merchant_id = head.merchant_id
        end = JournalHead(merchant_id, 0, 0, GENESIS)
        while True:
            found = await self._links.peek()
            if found is None or found.merchant_id != merchant_id:
                break
            await self._links.next()
            end = await self._link(end, found)
        await self._nothing_beyond(end)
        for name in ("seq", "link_seq", "hash"):
            expected, stored = getattr(end, name), getattr(head, name)
            if expected != stored:
                raise Disagreement(
                    "journal_heads",
                    {"merchant_id": merchant_id},
                    expected=f"{name} {_words(expected)}, where its last link ends",
                    found=_words(stored),
                )

    async def _link(self, end: JournalHead, found: JournalLink) -> JournalHead:
        """Recompute the link after `end`; returns the new end."""
        merchant_id = end.merchant_id
        link_seq = end.link_seq + 1
        if found.link_seq != link_seq:
            raise Disagreement(
                "journal_links",
                {"merchant_id": merchant_id, "link_seq": link_seq},
                expected=f"a link before link {found.link_seq}",
                found="none",
            )
        for name, expected in (
            ("first_seq", end.seq + 1),
            ("last_seq", max(found.first_seq, found.last_seq)),
            ("previous_hash", end.hash),
        ):
            if getattr(found, name) != expected:
                raise Disagreement(
                    "journal_links",
                    {"merchant_id": merchant_id, "link_seq": link_seq},
                    expected=f"{name} {_words(expected)}, after link {end.link_seq}",
                    found=_words(getattr(found, name)),
                )
        entries = await self._entries_of(found)
        attachments = await self._attachments_of(found)
        recomputed = link(end, link_seq, end.hash, entries, attachments)
        if recomputed.hash != found.hash:
            raise Disagreement(
                "journal_links",
                {"merchant_id": merchant_id, "link_seq": link_seq},
                expected=f"hash {_words(found.hash)}, as it was written,",
                found=f"{_words(recomputed.hash)} from the bytes of journal entries "
                f"{found.first_seq} to {found.last_seq}{self._attached_words(attachments)}: "
                f"one of these rows, or the link, was changed",
            )
        return JournalHead(merchant_id, found.last_seq, link_seq, found.hash)

    async def _entries_of(self, found: JournalLink) -> list[JournalEntry]:
        merchant_id, last_seq = found.merchant_id, found.last_seq
        entries = await self._entries.take_while(
            lambda row: row.seq <= last_seq and row.merchant_id == merchant_id
        )
        wanted = range(found.first_seq, last_seq + 1)
        if len(entries) != len(wanted) or entries[0].seq != found.first_seq:
            for seq, entry in zip_longest(wanted, (entry.seq for entry in entries)):
                if seq != entry:
                    raise _entry_misplaced(found, seq, entry)
        return entries

    async def _attachments_of(self, found: JournalLink) -> list[Row]:
        merchant_id, last_seq = found.merchant_id, found.last_seq
        attachments: list[Row] = []
        for each, stream in self._attached:
            rows = await cast("Stream[Any]", stream).take_while(
                lambda row: row.journal_seq <= last_seq and row.merchant_id == merchant_id
            )
            if rows and rows[0].journal_seq < found.first_seq:
                raise _no_entry(each, rows[0])
            attachments += rows
        return attachments

    def _attached_words(self, attachments: Sequence[Row]) -> str:
        counts = (
            (sum(isinstance(row, each.row) for row in attachments), each.table)
            for each, _ in self._attached
        )
        return "".join(f" and their {count} {table}" for count, table in counts)

    async def _nothing_beyond(self, end: JournalHead) -> None:
        """What stands after the last link is in no hash: nobody vouches for it."""
        entry = await self._entries.peek()
        if entry is not None and entry.merchant_id == end.merchant_id:
            raise Disagreement(
                "journal",
                {"merchant_id": end.merchant_id, "seq": entry.seq},
                expected=f"no entry after {end.seq}, where the last link ends",
                found=entry.kind,
            )
        for each, stream in self._attached:
            row: Any = await stream.peek()
            if row is not None and row.merchant_id == end.merchant_id:
                raise _no_entry(each, row)


def _entry_misplaced(found: JournalLink, wanted: int | None, seq: int | None) -> Disagreement:
    place = seq if wanted is None else wanted
    return Disagreement(
        "journal",
        {"merchant_id": found.merchant_id, "seq": place},
        expected=f"entries {found.first_seq} to {found.last_seq} of link {found.link_seq}, "
        "without a gap",
        found="none here" if seq is None or wanted is not None else "one too many",
    )


def _no_entry(each: Attached, row: Any) -> Disagreement:
    return Disagreement(
        each.table,
        {name: getattr(row, name) for name in each.key},
        expected="a journal entry that it belongs to, under a link",
        found="none",
    )


def _words(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
