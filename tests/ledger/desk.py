"""A working set with the accounts of a few merchants, on which recipes run one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from bursar.engine.journal import GENESIS
from bursar.engine.model import JOURNAL_HEADS, JournalEntry, JournalHead, Row, Table
from bursar.engine.working_set import WorkingSet
from bursar.incidents.model import INCIDENTS, OPEN_INCIDENTS
from bursar.kit.ids import SeededIds
from bursar.ledger.model import (
    ACCOUNTS,
    HOLDS,
    PENDING_LEGS,
    TRANSFERS,
    Account,
    AccountRole,
    accounts_of,
    address,
)
from tests.engine.wiring import T0
from tests.ledger.bookcheck import Books, check_books

Result = TypeVar("Result")
R = TypeVar("R", bound=Row)
ABSENT = "CHF"
"""A currency that nobody has accounts in."""


class Desk:
    """Decides as a group does: a refusal takes back all that its decision did."""

    def __init__(self, merchants: Sequence[str], currencies: Sequence[str]) -> None:
        self._merchants = merchants
        self._ids = SeededIds(7)
        self._kept: dict[Table[Any], dict[Any, Any]] = {}
        self.ws = WorkingSet(T0, self._ids)
        opened = [
            account
            for merchant in merchants
            for currency in currencies
            for account in accounts_of(merchant, currency)
        ]
        self.ws.add_loaded(ACCOUNTS, self._absent(), opened)
        heads = [JournalHead(merchant, 0, 0, GENESIS) for merchant in merchants]
        self.ws.add_loaded(JOURNAL_HEADS, (), heads)
        self.ws.add_children(OPEN_INCIDENTS, [account.address for account in opened], ())

    def _absent(self) -> list[str]:
        return [address(name, role, ABSENT) for name in self._merchants for role in AccountRole]

    def decide(
        self, merchant: str, subject_id: str, decision: Callable[[WorkingSet, JournalEntry], Result]
    ) -> Result:
        """Run one decision under a journal entry of its own; what it raises changes nothing."""
        mark = self.ws.mark()
        try:
            entry = self.ws.journal(merchant, "test", subject_id, {})
            return decision(self.ws, entry)
        except Exception:
            self.ws.rollback(mark)
            raise

    def turn_page(self) -> None:
        """Begin the next group: what was written is now what is loaded."""
        tables: tuple[Table[Any], ...] = (ACCOUNTS, JOURNAL_HEADS, HOLDS, TRANSFERS, INCIDENTS)
        for table in tables:
            kept = self._kept.setdefault(table, {})
            kept.update({table.key_of(row): row for row in self.rows(table)})
        self.ws = WorkingSet(T0, self._ids)
        self.ws.add_loaded(ACCOUNTS, self._absent(), ())
        for table in (HOLDS, ACCOUNTS, JOURNAL_HEADS):
            self.ws.add_loaded(table, (), self._kept[table].values())
        self.ws.add_children(PENDING_LEGS, self._kept[HOLDS], self._kept[TRANSFERS].values())
        standing = [row for row in self._kept[INCIDENTS].values() if row.closed_at is None]
        self.ws.add_children(OPEN_INCIDENTS, self._kept[ACCOUNTS], standing)

    def rows(self, table: Table[R]) -> list[R]:
        """All rows of a table, those of earlier groups included."""
        rows = dict(self._kept.get(table, {}))
        known = self.ws._tables.get(table)
        if known is not None:
            rows.update({key: row for key, row in known.rows.items() if row is not None})
        return list(rows.values())

    def books(self) -> Books:
        """All rows of the ledger."""
        return Books(
            accounts=self.rows(ACCOUNTS),
            transfers=self.rows(TRANSFERS),
            holds=self.rows(HOLDS),
            incidents=self.rows(INCIDENTS),
        )

    def check(self) -> None:
        """See `check_books`."""
        check_books(self.books())

    def account(self, merchant: str, role: AccountRole, currency: str) -> Account:
        """One account."""
        return self.ws.get(ACCOUNTS, address(merchant, role, currency))

    def image(self) -> bytes:
        """Every row that is known, and all that is to be written, as bytes."""
        known = [
            (
                table.name,
                list(kept.rows.items()),
                list(kept.inserted),
                list(kept.updated),
                [
                    (parent, list(children))
                    for index in kept.sets.values()
                    for parent, children in index.items()
                    if children
                ],
            )
            for table, kept in self.ws._tables.items()
            if kept.rows
        ]
        return msgspec.json.encode((known, list(self.ws._wakes)))
