"""The rows of one group in memory. Pure.

Decisions read and write here. Every change is recorded in an undo list, so a refusal takes back
one command and nothing else; what is left at the end is written in one statement per table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TypeVar, cast

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


class WorkingSet:
    """All rows that the commands of one group may read or change."""

    def __init__(self, now: datetime, ids: Ids) -> None:
        """`now` is the database's time for the whole group."""
        self.now = now
        self.ids = ids
        self.origin = Origin("system", "")
        self._rows: dict[Table[Any], dict[Key, Any]] = {}
        self._dirty: dict[Table[Any], dict[Key, str]] = {}
        self._children: dict[ChildSet[Any], dict[str, dict[Key, None]]] = {}
        self._child_sets: dict[Table[Any], list[ChildSet[Any]]] = {}
        self._claimed: dict[Table[Any], dict[Key, Any]] = {}
        self._wakes: dict[str, None] = {}
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []

    # Loading, by the group before anything is decided.

    def add_loaded(self, table: Table[R], keys: Iterable[Key], rows: Iterable[R]) -> None:
        """Tell the set that `keys` were read and `rows` were found."""
        known = self._rows.setdefault(table, {})
        for key in keys:
            known.setdefault(key, None)
        for row in rows:
            known[table.key_of(row)] = row

    def add_children(self, child: ChildSet[R], parents: Iterable[str], rows: Iterable[R]) -> None:
        """Tell the set that the children of `parents` were read and `rows` were found."""
        sets = self._child_sets.setdefault(child.table, [])
        if child not in sets:
            sets.append(child)
        index = self._children.setdefault(child, {})
        for parent in parents:
            index.setdefault(parent, {})
        known = self._rows.setdefault(child.table, {})
        for row in rows:
            key = child.table.key_of(row)
            known.setdefault(key, row)
            parent_key = child.parent(row)
            if parent_key is not None and parent_key in index:
                index[parent_key][key] = None

    def add_claimed(self, table: Table[R], row: R) -> None:
        """Tell the set that this group's INSERT of `row` won."""
        self._claimed.setdefault(table, {})[table.key_of(row)] = row

    # Reading and writing, by decisions.

    def find(self, table: Table[R], key: Key) -> R | None:
        """The row, or None if there is none. Raises `Undecided` if it was never loaded."""
        rows = self._rows.get(table)
        row = _MISSING if rows is None else rows.get(key, _MISSING)
        if row is _MISSING:
            raise Undecided(table.name, key)
        return cast("R | None", row)

    def get(self, table: Table[R], key: Key) -> R:
        """The row, which must exist."""
        row = self.find(table, key)
        if row is None:
            msg = f"{table.name} {key} does not exist"
            raise LookupError(msg)
        return row

    def children(self, child: ChildSet[R], parent: str) -> list[R]:
        """The children of a loaded parent, those made in this group included."""
        index = self._children.get(child)
        if index is None or parent not in index:
            raise Undecided(child.name, parent)
        rows = self._rows[child.table]
        return [rows[key] for key in index[parent]]

    def insert(self, table: Table[R], row: R) -> None:
        """A new row. It must not be known already."""
        key = table.key_of(row)
        rows = self._rows.setdefault(table, {})
        if rows.get(key) is not None:
            msg = f"{table.name} {key} exists already"
            raise ValueError(msg)
        self._set(rows, key, row)
        self._set(self._dirty.setdefault(table, {}), key, "insert")
        for child in self._child_sets.get(table, ()):
            parent = child.parent(row)
            siblings = self._children[child].get(parent) if parent is not None else None
            if siblings is not None:
                self._set(siblings, key, None)

    def update(self, table: Table[R], row: R) -> None:
        """A new version of a loaded row."""
        key = table.key_of(row)
        rows = self._rows[table]
        if rows.get(key) is None:
            msg = f"{table.name} {key} was not loaded"
            raise LookupError(msg)
        self._set(rows, key, row)
        dirty = self._dirty.setdefault(table, {})
        if key not in dirty:
            self._set(dirty, key, "update")

    def claim(self, table: Table[R], row: R) -> R | None:
        """Take what may not exist yet. None: it is ours now. A row: somebody had it before.

        Two commands of one group meet here: the first one takes the claim that the group won.
        """
        key = table.key_of(row)
        rows = self._rows.setdefault(table, {})
        existing = rows.get(key)
        if existing is not None:
            return cast("R", existing)
        inserted = self._claimed.get(table, {}).get(key)
        if inserted is None:
            # Neither won nor loaded: its holder let go between our INSERT and our read.
            raise Undecided(table.name, key, load=False)
        self._set(rows, key, row)
        if row != inserted:
            self._set(self._dirty.setdefault(table, {}), key, "update")
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
            self._set(self._wakes, topic, None)

    # Undoing and collecting, by the group.

    def mark(self) -> int:
        """A point to return to."""
        return len(self._undo)

    def rollback(self, mark: int) -> None:
        """Take back every change since `mark`."""
        while len(self._undo) > mark:
            mapping, key, before = self._undo.pop()
            if before is _MISSING:
                del mapping[key]
            else:
                mapping[key] = before

    def changes(self) -> Changes:
        """What has to be written."""
        updates: dict[Table[Any], list[Any]] = {}
        inserts: dict[Table[Any], list[Any]] = {}
        for table, dirty in self._dirty.items():
            rows = self._rows[table]
            for key, kind in dirty.items():
                (inserts if kind == "insert" else updates).setdefault(table, []).append(rows[key])
        return Changes(updates, inserts, dict(self._unused_claims()), frozenset(self._wakes))

    def _unused_claims(self) -> Iterator[tuple[Table[Any], list[Key]]]:
        for table, claimed in self._claimed.items():
            rows = self._rows.get(table, {})
            unused = [key for key in claimed if rows.get(key) is None]
            if unused:
                yield table, unused

    def _set(self, mapping: dict[Any, Any], key: Any, value: Any) -> None:
        self._undo.append((mapping, key, mapping.get(key, _MISSING)))
        mapping[key] = value
