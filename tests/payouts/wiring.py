"""What payout tests share: the machine's table, a provider's words, and the checks of the books."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path

from bursar.engine.model import JOURNAL
from bursar.incidents.model import INCIDENTS
from bursar.ledger.model import ACCOUNTS, HOLDS, TRANSFERS
from bursar.payouts.attempts import ExpireLease, RecordInquiry
from bursar.payouts.commands import ExpirePayout
from bursar.payouts.errors import NotDue
from bursar.payouts.inbox import ApplyEvent, ReceiveEvent
from bursar.payouts.jobs import what_came_back
from bursar.payouts.model import ATTEMPTS, FACTS, INBOX, PAYOUTS, Attempt, InboxEvent, Payout
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import Executed, Inquiry, NotExecuted
from bursar.rails.port import EventKind, ProviderEvent
from bursar.rails.proof import as_instructed, judge_inquiry, window_closes_at
from tests.engine.wiring import ORIGIN, Twin

BANK = CONTRACTS["bank"]
TABLES = Path(__file__).parents[1] / "tables"

CLOSED = NotExecuted(code="AC04", reason="closed", retryable=False, sent=True)
NOT_SENT = NotExecuted(code="not_sent", reason="refused", retryable=True, sent=False)
BUSY = NotExecuted(code="busy", reason="busy", retryable=True, sent=True)
OUR_BALANCE = NotExecuted(code="AM04", reason="empty", retryable=True, sent=True, ours=True)


def machine_table() -> dict[tuple[str, str], str | None]:
    """The hand-written table: (state, event) -> state, or None where the step is refused."""
    text = (TABLES / "payout_machine.txt").read_text(encoding="utf-8")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    events = lines[0][1:]
    return {
        (line[0], event): None if target == "." else target
        for line in lines[1:]
        for event, target in zip(events, line[1:], strict=True)
    }


LEGAL_STEPS = frozenset(
    (state, target) for (state, _), target in machine_table().items() if target is not None
)


def payout(twin: Twin, name: str = "p") -> Payout:
    """The payout `po_<name>` as it stands."""
    found: Payout = twin.memory.tables[PAYOUTS.name][f"po_{name}"]
    return found


def attempt(twin: Twin, name: str = "a") -> Attempt:
    """The attempt `pa_<name>` as it stands."""
    found: Attempt = twin.memory.tables[ATTEMPTS.name][f"pa_{name}"]
    return found


def incidents(twin: Twin) -> list[str]:
    """The kinds of all incidents, sorted."""
    return sorted(incident.kind for incident in twin.rows(INCIDENTS))


def stored(twin: Twin, event_id: str) -> InboxEvent:
    """The inbox row of an event of the bank."""
    found: InboxEvent = twin.memory.tables[INBOX.name]["bank", event_id]
    return found


def event(
    event_id: str,
    kind: EventKind | str,
    key: str = "a",
    *,
    amount: int = 100,
    currency: str = "EUR",
    cost: int = 0,
    code: str = "AC04",
    return_id: str | None = None,
    ref: str = "bt",
    sequence: int | None = None,
) -> ProviderEvent:
    """One message of the bank about the attempt under `key`."""
    return ProviderEvent(
        event_id=event_id,
        kind=EventKind(kind),
        provider_key=key,
        provider_ref=ref,
        amount_minor=amount,
        currency=currency,
        cost_minor=cost,
        code=code,
        reason="closed",
        return_id=return_id,
        sequence=sequence,
    )


def receive(twin: Twin, said: ProviderEvent) -> bool:
    """Store a message; whether it is new."""
    return twin.do(ReceiveEvent(origin=ORIGIN, provider="bank", event_id=said.event_id, body="{}"))


def apply(twin: Twin, said: ProviderEvent, *, retry_s: float = 0) -> None:
    """Apply a stored message."""
    delay = timedelta(seconds=retry_s)
    twin.do(ApplyEvent(origin=ORIGIN, provider="bank", event=said, retry_delay=delay))


def deliver(twin: Twin, said: ProviderEvent) -> str:
    """Store and apply a message as webhook and worker do; the inbox's result."""
    receive(twin, said)
    try:
        apply(twin, said)
    except NotDue:
        return "known"
    return stored(twin, said.event_id).result


