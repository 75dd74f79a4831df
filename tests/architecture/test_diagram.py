"""What the READMEs of payouts and ledger show is what the code says."""

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bursar.engine.journal import GENESIS
from bursar.engine.model import JOURNAL_HEADS, JournalHead
from bursar.engine.working_set import WorkingSet
from bursar.incidents.model import OPEN_INCIDENTS
from bursar.kit.ids import SeededIds
from bursar.ledger import recipes
from bursar.ledger.model import ACCOUNTS, Account, accounts_of
from bursar.payouts.machine import diagram

ROOT = Path(__file__).resolve().parents[2]
_COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
_MERCHANT = "mer_1"


def _blocks(readme: str, language: str) -> list[str]:
    text = (ROOT / readme).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE)


def test_the_state_diagram_is_the_transition_table() -> None:
    """I11: a reader of the diagram knows every legal step, and no other."""
    assert _blocks("src/bursar/payouts/README.md", "mermaid") == [diagram()]


def test_the_worked_example_is_what_the_recipes_post() -> None:
    """I1, I2: each step of the ledger's example, done by the recipes themselves."""
    assert _blocks("src/bursar/ledger/README.md", "text") == [worked_example()]


class _Payout(msgspec.Struct, frozen=True):
    id: str
    amount: int
    fee: int
    currency: str = "EUR"


class _Teller:
    """Does one recipe after the other, and writes down which counters each one moved."""

    def __init__(self) -> None:
        self._ws = WorkingSet(datetime(2026, 1, 1, tzinfo=UTC), SeededIds(1))
        self._ws.add_loaded(JOURNAL_HEADS, [], [JournalHead(_MERCHANT, 0, 0, GENESIS)])
        accounts = accounts_of(_MERCHANT, "EUR")
        self._ws.add_loaded(ACCOUNTS, [], accounts)
        self._ws.add_children(OPEN_INCIDENTS, [account.address for account in accounts], [])
        self._entry = self._ws.journal(_MERCHANT, "example", "example", {})
        self._holds: dict[str, str] = {}
        self.lines: list[str] = []

    def fund(self, amount: int) -> None:
        before = self._accounts()
        entry = self._ws.journal(_MERCHANT, "example", "funding", {})
        recipes.fund(self._ws, entry, amount=amount, currency="EUR")
        self._tell(f"fund {amount:,}", before)

    def create(self, payout: _Payout) -> None:
        before = self._accounts()
        entry = self._ws.journal(_MERCHANT, "example", payout.id, {})
        hold = recipes.payout_created(
            self._ws, entry, payout.id, amount=payout.amount, fee=payout.fee, currency="EUR"
        )
        self._holds[payout.id] = hold.id
        self._tell(f"payout_created {payout.id}: {payout.amount:,}, fee {payout.fee}", before)

    def settle(self, payout: _Payout, cost: int) -> None:
        before = self._accounts()
        entry = self._ws.journal(_MERCHANT, "example", payout.id, {})
        hold_id = self._holds[payout.id]
        recipes.payout_settled(self._ws, entry, payout, hold_id=hold_id, cost=cost)
        self._tell(f"payout_settled {payout.id}: cost {cost}", before)

    def release(self, payout: _Payout, recipe: str) -> None:
        before = self._accounts()
        entry = self._ws.journal(_MERCHANT, "example", payout.id, {})
        hold_id = self._holds[payout.id]
        recipes.payout_released(self._ws, entry, payout, hold_id=hold_id, recipe=recipe)
        self._tell(f"{recipe} {payout.id}", before)

    def pay_late(self, payout: _Payout, cost: int) -> None:
        before = self._accounts()
        entry = self._ws.journal(_MERCHANT, "example", payout.id, {})
        recipes.payout_paid_late(self._ws, entry, payout, cost=cost)
        self._tell(f"payout_paid_late {payout.id}: cost {cost}", before)

    def give_back(self, payout: _Payout, amount: int) -> None:
        before = self._accounts()
        entry = self._ws.journal(_MERCHANT, "example", payout.id, {})
        recipes.payout_returned(self._ws, entry, payout, amount=amount)
        self._tell(f"payout_returned {payout.id}: {amount:,}", before)

    def _accounts(self) -> dict[str, Account]:
        keys = [account.address for account in accounts_of(_MERCHANT, "EUR")]
        return {key: self._ws.get(ACCOUNTS, key) for key in keys}

    def _tell(self, title: str, before: dict[str, Account]) -> None:
        self.lines += ["", title]
        after = self._accounts()
        for name in ("pending", "posted"):
            debits = sum(getattr(one, f"debits_{name}") for one in after.values())
            assert debits == sum(getattr(one, f"credits_{name}") for one in after.values())
        for key, account in after.items():
            if account != before[key]:
                counters = "".join(f"{getattr(account, name):>16,}" for name in _COUNTERS)
                self.lines.append(f"  {account.role:<18}{counters}")


def worked_example() -> str:
    """The example as the README shows it. Minor units of EUR."""
    teller = _Teller()
    a, b, c, d, e = (
        _Payout("A", 10_000, 20),
        _Payout("B", 35_000, 70),
        _Payout("C", 5_000, 10),
        _Payout("D", 5_000, 10),
        _Payout("E", 20_000, 40),
    )
    teller.fund(50_000)
    teller.create(a)
    teller.settle(a, 5)
    teller.create(b)
    teller.release(b, "payout_failed")
    teller.create(c)
    teller.release(c, "payout_cancelled")
    teller.create(d)
    teller.release(d, "payout_expired")
    teller.create(e)
    teller.settle(e, 5)
    teller.pay_late(b, 5)
    teller.fund(20_000)
    teller.give_back(a, 10_000)
    header = f"  {'after the step':<18}" + "".join(f"{name:>16}" for name in _COUNTERS)
    return "\n".join([header, *teller.lines])
