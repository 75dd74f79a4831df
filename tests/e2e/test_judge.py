"""The judge catches what it is for: each planted disagreement is found, and a clean case is not."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.e2e.judge import Evidence, faults

Plant = Callable[[dict[str, Any]], object]


def transfer(kind: str, debit: str, credit: str, amount: int) -> dict[str, Any]:
    """A transfer between two roles."""
    debited, credited = f"mer_1/{debit}/EUR", f"mer_1/{credit}/EUR"
    return {"kind": kind, "debit": debited, "credit": credited, "amount": amount}


def line(kind: str, key: str, amount: int) -> dict[str, Any]:
    """A line of the bank's statement."""
    return {"kind": kind, "end_to_end_id": key, "amount": amount, "currency": "EUR"}


def account(role: str, debits: int, credits_: int) -> dict[str, Any]:
    """An account with nothing pending."""
    return {
        "role": role,
        "currency": "EUR",
        "debits_pending": 0,
        "debits_posted": debits,
        "credits_pending": 0,
        "credits_posted": credits_,
    }


def payout(name: str, state: str, attempts: list[dict[str, Any]], returned: int) -> dict[str, Any]:
    """A payout of 100 with a fee of 2."""
    return {
        "id": f"po_{name}",
        "reference": name,
        "state": state,
        "amount": 100,
        "currency": "EUR",
        "fee": 2,
        "amount_returned": returned,
        "attempts": attempts,
    }


def clean() -> dict[str, Any]:
    """One payout settled at its second attempt, one failed, one returned; all agree."""
    second = [
        {"provider_key": "pa-1", "state": "failed"},
        {"provider_key": "pa-2", "state": "paid"},
    ]
    made = [transfer("pending", "available", "provider:clearing", 100)]
    paid = [
        *made,
        transfer("post", "available", "provider:clearing", 100),
        transfer("post", "available", "fees", 2),
        transfer("posted", "costs", "provider:clearing", 20),
    ]
    return {
        "statement": [
            line("debit", "pa-2", 100),
            line("cost", "pa-2", 20),
            line("debit", "pa-4", 100),
            line("cost", "pa-4", 20),
            line("return", "pa-4", 100),
        ],
        "payouts": [
            payout("a", "settled", second, 0),
            payout("b", "failed", [{"provider_key": "pa-3", "state": "failed"}], 0),
            payout("c", "returned", [{"provider_key": "pa-4", "state": "returned"}], 100),
        ],
        "transfers": {
            "po_a": paid,
            "po_b": [*made, transfer("void", "available", "provider:clearing", 100)],
            "po_c": [*paid, transfer("posted", "provider:clearing", "available", 100)],
        },
        "accounts": [
            account("available", 204, 1_100),
            account("provider:clearing", 100, 240),
            account("fees", 0, 4),
        ],
        "books": [{"currency": "EUR", "debits": 1_344, "credits": 1_344, "balanced": True}],
    }


def test_a_clean_case_has_no_fault() -> None:
    """Else the planted ones below would prove nothing."""
    assert faults(Evidence(**clean())) == []


PLANTED: dict[str, Plant] = {
    "debited twice under one key": lambda c: c["statement"].append(line("debit", "pa-2", 100)),
    "debited under both keys": lambda c: c["statement"].append(line("debit", "pa-1", 100)),
    "a failed payout was debited": lambda c: c["statement"].append(line("debit", "pa-3", 100)),
    "a debit of nobody": lambda c: c["statement"].append(line("debit", "pa-9", 100)),
    "settled and never debited": lambda c: c["statement"].__delitem__(0),
    "debited another amount": lambda c: c["statement"][0].update(amount=101),
    "debited another currency": lambda c: c["statement"][0].update(currency="USD"),
    "a return that we missed": lambda c: c["statement"].append(line("return", "pa-2", 100)),
    "a return that never came": lambda c: c["statement"].__delitem__(4),
    "still open": lambda c: c["payouts"][1].update(state="sending"),
    "an open attempt": lambda c: c["payouts"][1]["attempts"][0].update(state="unknown"),
    "a settlement that is not booked": lambda c: c["transfers"]["po_a"].__delitem__(1),
    "a settlement booked twice": lambda c: c["transfers"]["po_a"].append(
        transfer("post", "available", "provider:clearing", 100)
    ),
    "a cost that is not booked": lambda c: c["transfers"]["po_a"].__delitem__(3),
    "a fee of a failed payout": lambda c: c["transfers"]["po_b"].append(
        transfer("post", "available", "fees", 2)
    ),
    "clearing is not the statement": lambda c: c["accounts"][1].update(credits_posted=241),
    "something is still held": lambda c: c["accounts"][0].update(debits_pending=1),
    "overdrawn": lambda c: c["accounts"][0].update(debits_posted=1_101),
    "no account for a currency": lambda c: c["accounts"].clear(),
    "not balanced": lambda c: c["books"][0].update(balanced=False),
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_disagreement_is_found(plant: Plant) -> None:
    """I1, I3, I5, I6, I8, I22."""
    case = deepcopy(clean())
    plant(case)
    assert faults(Evidence(**case)) != []
