"""Payouts under random interleavings, beside a bank of a few lines that says what it truly did.

The bank keeps its promises: what is under way lands within its window, a no stays a no. In some
runs it lies once or more (F25); then it may pay twice, and only the books are held to account.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from bursar.ledger.errors import InsufficientFunds
from bursar.ledger.model import AccountRole
from bursar.payouts.attempts import RecordInquiry
from bursar.payouts.errors import AlreadyDispatched, AlreadyEnded, NotDue
from bursar.payouts.model import ATTEMPTS, FACTS, INBOX, PAYOUTS, Attempt, Payout
from bursar.rails.outcomes import (
    Accepted,
    Executed,
    Inquiry,
    Outcome,
    StatusExecuted,
    StatusNotFound,
    StatusPending,
    StatusRejected,
    StatusUnknown,
    Unknown,
)
from bursar.rails.port import ProviderEvent
from tests.engine.wiring import Twin, begin, cancel, create, fund, reply
from tests.payouts.wiring import (
    BANK,
    BUSY,
    CLOSED,
    NOT_SENT,
    OUR_BALANCE,
    asked,
    attempt,
    check_books,
    check_payouts,
    deliver,
    event,
    expire,
    net,
    take_over,
)

LEASE_S = 5.0
ANSWERS: dict[str, tuple[Outcome | None, str]] = {
    "paid at once": (None, "executed"),
    "a promise": (Accepted("bt"), "pending"),
    "a final no": (CLOSED, "rejected"),
    "busy": (BUSY, "rejected"),
    "our balance": (OUR_BALANCE, "rejected"),
    "no byte left": (NOT_SENT, "nowhere"),
    "timeout, paid": (Unknown("timeout"), "executed"),
    "timeout, promised": (Unknown("timeout"), "pending"),
    "timeout, refused": (Unknown("timeout"), "rejected"),
    "timeout, lost": (Unknown("timeout"), "nowhere"),
    "timeout, under way": (Unknown("timeout"), "under way"),
}
"""What the worker hears (nothing special is said of a plain yes), and the truth at the bank."""


@dataclass
class Transfer:
    """One instruction at the bank. `lands_by` is the last moment for what is under way."""

    payout_id: str
    amount: int
    state: str = "nowhere"
    sent: bool = False
    lands_by: datetime | None = None
    heard: Outcome | None = None
    returned: int = 0
    cost: int = 0


class PayoutsMachine(RuleBasedStateMachine):
    """Every rule is one actor's step: merchant, worker, sweeper, bank, or time."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin()
        self.funded = 0
        self.bank: dict[str, Transfer] = {}
        self.mail: list[ProviderEvent] = []
        self.questions: list[RecordInquiry] = []
        self.lied = False
        self.honest = True

    @initialize(amount=st.integers(0, 2000), honest=st.booleans())
    def open(self, *, amount: int, honest: bool) -> None:
        """A shop with some money, and a bank that is honest or not."""
        self.honest = honest
        self.fund(amount + 1)

    # The merchant.

    @rule(amount=st.integers(1, 500))
    def fund(self, amount: int) -> None:
        """Money arrives; a debt is repaid first (I26)."""
        self.twin.do(fund(amount))
        self.funded += amount

    @rule(
        amount=st.integers(1, 400),
        fee=st.integers(0, 3),
        due_in=st.sampled_from([0, 0, 0, 2, 60]),
        retries=st.integers(0, 2),
    )
    def create(self, amount: int, fee: int, due_in: int, retries: int) -> None:
        """I3: exactly what is free can be promised."""
        name = str(len(self.twin.decided))
        due = self.twin.clock.wall() + timedelta(seconds=due_in)
        free = self.twin.account(AccountRole.AVAILABLE).free
        try:
            self.twin.do(create(name, amount, fee=fee, due_at=due, max_retries=retries))
        except InsufficientFunds:
            assert amount + fee > free
        else:
            assert amount + fee <= free

    @precondition(lambda self: self.twin.rows(PAYOUTS))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """F34: only what has not left."""
        payout = self._payout(data)
        try:
            self.twin.do(cancel(payout.id.removeprefix("po_")))
        except AlreadyDispatched:
            assert payout.state in {"sending", "sent"}
        except AlreadyEnded:
            assert payout.state not in {"sending", "sent", "funds_locked"}
        else:
            assert payout.state == "funds_locked"

    # Workers.

    @precondition(lambda self: self.twin.rows(PAYOUTS))
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """I6, I7: one attempt at a time, and none after a payment."""
        payout = self._payout(data, preferring="funds_locked")
        name = f"a{len(self.bank)}"
        now = self.twin.clock.wall()
        free_to_go = (
            payout.state == "funds_locked"
            and payout.next_attempt_at is not None
            and payout.next_attempt_at <= now < payout.expires_at
        )
        try:
            self.twin.do(
                begin(payout.id.removeprefix("po_"), name, token=f"ls_{name}", lease_s=LEASE_S)
            )
        except NotDue:
            assert not free_to_go
        else:
            assert free_to_go
            self.bank[name] = Transfer(payout.id, payout.amount)

    @precondition(lambda self: any(not transfer.sent for transfer in self.bank.values()))
    @rule(data=st.data(), answer=st.sampled_from(sorted(ANSWERS)), cost=st.integers(0, 2))
    def send(self, data: st.DataObject, answer: str, cost: int) -> None:
        """A worker calls the bank, unless its lease is too short by now; it hears something."""
        unsent = [name for name, transfer in self.bank.items() if not transfer.sent]
        name = data.draw(st.sampled_from(unsent))
        transfer = self.bank[name]
        transfer.sent = True
        now = self.twin.clock.wall()
        begun_at = attempt(self.twin, name).begun_at
        if now - begun_at + BANK.request_deadline >= timedelta(seconds=LEASE_S):
            return
        transfer.cost = cost
        self._call(name, answer)

    def _call(self, name: str, answer: str) -> None:
        transfer = self.bank[name]
        transfer.sent = True
        heard, transfer.state = ANSWERS[answer]
        transfer.heard = heard or self._executed(transfer)
        if transfer.state == "under way":
            transfer.lands_by = (
                self.twin.clock.wall() + BANK.request_deadline + BANK.finality_window
            )
        self._tell(name)

    @precondition(lambda self: any(transfer.heard for transfer in self.bank.values()))
    @rule(data=st.data(), again=st.booleans())
    def answer(self, data: st.DataObject, *, again: bool) -> None:
        """The worker brings what it heard: at once, as a zombie, or twice (F33)."""
        names = [name for name, transfer in self.bank.items() if transfer.heard is not None]
        name = data.draw(st.sampled_from(names))
        heard = self.bank[name].heard
        assert heard is not None
        self.twin.do(reply(name, heard, token=f"ls_{name}"))
        if not again:
            self.bank[name].heard = None

    @precondition(lambda self: self._ready())
    @rule(data=st.data(), under_way=st.booleans(), answer=st.sampled_from(sorted(ANSWERS)))
    def dispatch(self, data: st.DataObject, answer: str, *, under_way: bool) -> None:
        """A worker that is quick: begin, send and answer in one go."""
        payout = data.draw(st.sampled_from(self._ready()))
        name = f"a{len(self.bank)}"
        self.twin.do(begin(payout.id.removeprefix("po_"), name, token=f"ls_{name}"))
        transfer = self.bank[name] = Transfer(payout.id, payout.amount)
        self._call(name, "timeout, under way" if under_way else answer)
        assert transfer.heard is not None
        self.twin.do(reply(name, transfer.heard, token=f"ls_{name}"))
        transfer.heard = None

    @precondition(lambda self: self._attempts("unknown", "accepted"))
    @rule(data=st.data())
    def ask_and_learn(self, data: st.DataObject) -> None:
        """F9, F13: a question whose answer is recorded at once."""
        row = data.draw(st.sampled_from(self._attempts("unknown", "accepted")))
        name = row.id.removeprefix("pa_")
        self.twin.do(asked(self.twin, name, self._status(self.bank[name])))

    @precondition(lambda self: self._attempts("sending"))
    @rule(data=st.data())
    def sweep(self, data: st.DataObject) -> None:
        """F3, F4: a lease is taken from the silent, never before its end."""
        row = data.draw(st.sampled_from(self._attempts("sending")))
        try:
            self.twin.do(take_over(row.id.removeprefix("pa_")))
        except NotDue:
            assert row.lease_until > self.twin.clock.wall()
        else:
            assert row.lease_until <= self.twin.clock.wall()

    @precondition(lambda self: self._attempts("unknown", "accepted"))
    @rule(data=st.data(), silent=st.booleans())
    def ask(self, data: st.DataObject, *, silent: bool) -> None:
        """F9, F13: the bank answers now; a worker brings the answer some time later."""
        row = data.draw(st.sampled_from(self._attempts("unknown", "accepted")))
        name = row.id.removeprefix("pa_")
        said = StatusUnknown("silent") if silent else self._status(self.bank[name])
        self.questions.append(asked(self.twin, name, said))

    @precondition(lambda self: self.questions)
    @rule(data=st.data())
    def learn(self, data: st.DataObject) -> None:
        """An answer arrives, in any order; a stale one is dropped."""
        command = data.draw(st.sampled_from(self.questions))
        self.questions.remove(command)
        self._unless_late(command)

    @precondition(lambda self: self.twin.rows(PAYOUTS))
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """F35: never while an attempt is open."""
        payout = self._payout(data)
        try:
            self.twin.do(expire(payout.id.removeprefix("po_")))
        except NotDue:
            assert payout.state != "funds_locked" or payout.expires_at > self.twin.clock.wall()
        else:
            assert payout.state == "funds_locked"

    # The bank.

    @precondition(lambda self: self._transfers("under way"))
    @rule(data=st.data(), state=st.sampled_from(["executed", "rejected", "pending"]))
    def land(self, data: st.DataObject, state: str) -> None:
        """F11: what was under way arrives late."""
        name = data.draw(st.sampled_from(self._transfers("under way")))
        self.bank[name].state = state
        self._tell(name)

    @precondition(lambda self: self._transfers("pending"))
    @rule(data=st.data(), pays=st.booleans())
    def decide(self, data: st.DataObject, *, pays: bool) -> None:
        """A promise is kept or taken back."""
        name = data.draw(st.sampled_from(self._transfers("pending")))
        self.bank[name].state = "executed" if pays else "rejected"
        self._tell(name)

    @precondition(lambda self: self._returnable())
    @rule(data=st.data(), whole=st.booleans())
    def give_back(self, data: st.DataObject, *, whole: bool) -> None:
        """F79, F80: some of it, or all that is left, comes back."""
        name = data.draw(st.sampled_from(self._returnable()))
        transfer = self.bank[name]
        left = transfer.amount - transfer.returned
        part = left if whole else data.draw(st.integers(1, left))
        transfer.returned += part
        self._post("returned", name, part, return_id=f"rt_{len(self.mail)}")

    @precondition(lambda self: not self.honest and self._deniable())
    @rule(data=st.data())
    def lie(self, data: st.DataObject) -> None:
        """F25: the bank pays what it had refused."""
        name = data.draw(st.sampled_from(self._deniable()))
        self.lied = True
        self.bank[name].state = "executed"
        self._tell(name)

    @precondition(lambda self: self.mail)
    @rule(data=st.data(), renamed=st.booleans())
    def webhook(self, data: st.DataObject, *, renamed: bool) -> None:
        """F21-F23: any message, in any order, any number of times, under any event id."""
        said = data.draw(st.sampled_from(self.mail))
        deliver(self.twin, _again(said, len(self.twin.decided)) if renamed else said)

    # Time.

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 5.0, 10.0, 60.0, 604_800.0]))
    def wait(self, seconds: float) -> None:
        """What is under way lands in time: the bank keeps its window."""
        later = self.twin.clock.wall() + timedelta(seconds=seconds)
        for name in self._transfers("under way"):
            lands_by = self.bank[name].lands_by
            if lands_by is not None and lands_by <= later:
                self.bank[name].state = "executed"
                self._tell(name)
        self.twin.clock.advance(seconds)

    # What always holds.

    @invariant()
    def books(self) -> None:
        """I1, I2, I3, I4, I6, I8, I11."""
        check_books(self.twin)
        check_payouts(self.twin)

    @invariant()
    def toy_ledger(self) -> None:
        """I24: what is free of obligations is what came, less what is known to have left."""
        known = Counter({"paid": 0, "returned": 0})
        for fact in self.twin.rows(FACTS):
            transfer = self.bank[fact.attempt_id.removeprefix("pa_")]
            if fact.kind == "paid":
                known["paid"] += transfer.amount
            if fact.kind == "returned":
                known["returned"] += fact.amount
        fees = sum(
            payout.fee
            for payout in self.twin.rows(PAYOUTS)
            if payout.state in {"settled", "returned"}
        )
        assert net(self.twin) == self.funded - known["paid"] + known["returned"] - fees

    @invariant()
    def paid_at_most_once(self) -> None:
        """I5: the bank is the judge."""
        paid = Counter(t.payout_id for t in self.bank.values() if t.state == "executed")
        assert self.lied or all(count == 1 for count in paid.values())

    def teardown(self) -> None:
        """I8, I22, I23: all ends, nothing is open, and the books say what the bank did."""
        self.wait(0)
        for name in [*self._transfers("under way"), *self._transfers("pending")]:
            self.bank[name].state = "executed"
            self._tell(name)
        for said in self.mail:
            deliver(self.twin, said)
        self.twin.clock.advance(20)
        for row in self._attempts("sending"):
            self.twin.do(take_over(row.id.removeprefix("pa_")))
        self.twin.clock.advance(20)
        for row in self._attempts("unknown", "accepted"):
            name = row.id.removeprefix("pa_")
            self.twin.do(asked(self.twin, name, self._status(self.bank[name])))
        for payout in self.twin.rows(PAYOUTS):
            if payout.state == "funds_locked":
                self.twin.do(cancel(payout.id.removeprefix("po_")))
        self.books()
        self.toy_ledger()
        self.paid_at_most_once()
        self._nothing_is_open()

    def _nothing_is_open(self) -> None:
        assert not self._attempts("sending", "unknown", "accepted")
        assert self.twin.account(AccountRole.AVAILABLE).debits_pending == 0
        assert all(row.result for row in self.twin.rows(INBOX))
        paid = Counter(t.payout_id for t in self.bank.values() if t.state == "executed")
        back = Counter(t.payout_id for t in self.bank.values() if t.returned == t.amount)
        for payout in self.twin.rows(PAYOUTS):
            over = {"settled", "returned"} if paid[payout.id] else _UNPAID
            assert payout.state in over, payout
            if paid[payout.id] == 1:
                assert (payout.state == "returned") == (back[payout.id] == 1), payout
        out = sum(t.amount - t.returned for t in self.bank.values() if t.state == "executed")
        cleared = self.twin.account(AccountRole.PROVIDER_CLEARING).balance
        assert cleared - self.twin.account(AccountRole.COSTS).balance == out

    # Words.

    def _payout(self, data: st.DataObject, *, preferring: str = "") -> Payout:
        rows = self.twin.rows(PAYOUTS)
        preferred = [row for row in rows if row.state == preferring]
        return data.draw(st.sampled_from(preferred or rows))

    def _ready(self) -> list[Payout]:
        now = self.twin.clock.wall()
        return [
            row
            for row in self.twin.rows(PAYOUTS)
            if row.next_attempt_at is not None and row.next_attempt_at <= now < row.expires_at
        ]

    def _attempts(self, *states: str) -> list[Attempt]:
        return [row for row in self.twin.rows(ATTEMPTS) if row.state in states]

    def _transfers(self, state: str) -> list[str]:
        return [name for name, transfer in self.bank.items() if transfer.state == state]

    def _returnable(self) -> list[str]:
        """Returns of a payout that was paid twice are told in the stories only."""
        paid = Counter(t.payout_id for t in self.bank.values() if t.state == "executed")
        return [
            name
            for name in self._transfers("executed")
            if self.bank[name].returned < self.bank[name].amount
            and paid[self.bank[name].payout_id] == 1
        ]

    def _deniable(self) -> list[str]:
        """What was refused, and belongs to a payout of which nothing came back."""
        back = {t.payout_id for t in self.bank.values() if t.returned}
        return [n for n in self._transfers("rejected") if self.bank[n].payout_id not in back]

    def _executed(self, transfer: Transfer) -> Executed:
        return Executed(
            provider_ref="bt",
            amount_minor=transfer.amount,
            currency="EUR",
            cost_minor=transfer.cost,
        )

    def _status(self, transfer: Transfer) -> Inquiry:
        match transfer.state:
            case "executed":
                return StatusExecuted(
                    provider_ref="bt",
                    amount_minor=transfer.amount,
                    currency="EUR",
                    cost_minor=transfer.cost,
                )
            case "pending":
                return StatusPending("bt")
            case "rejected":
                return StatusRejected("AC04", "closed")
            case _:
                return StatusNotFound()

    def _tell(self, name: str) -> None:
        kinds = {"executed": "paid", "rejected": "failed", "pending": "accepted"}
        kind = kinds.get(self.bank[name].state)
        if kind is not None:
            self._post(kind, name, self.bank[name].amount)

    def _post(self, kind: str, name: str, amount: int, return_id: str | None = None) -> None:
        number = len(self.mail)
        said = event(
            f"evt_{number}",
            kind,
            name,
            amount=amount,
            cost=self.bank[name].cost,
            return_id=return_id,
        )
        self.mail.append(said)

    def _unless_late(self, command: Any) -> None:
        with suppress(NotDue):
            self.twin.do(command)


def _again(said: ProviderEvent, number: int) -> ProviderEvent:
    return event(
        f"again_{number}",
        said.kind,
        said.provider_key,
        amount=said.amount_minor,
        cost=said.cost_minor,
        return_id=said.return_id,
    )


_UNPAID = frozenset({"failed", "dead_letter", "cancelled"})

TestPayouts = PayoutsMachine.TestCase
TestPayouts.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
