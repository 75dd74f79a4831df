"""The rows of one group in memory. Pure.

Decisions read and write here. Every change is recorded in an undo list, so a refusal takes back
one command and nothing else; what is left at the end is written in one statement per table.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from bursar.engine.errors import Undecided
from bursar.engine.model import (
    JOURNAL,
    JOURNAL_HEADS,
    ChildSet,
    JournalEntry,
    Key,
    Origin,
    Row,
    Table,
)
from bursar.kit.canonical import canonical_json
from bursar.kit.ids import Ids

R = TypeVar("R", bound=Row)
_MISSING: Any = object()


class Changes(msgspec.Struct, frozen=True):
    """What a group writes: updates and inserts by table, and claims nobody used."""

    updates: dict[Table[Any], list[Any]]
    inserts: dict[Table[Any], list[Any]]
    released: dict[Table[Any], list[Key]]
    wakes: frozenset[str]


class _Known:
    """What a group knows of one table, and what it changes there."""

    __slots__ = ("claimed", "inserted", "rows", "sets", "updated")

    def __init__(self) -> None:
        self.rows: dict[Key, Any] = {}
        self.inserted: dict[Key, None] = {}
        self.updated: dict[Key, None] = {}
        self.claimed: dict[Key, Any] = {}
        self.sets: dict[ChildSet[Any], dict[str, dict[Key, None]]] = {}


class WorkingSet:
    """All rows that the commands of one group may read or change."""

    def __init__(self, now: datetime, ids: Ids) -> None:
        """`now` is the database's time for the whole group."""
        self.now = now
        self.ids = ids
        self.origin = Origin("system", "")
        self._tables: dict[Table[Any], _Known] = {}
        self._wakes: dict[str, None] = {}
        # Flat triples of a mapping, a key and the value before: objects that live as long as the
        # group cost the garbage collector a visit each.
        self._undo: list[Any] = []

    def _of(self, table: Table[Any]) -> _Known:
        try:
            return self._tables[table]
        except KeyError:
            return self._tables.setdefault(table, _Known())

    # Loading, by the group before anything is decided.

    def add_loaded(self, table: Table[R], keys: Iterable[Key], rows: Iterable[R]) -> None:
        """Tell the set that `keys` were read and `rows` were found.

        What this group has claimed is found too, but is nobody's row until a decision takes it.
        """
        of_table = self._of(table)
        known, claimed = of_table.rows, of_table.claimed
        for key in keys:
            known.setdefault(key, None)
        for row in rows:
            key = table.key_of(row)
            if key not in claimed:
                known[key] = row

    def add_children(self, child: ChildSet[R], parents: Iterable[str], rows: Iterable[R]) -> None:
        """Tell the set that the children of `parents` were read and `rows` were found."""
        known = self._of(child.table)
        index = known.sets.setdefault(child, {})
        for parent in parents:
            index.setdefault(parent, {})
        for row in rows:
            key = child.table.key_of(row)
            known.rows.setdefault(key, row)
            parent_key = child.parent(row)
            if parent_key is not None and parent_key in index:
                index[parent_key][key] = None

    def add_claimed(self, table: Table[R], row: R) -> None:
        """Tell the set that this group's INSERT of `row` won."""
        self._of(table).claimed[table.key_of(row)] = row

    # Reading and writing, by decisions.

    def find(self, table: Table[R], key: Key) -> R | None:
        """The row, or None if there is none. Raises `Undecided` if it was never loaded."""
        try:
            row: R | None = self._tables[table].rows[key]
        except KeyError:
            raise Undecided(table.name, key) from None
        return row

    def get(self, table: Table[R], key: Key) -> R:
        """The row, which must exist."""
        row = self.find(table, key)
        if row is None:
            msg = f"{table.name} {key} does not exist"
            raise LookupError(msg)
        return row

    def children(self, child: ChildSet[R], parent: str) -> list[R]:
        """The children of a loaded parent, those made in this group included."""
        known = self._of(child.table)
        index = known.sets.get(child)
        if index is None or parent not in index:
            raise Undecided(child.name, parent)
        return [known.rows[key] for key in index[parent]]

    def children_of_all(self, child: ChildSet[R], parents: Iterable[str]) -> list[list[R]]:
        """`children` of each parent; what is missing is loaded for all of them at once."""
        index = self._of(child.table).sets.get(child, {})
        wanted = list(parents)
        missing = [parent for parent in wanted if parent not in index]
        if missing:
            raise Undecided(child.name, missing[0], more=tuple(missing[1:]))
        return [self.children(child, parent) for parent in wanted]

    def insert(self, table: Table[R], row: R) -> None:
        """A new row. It must not be known already."""
        known = self._of(table)
        key = table.key_of(row)
        before = known.rows.get(key, _MISSING)
        if before is not _MISSING and before is not None:
            msg = f"{table.name} {key} exists already"
            raise ValueError(msg)
        self._undo += (known.rows, key, before, known.inserted, key, _MISSING)
        known.rows[key] = row
        known.inserted[key] = None
        for child, index in known.sets.items():
            parent = child.parent(row)
            siblings = index.get(parent) if parent is not None else None
            if siblings is not None:
                self._undo += (siblings, key, _MISSING)
                siblings[key] = None

    def update(self, table: Table[R], row: R) -> None:
        """A new version of a loaded row."""
        key = table.key_of(row)
        known = self._tables[table]
        before = known.rows.get(key)
        if before is None:
            msg = f"{table.name} {key} was not loaded"
            raise LookupError(msg)
        self._undo += (known.rows, key, before)
        known.rows[key] = row
        if key not in known.updated and key not in known.inserted:
            self._undo += (known.updated, key, _MISSING)
            known.updated[key] = None

    def claim(self, table: Table[R], row: R) -> R | None:
        """Take what may not exist yet. None: it is ours now. A row: somebody had it before.

        Two commands of one group meet here: the first one takes the claim that the group won.
        """
        known = self._of(table)
        key = table.key_of(row)
        before = known.rows.get(key, _MISSING)
        if before is not _MISSING and before is not None:
            existing: R = before
            return existing
        inserted = known.claimed.get(key)
        if inserted is None:
            # Neither won nor loaded: its holder let go between our INSERT and our read.
            raise Undecided(table.name, key, load=False)
        self._undo += (known.rows, key, before)
        known.rows[key] = row
        if row != inserted:
            self._undo += (known.updated, key, _MISSING)
            known.updated[key] = None
        return None

    def journal(
        self,
        merchant_id: str,
        kind: str,
        subject_id: str,
        body: object,
        *,
        correlation_id: str = "",
    ) -> JournalEntry:
        """Append to a merchant's journal. The entry's number is final if the group commits.

        `correlation_id` stands in where the command's origin has none of its own.
        """
        head = self.get(JOURNAL_HEADS, merchant_id)
        entry = JournalEntry(
            merchant_id=merchant_id,
            seq=head.seq + 1,
            kind=kind,
            subject_id=subject_id,
            actor=self.origin.actor,
            correlation_id=self.origin.correlation_id or correlation_id,
            at=self.now,
            body=canonical_json(body).decode(),
        )
        self.update(JOURNAL_HEADS, msgspec.structs.replace(head, seq=entry.seq))
        self.insert(JOURNAL, entry)
        return entry

    def wake(self, topic: str) -> None:
        """Ask that workers waiting on `topic` are woken once this is committed."""
        if topic not in self._wakes:
            self._undo += (self._wakes, topic, _MISSING)
            self._wakes[topic] = None

    # Undoing and collecting, by the group.

    def mark(self) -> int:
        """A point to return to."""
        return len(self._undo)

    def rollback(self, mark: int) -> None:
        """Take back every change since `mark`."""
        undo = self._undo
        while len(undo) > mark:
            before, key, mapping = undo.pop(), undo.pop(), undo.pop()
            if before is _MISSING:
                del mapping[key]
            else:
                mapping[key] = before

    def inserted(self, table: Table[R]) -> list[R]:
        """The rows that are to be inserted, in the order in which they were made."""
        known = self._of(table)
        return [known.rows[key] for key in known.inserted]

    def changes(self) -> Changes:
        """What has to be written."""
        updates: dict[Table[Any], list[Any]] = {}
        inserts: dict[Table[Any], list[Any]] = {}
        released: dict[Table[Any], list[Key]] = {}
        for table, known in self._tables.items():
            rows = known.rows
            if known.updated:
                updates[table] = [rows[key] for key in known.updated]
            if known.inserted:
                inserts[table] = [rows[key] for key in known.inserted]
            unused = [key for key in known.claimed if rows.get(key) is None]
            if unused:
                released[table] = unused
        return Changes(updates, inserts, released, frozenset(self._wakes))
