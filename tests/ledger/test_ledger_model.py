"""The recipes against a toy ledger, by random business events; and planted bugs they must show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bursar.engine.model import JournalEntry
from bursar.engine.working_set import WorkingSet
from bursar.kit.errors import Refusal
from bursar.ledger import recipes
from bursar.ledger.book import Book, Leg
from bursar.ledger.model import AccountRole
from tests.engine.wiring import OTHER, SHOP
from tests.ledger.bookcheck import BOUND, counters_of
from tests.ledger.desk import Desk
from tests.ledger.toy import ToyLedger

MERCHANTS = (SHOP, OTHER)
CURRENCIES = ("EUR", "KWD")
Place = tuple[str, str]

PLACES = st.sampled_from([(merchant, code) for merchant in MERCHANTS for code in CURRENCIES])
SMALL = st.integers(1, 500)
HUGE = st.sampled_from([BOUND - 1, BOUND, BOUND + 1, BOUND // 2, BOUND - 1000, 2**63])
AMOUNTS = st.one_of(SMALL, SMALL, SMALL, HUGE)
FEES = st.sampled_from([0, 0, 1, 7])
COSTS = st.sampled_from([0, 0, 3, 3, 3, BOUND])
RELEASES = ("payout_failed", "payout_cancelled", "payout_expired")


@dataclass
class Life:
    """A payout as the recipes see it, and what became of it."""

    id: str
    place: Place
    amount: int
    fee: int
    hold_id: str
    state: str = "held"
    returned: int = 0

    @property
    def currency(self) -> str:
        """Of amount and fee."""
        return self.place[1]


class LedgerMachine(RuleBasedStateMachine):
    """Two merchants in two currencies. Whatever one ledger refuses, the other must too."""

    recipes: Any = recipes

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(MERCHANTS, CURRENCIES)
        self.toys = {(m, c): ToyLedger() for m in MERCHANTS for c in CURRENCIES}
        self.lives: list[Life] = []
        self.count = 0

    def both(
        self,
        place: Place,
        subject_id: str,
        expected: str | None,
        decision: Callable[[WorkingSet, JournalEntry], Any],
    ) -> Any:
        """Do what the toy has done; the same refusal, and after it not a byte has changed."""
        before = self.desk.image()
        refused: str | None = None
        try:
            result = self.desk.decide(place[0], subject_id, decision)
        except Refusal as refusal:
            refused, result = refusal.code, None
            assert self.desk.image() == before
        event(str(refused))
        assert refused == expected
        return result

    def living(self, *states: str) -> list[Life]:
        """Payouts in one of these states."""
        return [life for life in self.lives if life.state in states]

    @initialize(amount=SMALL)
    def start(self, amount: int) -> None:
        """Some money, so that short runs reach far."""
        self.fund((SHOP, "EUR"), amount)

    @rule(place=PLACES, amount=AMOUNTS)
    def fund(self, place: Place, amount: int) -> None:
        """Money arrives."""
        self.both(
            place,
            "fd",
            self.toys[place].fund(amount),
            lambda ws, entry: self.recipes.fund(ws, entry, amount=amount, currency=place[1]),
        )

    @rule(place=PLACES, amount=AMOUNTS, fee=FEES)
    def payout(self, place: Place, amount: int, fee: int) -> None:
        """Of any amount."""
        self.count += 1
        name = f"po_{self.count}"
        expected = self.toys[place].payout(amount, fee)
        hold = self.both(
            place,
            name,
            expected,
            lambda ws, entry: self.recipes.payout_created(
                ws, entry, name, amount=amount, fee=fee, currency=place[1]
            ),
        )
        if hold is not None:
            self.toys[place].hold(name, amount, fee)
            self.lives.append(Life(name, place, amount, fee, hold.id))

    @rule(place=PLACES, fee=FEES, over=st.sampled_from([0, 0, 1]))
    def payout_of_all(self, place: Place, fee: int, over: int) -> None:
        """Exactly what is there, or one unit more."""
        amount = self.toys[place].usable() - fee + over
        if amount > 0:
            self.payout(place, amount, fee)

    @precondition(lambda self: self.living("held"))
    @rule(data=st.data(), cost=COSTS)
    def settle(self, data: st.DataObject, cost: int) -> None:
        """The provider paid."""
        life = data.draw(st.sampled_from(self.living("held")))
        expected = self.toys[life.place].settle(life.id, cost)
        self.both(
            life.place,
            life.id,
            expected,
            lambda ws, entry: self.recipes.payout_settled(
                ws, entry, life, hold_id=life.hold_id, cost=cost
            ),
        )
        if expected is None:
            life.state = "paid"

    @precondition(lambda self: self.living("held"))
    @rule(data=st.data(), recipe=st.sampled_from(RELEASES))
    def release(self, data: st.DataObject, recipe: str) -> None:
        """Failed, cancelled or expired."""
        self.end_unpaid(data.draw(st.sampled_from(self.living("held"))), recipe)

    @precondition(lambda self: self.living("released"))
    @rule(data=st.data(), cost=COSTS)
    def paid_late(self, data: st.DataObject, cost: int) -> None:
        """Paid after all (F25)."""
        self.pay_late(data.draw(st.sampled_from(self.living("released"))), cost)

    @precondition(lambda self: self.living("held"))
    @rule(data=st.data(), over=st.integers(0, 50), cost=COSTS)
    def paid_late_by_a_poor_merchant(self, data: st.DataObject, over: int, cost: int) -> None:
        """What was given back is held for another payout, down to `over`, when it is paid."""
        life = data.draw(st.sampled_from(self.living("held")))
        self.end_unpaid(life, "payout_failed")
        self.payout_of_all(life.place, fee=0, over=-over)
        self.pay_late(life, cost)

    def end_unpaid(self, life: Life, recipe: str) -> None:
        """Give its hold back."""
        self.toys[life.place].release(life.id)
        self.both(
            life.place,
            life.id,
            None,
            lambda ws, entry: self.recipes.payout_released(
                ws, entry, life, hold_id=life.hold_id, recipe=recipe
            ),
        )
        life.state = "released"

    def pay_late(self, life: Life, cost: int) -> None:
        """Book that it was paid."""
        expected = self.toys[life.place].paid_late(life.amount, life.fee, cost)
        self.both(
            life.place,
            life.id,
            expected,
            lambda ws, entry: self.recipes.payout_paid_late(ws, entry, life, cost=cost),
        )
        if expected is None:
            life.state = "paid_late"

    @precondition(lambda self: self.living("paid", "paid_late"))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """A part or all that has not come back yet (F80)."""
        life = data.draw(st.sampled_from(self.living("paid", "paid_late")))
        left = life.amount - life.returned
        if not left:
            return
        amount = data.draw(st.one_of(st.just(left), st.integers(1, left)))
        expected = self.toys[life.place].returned(amount)
        self.both(
            life.place,
            life.id,
            expected,
            lambda ws, entry: self.recipes.payout_returned(ws, entry, life, amount=amount),
        )
        if expected is None:
            life.returned += amount

    @precondition(lambda self: self.living("paid", "released", "paid_late"))
    @rule(data=st.data(), settle=st.booleans())
    def end_again(self, data: st.DataObject, *, settle: bool) -> None:
        """A hold ends once (I4): the second end raises and changes nothing."""
        life = data.draw(st.sampled_from(self.living("paid", "released", "paid_late")))

        def again(ws: WorkingSet, entry: JournalEntry) -> None:
            if settle:
                self.recipes.payout_settled(ws, entry, life, hold_id=life.hold_id, cost=1)
            else:
                self.recipes.payout_released(
                    ws, entry, life, hold_id=life.hold_id, recipe="payout_failed"
                )

        before = self.desk.image()
        with pytest.raises(ValueError, match=r"hold .* is "):
            self.desk.decide(life.place[0], life.id, again)
        assert self.desk.image() == before

    @rule()
    def next_group(self) -> None:
        """What was written is read again."""
        self.desk.turn_page()

    @invariant()
    def books_hold(self) -> None:
        """I1, I2, I3, I4, I26, F70, from the rows alone."""
        self.desk.check()

    @invariant()
    def both_agree(self) -> None:
        """Each counter of each account; what is owed now, humans are told."""
        opened = dict.fromkeys(self.toys, 0)
        for incident in self.desk.books().incidents:
            if incident.closed_at is None:
                opened[incident.merchant_id, incident.currency] += incident.amount
        for place, toy in self.toys.items():
            for role in AccountRole:
                account = self.desk.account(place[0], role, place[1])
                assert counters_of(account) == toy.counters(role.value), account
            assert opened[place] == toy.owed()

    @invariant()
    def providers_have_what_is_booked(self) -> None:
        """I8: clearing is what was paid and charged, less what came back; never more back."""
        for (merchant, code), toy in self.toys.items():
            lives = [life for life in self.lives if life.place == (merchant, code)]
            assert all(0 <= life.returned <= life.amount for life in lives)
            paid = sum(
                life.amount - life.returned for life in lives if life.state.startswith("paid")
            )
            clearing = self.desk.account(merchant, AccountRole.PROVIDER_CLEARING, code)
            assert clearing.balance == paid + toy.counters("costs")[1]


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# Bugs that the machine must show.


def _settle_and_forget_the_cost(
    ws: WorkingSet, entry: JournalEntry, payout: Life, *, hold_id: str, cost: int
) -> None:
    assert cost >= 0
    recipes.payout_settled(ws, entry, payout, hold_id=hold_id, cost=0)


def _fund_and_forget_the_debt(
    ws: WorkingSet, entry: JournalEntry, *, amount: int, currency: str
) -> None:
    book = Book(ws, entry, currency, recipe="fund", subject_id=entry.subject_id)
    book.post(Leg(AccountRole.BANK, AccountRole.AVAILABLE, amount))


def _owe_without_telling(ws: WorkingSet, entry: JournalEntry, payout: Life, *, cost: int) -> None:
    book = Book(ws, entry, payout.currency, recipe="payout_paid_late", subject_id=payout.id)
    free = book.account(AccountRole.AVAILABLE).free
    taken = min(free, payout.amount)
    clearing = AccountRole.PROVIDER_CLEARING
    book.post(
        Leg(AccountRole.AVAILABLE, clearing, taken),
        Leg(AccountRole.RECEIVABLE, clearing, payout.amount - taken),
        Leg(AccountRole.RECEIVABLE, AccountRole.FEES, payout.fee),
        Leg(AccountRole.COSTS, clearing, cost),
    )


def _refuse_what_happened(ws: WorkingSet, entry: JournalEntry, payout: Life, *, cost: int) -> None:
    book = Book(ws, entry, payout.currency, recipe="payout_paid_late", subject_id=payout.id)
    book.post(
        Leg(AccountRole.AVAILABLE, AccountRole.PROVIDER_CLEARING, payout.amount),
        Leg(AccountRole.AVAILABLE, AccountRole.FEES, payout.fee),
        Leg(AccountRole.COSTS, AccountRole.PROVIDER_CLEARING, cost),
    )


def _hold_without_the_fee(
    ws: WorkingSet, entry: JournalEntry, payout_id: str, *, amount: int, fee: int, currency: str
) -> Any:
    assert fee >= 0
    return recipes.payout_created(ws, entry, payout_id, amount=amount, fee=0, currency=currency)


PLANTED: dict[str, dict[str, Any]] = {
    "the cost is forgotten": {"payout_settled": _settle_and_forget_the_cost},
    "funding repays nothing": {"fund": _fund_and_forget_the_debt},
    "a debt without an incident": {"payout_paid_late": _owe_without_telling},
    "a late payment is refused": {"payout_paid_late": _refuse_what_happened},
    "the fee is not held": {"payout_created": _hold_without_the_fee},
}


@pytest.mark.parametrize("bug", PLANTED.values(), ids=PLANTED)
def test_the_machine_shows_a_planted_bug(bug: dict[str, Any]) -> None:
    """A model that could not fail would prove nothing."""

    class Planted(LedgerMachine):
        recipes = SimpleNamespace(**{**vars(recipes), **bug})

    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Planted,
            settings=settings(
                max_examples=1500,
                stateful_step_count=30,
                deadline=None,
                phases=[Phase.generate],
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