def asked(twin: Twin, name: str, answer: Inquiry, *, count: int | None = None) -> RecordInquiry:
    """The command that records `answer`, judged as the worker judges it.

    `count` is the number of inquiries when the question was put, if not that of now.
    """
    about = attempt(twin, name)
    closes = window_closes_at(about.ambiguous_at, about.lease_until, BANK)
    outcome = as_instructed(
        judge_inquiry(
            answer,
            BANK,
            now=twin.clock.wall(),
            window_closes_at=closes,
            promised=about.state == "accepted",
        ),
        amount_minor=about.amount,
        currency=about.currency,
    )
    return RecordInquiry(
        origin=ORIGIN,
        attempt_id=f"pa_{name}",
        asked_at_inquiry=about.inquiries if count is None else count,
        outcome=outcome,
        retry_delay=timedelta(0),
        returned=what_came_back(answer) if isinstance(outcome, Executed) else None,
    )


def take_over(name: str = "a") -> ExpireLease:
    """End the lease of a worker that fell silent."""
    return ExpireLease(origin=ORIGIN, attempt_id=f"pa_{name}")


def expire(name: str = "p") -> ExpirePayout:
    """Give up a payout whose time ran out."""
    return ExpirePayout(origin=ORIGIN, payout_id=f"po_{name}")


def check_books(twin: Twin) -> None:
    """I1, I2, I3: counters are the sums of their transfers, debits are credits, holds are there.

    The sums are made anew from the transfers, in words of this file only.
    """
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    pending = {row.id: row for row in twin.rows(TRANSFERS) if row.kind == "pending"}
    ended: Counter[str] = Counter()
    for row in twin.rows(TRANSFERS):
        if row.kind in {"post", "void", "expire"}:
            assert row.pending_id is not None
            ended[row.pending_id] += 1
            reserved = pending[row.pending_id].amount
            sums[row.debit]["debits_pending"] -= reserved
            sums[row.credit]["credits_pending"] -= reserved
        if row.kind in {"post", "posted"}:
            sums[row.debit]["debits_posted"] += row.amount
            sums[row.credit]["credits_posted"] += row.amount
        if row.kind == "pending":
            sums[row.debit]["debits_pending"] += row.amount
            sums[row.credit]["credits_pending"] += row.amount
    assert all(count == 1 for count in ended.values())
    held: Counter[str] = Counter()
    active = {hold.id for hold in twin.rows(HOLDS) if hold.state == "active"}
    for row in pending.values():
        assert (row.hold_id in active) == (row.id not in ended)
        held[row.debit] += row.amount * (row.hold_id in active)
    totals: Counter[str] = Counter()
    for account in twin.rows(ACCOUNTS):
        made = sums[account.address]
        for counter in ("debits_pending", "debits_posted", "credits_pending", "credits_posted"):
            assert getattr(account, counter) == made[counter], account
            totals[counter] += made[counter]
        if account.role == "available":
            assert account.debits_pending == held[account.address]
            assert account.debits_pending + account.debits_posted <= account.credits_posted
    assert totals["debits_pending"] == totals["credits_pending"]
    assert totals["debits_posted"] == totals["credits_posted"]


def check_payouts(twin: Twin) -> None:
    """I4, I6, I11: holds, open attempts and versions of every payout."""
    holds = {hold.id: hold.state for hold in twin.rows(HOLDS)}
    open_of = Counter(row.payout_id for row in twin.rows(ATTEMPTS) if row.state in _OPEN)
    history: dict[str, list[dict[str, object]]] = defaultdict(list)
    for entry in sorted(twin.rows(JOURNAL), key=lambda entry: entry.seq):
        body = json.loads(entry.body)
        if "to" in body:
            assert entry.kind == f"payout.{body['to']}"
            history[entry.subject_id].append(body)
    for row in twin.rows(PAYOUTS):
        assert (holds[row.hold_id] == "active") == (row.state in _HELD), row
        assert open_of[row.id] == (row.state in {"sending", "sent"}), row
        steps = [(step["from"], step["to"]) for step in history[row.id]]
        assert [step["version"] for step in history[row.id]] == [*range(1, row.version + 1)]
        assert set(steps) <= LEGAL_STEPS
        assert [came for came, _ in steps] == ["created", *(went for _, went in steps[:-1])]
        assert steps[-1][1] == row.state
        assert 0 <= row.amount_returned <= row.amount


def net(twin: Twin) -> int:
    """Available less receivable, all merchants and currencies: what is free of obligations."""
    return sum(
        account.credits_posted - account.debits_posted
        for account in twin.rows(ACCOUNTS)
        if account.role in {"available", "receivable"}
    )


def paid_attempts(twin: Twin) -> set[str]:
    """Attempts of which it is known that their money left."""
    return {fact.attempt_id for fact in twin.rows(FACTS) if fact.kind == "paid"}


_OPEN = frozenset({"sending", "unknown", "accepted"})
_HELD = frozenset({"funds_locked", "in_review", "sending", "sent"})
