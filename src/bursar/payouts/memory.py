"""Payouts over the in-memory twin: its queues, its unique rules and its reads.

Each queue means what the statement of its name in `queries.sql` means, and each rule repeats a
unique index of the schema; contract tests hold both to that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from bursar.engine.journal import GENESIS
from bursar.engine.memory import Due, MemoryStore, Rows, Unique
from bursar.engine.model import JOURNAL_HEADS, PLATFORM, JournalHead
from bursar.incidents.model import INCIDENTS, MERCHANT_OWES, Incident
from bursar.kit.clock import Clock
from bursar.ledger.model import ACCOUNTS, HOLDS, TRANSFERS, Account, Hold, HoldState
from bursar.payouts.machine import OPEN_ATTEMPT, AttemptState, State
from bursar.payouts.model import ATTEMPTS, INBOX, PAYOUTS, Attempt, InboxEvent, Payout


def _earliest(found: Iterable[tuple[Any, str]]) -> list[str]:
    return [key for _, key in sorted(found)]


def _in_flight(arguments: Mapping[str, Any]) -> Collection[str]:
    found: Collection[str] = arguments.get("in_flight", ())
    return found


def _payouts(tables: Mapping[str, Rows]) -> Iterator[Payout]:
    for row in tables.get(PAYOUTS.name, {}).values():
        if row.state == State.FUNDS_LOCKED:
            yield row


def _attempts(tables: Mapping[str, Rows], due: Callable[[Attempt], bool]) -> Iterator[Attempt]:
    for row in tables.get(ATTEMPTS.name, {}).values():
        if due(row):
            yield row


def _due_payouts(
    tables: Mapping[str, Rows], now: datetime, arguments: Mapping[str, Any]
) -> list[str]:
    busy = _in_flight(arguments)
    return _earliest(
        ((-row.priority, row.next_attempt_at), row.id)
        for row in _payouts(tables)
        if row.next_attempt_at is not None
        and row.next_attempt_at <= now < row.expires_at
        and row.id not in busy
    )


def _due_expiries(tables: Mapping[str, Rows], now: datetime, _: Mapping[str, Any]) -> list[str]:
    frozen = {row.payout_id for row in _attempts(tables, lambda row: row.frozen_at is not None)}
    return _earliest(
        (row.expires_at, row.id)
        for row in _payouts(tables)
        if row.expires_at <= now and row.id not in frozen
    )


def _due_leases(tables: Mapping[str, Rows], now: datetime, _: Mapping[str, Any]) -> list[str]:
    late = _attempts(
        tables, lambda row: row.state == AttemptState.SENDING and row.lease_until <= now
    )
    return _earliest((row.lease_until, row.id) for row in late)


def _due_inquiries(
    tables: Mapping[str, Rows], now: datetime, arguments: Mapping[str, Any]
) -> list[str]:
    busy = _in_flight(arguments)
    return _earliest(
        (row.inquire_at, row.id)
        for row in _attempts(tables, lambda row: row.state != AttemptState.SENDING)
        if row.inquire_at is not None and row.inquire_at <= now and row.id not in busy
    )


def _due_resends(
    tables: Mapping[str, Rows], now: datetime, arguments: Mapping[str, Any]
) -> list[str]:
    busy = _in_flight(arguments)
    return _earliest(
        (row.resend_at, row.id)
        for row in _attempts(tables, lambda row: row.state == AttemptState.UNKNOWN)
        if row.resend_at is not None and row.resend_at <= now and row.id not in busy
    )


def _due_inbox(
    tables: Mapping[str, Rows], now: datetime, arguments: Mapping[str, Any]
) -> list[str]:
    busy = _in_flight(arguments)
    waiting: Iterable[InboxEvent] = tables.get(INBOX.name, {}).values()
    named = ((row.next_try_at, f"{row.provider}/{row.event_id}") for row in waiting)
    return _earliest(
        (at, key) for at, key in named if at is not None and at <= now and key not in busy
    )


QUEUES: Final[Mapping[str, Due]] = MappingProxyType(
    {
        "payouts": _due_payouts,
        "expiries": _due_expiries,
        "leases": _due_leases,
        "inquiries": _due_inquiries,
        "resends": _due_resends,
        "inbox": _due_inbox,
    }
)
"""What `take_due` answers, by queue."""


def _of_active_hold(hold: Hold) -> object:
    return hold.subject_id if hold.state == HoldState.ACTIVE else None


def _of_open_attempt(attempt: Attempt) -> object:
    return attempt.payout_id if attempt.state in OPEN_ATTEMPT else None


def _of_account(account: Account) -> object:
    return (account.merchant_id, account.currency, account.role)


def _of_open_debt(incident: Incident) -> object:
    is_open = incident.kind == MERCHANT_OWES and incident.closed_at is None
    return incident.subject_id if is_open else None


UNIQUE: Final = (
    Unique("one_active_hold", HOLDS, _of_active_hold),
    Unique("one_open_attempt", ATTEMPTS, _of_open_attempt),
    Unique(
        "attempts_payout_id_number_key",
        ATTEMPTS,
        lambda attempt: (attempt.payout_id, attempt.number),
    ),
    Unique("pending_ends_once", TRANSFERS, lambda transfer: transfer.pending_id),
    Unique("accounts_merchant_id_currency_role_key", ACCOUNTS, _of_account),
    Unique("one_open_debt", INCIDENTS, _of_open_debt),
)
"""The schema's unique indexes, besides primary keys."""


def new_store(clock: Clock) -> MemoryStore:
    """An empty twin that has the platform's journal, as a migration leaves it."""
    store = MemoryStore(clock, queues=QUEUES, unique=UNIQUE)
    store.tables[JOURNAL_HEADS.name] = {PLATFORM: JournalHead(PLATFORM, 0, 0, GENESIS)}
    return store


class MemoryReads:
    """Implements `PayoutReads` over the twin."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def attempt_now(self, attempt_id: str) -> tuple[Attempt, str, datetime] | None:
        """See `PayoutReads`."""
        tables = self._store.tables
        attempt: Attempt | None = tables.get(ATTEMPTS.name, {}).get(attempt_id)
        if attempt is None:
            return None
        payout: Payout = tables[PAYOUTS.name][attempt.payout_id]
        return attempt, payout.correlation_id, self._store.clock.wall()

    async def inbox_body(self, provider: str, event_id: str) -> str | None:
        """See `PayoutReads`."""
        event: InboxEvent | None = self._store.tables.get(INBOX.name, {}).get((provider, event_id))
        return None if event is None else event.body
