"""Payouts under random interleavings, beside a bank of a few lines that says what it truly did.

The bank keeps its promises: what is under way lands within its window, a no stays a no. In some
runs it lies once or more (F25); then it may pay twice, and only the books are held to account. In
some it numbers what it says, and may take back what it paid (F26).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import suppress
from datetime import timedelta
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
from bursar.payouts.errors import AlreadyDispatched, NotDue
from bursar.payouts.model import ATTEMPTS, FACTS, INBOX, PAYOUTS, Attempt, Fact, Payout
from bursar.rails.outcomes import StatusUnknown
from tests.engine.wiring import Twin, begin, cancel, create, fund, reply
from tests.payouts.toybank import ANSWERS, ToyBank, Transfer, again
from tests.payouts.wiring import (
    BANK,
    asked,
    attempt,
    check_books,
    check_payouts,
    deliver,
    expire,
    net,
    take_over,
)

LEASE_S = 5.0


class PayoutsMachine(RuleBasedStateMachine):
    """Every rule is one actor's step: merchant, worker, sweeper, bank, or time."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin()
        self.funded = 0
        self.bank = ToyBank(ordered=False)
        self.questions: list[RecordInquiry] = []
        self.lied = False
        self.honest = True

    @initialize(amount=st.integers(0, 2000), honest=st.booleans(), ordered=st.booleans())
    def open(self, *, amount: int, honest: bool, ordered: bool) -> None:
        """A shop with some money; a bank that is honest or not, and numbers its words or not."""
        self.honest = honest
        self.bank.ordered = ordered
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
            assert payout.state != "funds_locked"
        else:
            assert payout.state == "funds_locked"

    # Workers.

    @precondition(lambda self: self.twin.rows(PAYOUTS))
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """I6, I7: one attempt at a time, and none after a payment."""
        payout = self._payout(data, preferring="funds_locked")
        name = self._next()
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
            self.bank.transfers[name] = Transfer(payout.id, payout.amount)

    @precondition(lambda self: any(not one.sent for one in self.bank.transfers.values()))
    @rule(data=st.data(), answer=st.sampled_from(sorted(ANSWERS)), cost=st.integers(0, 2))
    def send(self, data: st.DataObject, answer: str, cost: int) -> None:
        """A worker calls the bank, unless its lease is too short by now; it hears something."""
        unsent = [name for name, one in self.bank.transfers.items() if not one.sent]
        name = data.draw(st.sampled_from(unsent))
        transfer = self.bank.transfers[name]
        transfer.sent = True
        now = self.twin.clock.wall()
        begun_at = attempt(self.twin, name).begun_at
        if now - begun_at + BANK.request_deadline >= timedelta(seconds=LEASE_S):
            return
        transfer.cost = cost
        self._call(name, answer)

    def _call(self, name: str, answer: str) -> None:
        lands_by = self.twin.clock.wall() + BANK.request_deadline + BANK.finality_window
        self.bank.take(name, answer, lands_by)

    @precondition(lambda self: any(one.heard for one in self.bank.transfers.values()))
    @rule(data=st.data(), again=st.booleans())
    def answer(self, data: st.DataObject, *, again: bool) -> None:
        """The worker brings what it heard: at once, as a zombie, or twice (F33)."""
        names = [name for name, one in self.bank.transfers.items() if one.heard is not None]
        name = data.draw(st.sampled_from(names))
        heard = self.bank.transfers[name].heard
        assert heard is not None
        self.twin.do(reply(name, heard, token=f"ls_{name}"))
        if not again:
            self.bank.transfers[name].heard = None

    @precondition(lambda self: self._ready())
    @rule(data=st.data(), under_way=st.booleans(), answer=st.sampled_from(sorted(ANSWERS)))
    def dispatch(self, data: st.DataObject, answer: str, *, under_way: bool) -> None:
        """A worker that is quick: begin, send and answer in one go."""
        payout = data.draw(st.sampled_from(self._ready()))
        name = self._next()
        self.twin.do(begin(payout.id.removeprefix("po_"), name, token=f"ls_{name}"))
        transfer = self.bank.transfers[name] = Transfer(payout.id, payout.amount)
        self._call(name, "timeout, under way" if under_way else answer)
        assert transfer.heard is not None
        self.twin.do(reply(name, transfer.heard, token=f"ls_{name}"))
        transfer.heard = None

    @precondition(lambda self: self._asked())
    @rule(data=st.data())
    def ask_and_learn(self, data: st.DataObject) -> None:
        """F9, F13, F26: a question whose answer is recorded at once."""
        row = data.draw(st.sampled_from(self._asked()))
        name = row.id.removeprefix("pa_")
        self._unless_late(asked(self.twin, name, self.bank.status(name)))

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

    @precondition(lambda self: self._asked())
    @rule(data=st.data(), silent=st.booleans())
    def ask(self, data: st.DataObject, *, silent: bool) -> None:
        """F9, F13: the bank answers now; a worker brings the answer some time later."""
        row = data.draw(st.sampled_from(self._asked()))
        name = row.id.removeprefix("pa_")
        said = StatusUnknown("silent") if silent else self.bank.status(name)
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

    @precondition(lambda self: self.bank.in_state("under way"))
    @rule(data=st.data(), state=st.sampled_from(["executed", "rejected", "pending"]))
    def land(self, data: st.DataObject, state: str) -> None:
        """F11: what was under way arrives late."""
        self.bank.become(data.draw(st.sampled_from(self.bank.in_state("under way"))), state)

    @precondition(lambda self: self.bank.in_state("pending"))
    @rule(data=st.data(), pays=st.booleans())
    def decide(self, data: st.DataObject, *, pays: bool) -> None:
        """A promise is kept or taken back."""
        name = data.draw(st.sampled_from(self.bank.in_state("pending")))
        self.bank.become(name, "executed" if pays else "rejected")

    @precondition(lambda self: self._returnable())
    @rule(data=st.data(), whole=st.booleans())
    def give_back(self, data: st.DataObject, *, whole: bool) -> None:
        """F79, F80: some of it, or all that is left, comes back."""
        name = data.draw(st.sampled_from(self._returnable()))
        transfer = self.bank.transfers[name]
        left = transfer.amount - transfer.returned
        self.bank.give_back(name, left if whole else data.draw(st.integers(1, left)))

    @precondition(lambda self: self.bank.ordered and self.bank.in_state("executed"))
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        """F26: what was paid fails afterwards, and all that is out comes back."""
        self.bank.become(data.draw(st.sampled_from(self.bank.in_state("executed"))), "taken back")

    @precondition(lambda self: not self.honest and self._deniable())
    @rule(data=st.data())
    def lie(self, data: st.DataObject) -> None:
        """F25: the bank pays what it had refused, or what it had taken back."""
        self.lied = True
        self.bank.become(data.draw(st.sampled_from(self._deniable())), "executed")

    @precondition(lambda self: self.bank.mail)
    @rule(data=st.data(), renamed=st.booleans())
    def webhook(self, data: st.DataObject, *, renamed: bool) -> None:
        """F21-F23: any message, in any order, any number of times, under any event id."""
        said = data.draw(st.sampled_from(self.bank.mail))
        deliver(self.twin, again(said, len(self.twin.decided)) if renamed else said)

    # Time.

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 5.0, 10.0, 60.0, 604_800.0]))
    def wait(self, seconds: float) -> None:
        """What is under way lands in time: the bank keeps its window."""
        later = self.twin.clock.wall() + timedelta(seconds=seconds)
        for name in self.bank.in_state("under way"):
            lands_by = self.bank.transfers[name].lands_by
            if lands_by is not None and lands_by <= later:
                self.bank.become(name, "executed")
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
        facts: dict[str, list[Fact]] = defaultdict(list)
        for fact in self.twin.rows(FACTS):
            facts[fact.attempt_id.removeprefix("pa_")].append(fact)
        out = sum(_out(self.bank.transfers[name].amount, told) for name, told in facts.items())
        fees = sum(
            payout.fee
            for payout in self.twin.rows(PAYOUTS)
            if payout.state in {"settled", "returned"}
        )
        assert net(self.twin) == self.funded - out - fees

    @invariant()
    def paid_at_most_once(self) -> None:
        """I5: the bank is the judge."""
        assert self.lied or all(count == 1 for count in self.bank.executions().values())

    def teardown(self) -> None:
        """I8, I22, I23: all ends, nothing is open, and the books say what the bank did."""
        self.wait(0)
        for name in self.bank.in_state("under way", "pending"):
            self.bank.become(name, "executed")
        for said in self.bank.mail:
            deliver(self.twin, said)
        self.twin.clock.advance(20)
        for row in self._attempts("sending"):
            self.twin.do(take_over(row.id.removeprefix("pa_")))
        self.twin.clock.advance(20)
        for row in self._attempts("unknown", "accepted"):
            name = row.id.removeprefix("pa_")
            self._unless_late(asked(self.twin, name, self.bank.status(name)))
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
        paid, back = Counter[str](), Counter[str]()
        for one in self.bank.transfers.values():
            paid[one.payout_id] += one.left
            back[one.payout_id] += one.returned if one.left else 0
        for payout in self.twin.rows(PAYOUTS):
            total = max(0, back[payout.id] - payout.amount * (paid[payout.id] - 1))
            ended = {"returned" if total == payout.amount else "settled"}
            assert payout.state in (ended if paid[payout.id] else _UNPAID), payout
            assert payout.amount_returned == (total if paid[payout.id] else 0)
        cleared = self.twin.account(AccountRole.PROVIDER_CLEARING).balance
        assert cleared - self.twin.account(AccountRole.COSTS).balance == self.bank.out()

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

    def _asked(self) -> list[Attempt]:
        """What the provider is asked about; one that ended, if its facts contradict each other."""
        rows = self.twin.rows(ATTEMPTS)
        return [row for row in rows if row.inquire_at is not None and row.state != "sending"]

    def _next(self) -> str:
        return f"a{len(self.bank.transfers)}"

    def _returnable(self) -> list[str]:
        transfers = self.bank.transfers
        executed = self.bank.in_state("executed")
        return [name for name in executed if transfers[name].returned < transfers[name].amount]

    def _deniable(self) -> list[str]:
        return self.bank.in_state("rejected", "taken back")

    def _unless_late(self, command: Any) -> None:
        with suppress(NotDue):
            self.twin.do(command)


def _out(amount: int, facts: list[Fact]) -> int:
    """What is out by the facts of one attempt, in minor units."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for fact in facts:
        if fact.sequence is not None:
            numbers[fact.kind].append(fact.sequence)
    kinds = {fact.kind for fact in facts}
    payments = numbers["paid"]
    if "paid" not in kinds:
        return 0
    if payments and numbers["failed"] and max(numbers["failed"]) > max(payments):
        return 0
    return amount - sum(fact.amount for fact in facts if fact.kind == "returned")


_UNPAID = frozenset({"failed", "dead_letter", "cancelled"})

TestPayouts = PayoutsMachine.TestCase
TestPayouts.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
