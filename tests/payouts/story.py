"""A payout's life told in few words, over the in-memory twin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from bursar.engine.model import JOURNAL
from bursar.incidents.model import INCIDENTS
from bursar.ledger.model import ACCOUNTS, HOLDS, TRANSFERS, AccountRole, Hold, TransferKind
from bursar.payouts.attempts import ExpireLease, RecordInquiry
from bursar.payouts.commands import ExpirePayout
from bursar.payouts.inbox import ApplyEvent, ReceiveEvent
from bursar.payouts.machine import OPEN_ATTEMPT, State
from bursar.payouts.model import ATTEMPTS, PAYOUTS, Attempt, Payout
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import (
    Accepted,
    Executed,
    Inquiry,
    NotExecuted,
    Outcome,
    StatusExecuted,
    StatusRejected,
    Unknown,
)
from bursar.rails.port import EventKind, ProviderEvent
from bursar.rails.proof import as_instructed, judge_inquiry, window_closes_at
from tests.engine.wiring import ORIGIN, Twin, begin, create, fund, reply

BANK = CONTRACTS["bank"]
AMOUNT, FEE, COST = 100, 4, 3

EXECUTED = Executed(provider_ref="bt_1", amount_minor=AMOUNT, currency="EUR", cost_minor=COST)
ACCEPTED = Accepted("bt_1")
UNKNOWN = Unknown("timeout")
DECLINED = NotExecuted(code="AC04", reason="closed", retryable=False, sent=True)
NOT_SENT = NotExecuted(code="not_sent", reason="refused", retryable=True, sent=False)

# What became of the money, as `StatusX` that the provider would answer in the end.
TRUTH_PAID = StatusExecuted(
    provider_ref="bt_1", amount_minor=AMOUNT, currency="EUR", cost_minor=COST
)
TRUTH_FAILED = StatusRejected("AC04", "closed")


def told(
    kind: EventKind,
    *,
    event: str | None = None,
    attempt: str = "1",
    amount: int = AMOUNT,
    currency: str = "EUR",
    cost: int = COST,
    code: str = "AC04",
    item: str = "rt_1",
    ref: str = "bt_1",
) -> ProviderEvent:
    """An event about the attempt `attempt`; its id is made of what it says."""
    returned = kind is EventKind.RETURNED
    return ProviderEvent(
        event_id=event or f"evt_{kind}_{attempt}_{item if returned else ''}",
        kind=kind,
        provider_key=attempt,
        provider_ref=ref,
        amount_minor=amount,
        currency=currency,
        cost_minor=cost if kind is EventKind.PAID else 0,
        code=code if kind in (EventKind.FAILED, EventKind.RETURNED) else None,
        reason=None,
        return_id=item if returned else None,
    )


class Story(Twin):
    """A merchant with funds and, unless told otherwise, one payout `p` of 100 EUR and fee 4."""

    def __init__(self, *, funds: int = 1000, payout: bool = True, max_retries: int = 2) -> None:
        super().__init__()
        if funds:
            self.do(fund(funds))
        self._events = 0
        if payout:
            self.do(create("p", AMOUNT, fee=FEE, max_retries=max_retries))

    def begin(self, attempt: str = "1", name: str = "p") -> Attempt:
        """Begin the attempt `pa_<attempt>` under the lease `ls_<attempt>`."""
        return self.do(begin(name, attempt, token=f"ls_{attempt}")).attempt

    def reply(
        self, outcome: Outcome, attempt: str = "1", *, token: str | None = None, retry_s: float = 0
    ) -> None:
        """The send's outcome, under the attempt's own lease unless another `token` is given."""
        self.do(reply(attempt, outcome, token=token or f"ls_{attempt}", retry_s=retry_s))

    def sent(self, outcome: Outcome, attempt: str = "1", name: str = "p") -> None:
        """Begin and reply."""
        self.begin(attempt, name)
        self.reply(outcome, attempt)

    def receive(self, event: ProviderEvent) -> bool:
        """Store the event; whether it was new."""
        return self.do(
            ReceiveEvent(origin=ORIGIN, provider="bank", event_id=event.event_id, body="{}")
        )

    def apply(self, event: ProviderEvent, *, retry_s: float = 0) -> None:
        """Apply a stored event."""
        self.do(
            ApplyEvent(
                origin=ORIGIN,
                provider="bank",
                event=event,
                retry_delay=timedelta(seconds=retry_s),
            )
        )

    def hear(self, *events: ProviderEvent) -> None:
        """Receive and apply each that is new."""
        for event in events:
            if self.receive(event):
                self.apply(event)

    def record(self, outcome: Outcome, attempt: str = "1", *, asked_at: int | None = None) -> None:
        """Record an inquiry's outcome as judged elsewhere."""
        count = self.attempt(attempt).inquiries if asked_at is None else asked_at
        self.do(
            RecordInquiry(
                origin=ORIGIN,
                attempt_id=f"pa_{attempt}",
                asked_at_inquiry=count,
                outcome=outcome,
                retry_delay=timedelta(0),
            )
        )

    def inquire(self, answer: Inquiry, attempt: str = "1") -> None:
        """Ask the provider now and record what its answer proves, as the worker does."""
        row = self.attempt(attempt)
        closes = window_closes_at(row.ambiguous_at, row.lease_until, BANK)
        outcome = judge_inquiry(
            answer,
            BANK,
            now=self.clock.wall(),
            window_closes_at=closes,
            promised=row.state == "accepted",
        )
        self.record(as_instructed(outcome, amount_minor=row.amount, currency=row.currency), attempt)

    def expire_lease(self, attempt: str = "1") -> None:
        """Let somebody take the attempt from a silent worker."""
        self.do(ExpireLease(origin=ORIGIN, attempt_id=f"pa_{attempt}"))

    def expire_payout(self, name: str = "p") -> None:
        """Let the payout's time run out."""
        self.do(ExpirePayout(origin=ORIGIN, payout_id=f"po_{name}"))

    def payout(self, name: str = "p") -> Payout:
        """The payout's row."""
        return next(row for row in self.rows(PAYOUTS) if row.id == f"po_{name}")

    def attempts(self) -> list[Attempt]:
        """All attempts, oldest first."""
        return sorted(self.rows(ATTEMPTS), key=lambda row: row.number)

    def attempt(self, attempt: str = "1") -> Attempt:
        """The attempt's row."""
        return next(row for row in self.rows(ATTEMPTS) if row.id == f"pa_{attempt}")

    def hold(self, name: str = "p") -> Hold:
        """The payout's hold."""
        return next(row for row in self.rows(HOLDS) if row.id == self.payout(name).hold_id)

    @property
    def state(self) -> str:
        """Where the payout `p` stands."""
        return str(self.payout().state)

    @property
    def net(self) -> int:
        """Available less receivable: what the merchant has, all in all."""
        return self.free - self.account(AccountRole.RECEIVABLE).balance

    @property
    def free(self) -> int:
        """What the merchant may draw."""
        return self.account(AccountRole.AVAILABLE).free

    def balances(self) -> dict[str, int]:
        """What stands on each account, posted credits less posted debits, zeros left out."""
        return {
            row.role: row.credits_posted - row.debits_posted
            for row in self.rows(ACCOUNTS)
            if row.credits_posted != row.debits_posted
        }

    def check(self) -> None:
        """Invariants that hold after every command."""
        check_books(self)
        check_payouts(self)


def check_books(story: Twin) -> None:
    """I1, I2, I3: counters are what the transfers make them, and nobody is overdrawn."""
    moved: dict[str, list[int]] = {row.address: [0, 0, 0, 0] for row in story.rows(ACCOUNTS)}
    for transfer in story.rows(TRANSFERS):
        for address, pending, posted in ((transfer.debit, 0, 1), (transfer.credit, 2, 3)):
            if transfer.kind == TransferKind.PENDING:
                moved[address][pending] += transfer.amount
            elif transfer.kind != TransferKind.POSTED:
                moved[address][pending] -= transfer.amount
            if transfer.kind in (TransferKind.POSTED, TransferKind.POST):
                moved[address][posted] += transfer.amount
    sums: dict[str, int] = {}
    for row in story.rows(ACCOUNTS):
        counters = [row.debits_pending, row.debits_posted, row.credits_pending, row.credits_posted]
        assert counters == moved[row.address], row.address
        assert min(counters) >= 0
        assert row.free >= 0 or not row.limited
        sums[row.currency] = sums.get(row.currency, 0) + row.debits_posted - row.credits_posted
    assert set(sums.values()) <= {0}


def _held(payout: Payout) -> bool:
    return payout.state in (State.FUNDS_LOCKED, State.IN_REVIEW, State.SENDING, State.SENT)


def check_payouts(story: Twin) -> None:
    """I4, I6, I11, I26: holds, attempts, versions and incidents fit the payouts' states."""
    holds = {row.id: row for row in story.rows(HOLDS)}
    moves: dict[str, list[dict[str, Any]]] = {}
    for entry in sorted(story.rows(JOURNAL), key=lambda row: row.seq):
        body = _decode(entry.body)
        if "version" in body:
            moves.setdefault(entry.subject_id, []).append(body)
    for payout in story.rows(PAYOUTS):
        attempts = [row for row in story.rows(ATTEMPTS) if row.payout_id == payout.id]
        opened = [row for row in attempts if row.state in OPEN_ATTEMPT]
        assert len(opened) <= 1
        active = holds[payout.hold_id].state == "active"
        assert active == _held(payout), payout
        assert active or not opened
        assert bool(opened) == (payout.state in (State.SENDING, State.SENT))
        assert payout.attempt_count == len(attempts)
        steps = moves[payout.id]
        assert [step["version"] for step in steps] == list(range(1, payout.version + 1))
        assert [step["to"] for step in steps[:-1]] == [step["from"] for step in steps[1:]]
        assert steps[-1]["to"] == payout.state
        assert 0 <= payout.amount_returned <= payout.amount
    owed = sum(row.balance for row in story.rows(ACCOUNTS) if row.role == AccountRole.RECEIVABLE)
    opened_for = sum(
        row.amount
        for row in story.rows(INCIDENTS)
        if row.kind == "merchant_owes" and row.closed_at is None
    )
    assert owed == opened_for


def _decode(body: str) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(body)
    return decoded
