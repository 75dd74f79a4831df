"""The judge of chaos catches what it is for, beside every alert; and what has a reason passes."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from soak.chaos_judge import Evidence, Fates, judged

Plant = Callable[[dict[str, Any]], object]

FATES = Fates(rate=0.3, seed=1)
NOW = datetime(2026, 7, 31, 12, tzinfo=UTC)
KNOBS = ("double", "worse", "wrong_amount", "wrong_currency", "stuck", "forgets", "flip", "undo")


def keys_of(*knobs: str) -> Iterator[str]:
    """Keys whose orders meet these faults and no other, and whose webhooks come."""
    for key in (f"pa-{number}" for number in range(10_000)):
        if {knob for knob in KNOBS if FATES.meets(knob, key)} == set(knobs) and FATES.tells(key):
            yield key


GOOD, NEXT, OTHER = islice(keys_of(), 3)
DOUBLE, WORSE, STRANGE, STUCK, FLIP, FORGOTTEN = (
    next(keys_of(knob)) for knob in ("double", "worse", "wrong_amount", "stuck", "flip", "forgets")
)


def line(kind: str, key: str, amount: int, reference: str = "r1") -> dict[str, Any]:
    """A line of a statement."""
    return {
        "kind": kind,
        "key": key,
        "reference": f"{key}/{reference}",
        "amount": amount,
        "currency": "EUR",
    }


def attempt(key: str, state: str, provider: str = "bank") -> dict[str, Any]:
    """An attempt that a provider was sent a minute and a half ago."""
    begun_at = (NOW - timedelta(seconds=90)).isoformat()
    return {"provider": provider, "provider_key": key, "state": state, "begun_at": begun_at} | {
        "id": f"pa_{key}"
    }


def alert(name: str, kind: str, state: str = "open") -> dict[str, Any]:
    """An alert about a payout."""
    return {"subject_id": f"po_{name}", "kind": kind, "state": state, "amount": 100}


def about_bank() -> dict[str, Any]:
    """An alert that is about no payout."""
    return {"subject_id": "bank", "kind": "provider_refuses_us", "state": "open", "amount": 0}


def payout(name: str, state: str, *attempts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A payout of 100 with a fee of 2; the bank charges 20 for what it executes."""
    paid = [one for one in attempts if one["state"] == "paid"]
    return {
        "id": f"po_{name}",
        "reference": name,
        "state": state,
        "amount": 100,
        "currency": "EUR",
        "fee": 2,
        "amount_returned": 0,
        "provider_cost": 20 * len(paid),
        "provider_reference": f"{paid[0]['provider_key']}/r1" if paid else None,
        "attempts": list(attempts),
    } | changes


def transfer(kind: str, debit: str, credit: str, amount: int) -> dict[str, Any]:
    """A transfer between two roles."""
    debited, credited = f"mer_1/{debit}/EUR", f"mer_1/{credit}/EUR"
    return {"kind": kind, "debit": debited, "credit": credited, "amount": amount}


def paid(*, fee: int = 2) -> list[dict[str, Any]]:
    """What is booked of an execution."""
    fees = [transfer("post", "available", "fees", fee)] if fee else []
    return [
        transfer("post", "available", "provider:clearing", 100),
        *fees,
        transfer("posted", "costs", "provider:clearing", 20),
    ]


def account(role: str, **changes: int) -> dict[str, Any]:
    """An account of the merchant."""
    zeros = dict.fromkeys(("debits_pending", "debits_posted", "credits_posted", "balance"), 0)
    return zeros | changes | {"role": role, "currency": "EUR", "address": f"mer_1/{role}/EUR"}


def right() -> dict[str, Any]:
    """Payouts that met every fault, and of which all is as it must be."""
    return {
        "lines": [
            *(line("debit", GOOD, 100), line("cost", GOOD, 20)),
            *(line("debit", DOUBLE, 100), line("cost", DOUBLE, 20)),
            *(line("debit", DOUBLE, 100, "r2"), line("cost", DOUBLE, 20, "r2")),
            *(line("debit", WORSE, 100), line("cost", WORSE, 20)),
            *(line("debit", NEXT, 100), line("cost", NEXT, 20)),
            *(line("debit", STRANGE, 60), line("cost", STRANGE, 20)),
            *(line("debit", FLIP, 100), line("cost", FLIP, 20)),
            *(line("debit", FORGOTTEN, 100, f"r{number}") for number in (1, 2, 3)),
            *(line("cost", FORGOTTEN, 20, f"r{number}") for number in (1, 2, 3)),
        ],
        "payouts": [
            payout("good", "settled", attempt(GOOD, "paid")),
            payout("double", "settled", attempt(DOUBLE, "paid")),
            payout("again", "settled", attempt(WORSE, "paid"), attempt(NEXT, "paid")),
            payout("strange", "sending", attempt(STRANGE, "unknown")),
            payout("stuck", "sent", attempt(STUCK, "accepted")),
            payout("flip", "settled", attempt(FLIP, "paid")),
            payout("forgotten", "settled", attempt(FORGOTTEN, "paid", "offramp")),
        ],
        "transfers": {
            "po_good": paid(),
            "po_double": paid(),
            "po_again": [*paid(), *paid(fee=0)],
            "po_strange": [],
            "po_stuck": [],
            "po_flip": paid(),
            "po_forgotten": paid(),
        },
        "alerts": [
            alert("double", "second_reference"),
            alert("again", "possible_double_execution"),
            alert("strange", "amount_mismatch"),
            alert("stuck", "attempt_unproven"),
            alert("flip", "paid_and_failed"),
            *(alert("forgotten", "second_reference") for _ in range(2)),
            about_bank(),
        ],
        "accounts": [
            account("available", debits_pending=204),
            account("provider:clearing", credits_posted=720),
            account("receivable"),
        ],
        "books": [{"currency": "EUR", "debits": 1, "credits": 1, "balanced": True}],
        "unheard_of": frozenset(),
        "fates": FATES,
        "calm_at": NOW,
        "at": NOW + timedelta(minutes=1),
    }


def take_back(case: dict[str, Any], key: str, name: str) -> None:
    """Money comes back from an execution, and is booked whether it may be or not."""
    case["lines"].append(line("return", key, 60))
    case["transfers"][name].append(transfer("posted", "provider:clearing", "available", 60))


def rename(case: dict[str, Any], old: str, new: str) -> None:
    """An order has another key, hence other faults."""
    for one in case["lines"]:
        if one["key"] == old:
            one.update(key=new)
    for one in (one for found in case["payouts"] for one in found["attempts"]):
        if one["provider_key"] == old:
            one.update(provider_key=new)


def test_what_has_a_reason_passes() -> None:
    """The planted ones below start from this."""
    verdict = judged(Evidence(**right()))
    assert verdict.faults == []
    assert (verdict.twice, verdict.unremarkable) == (3, 1)


def of(case: dict[str, Any], name: str) -> dict[str, Any]:
    """A payout by its name."""
    return next(one for one in case["payouts"] if one["id"] == f"po_{name}")


PLANTED: dict[str, tuple[str, Plant]] = {
    "twice under a key that is not doubled": (
        "executed 2 times under",
        lambda c: rename(c, DOUBLE, OTHER),
    ),
    "three times under one that is": (
        "executed 3 times under",
        lambda c: c["lines"].append(line("debit", DOUBLE, 100, "r3")),
    ),
    "more often than its key can have been sent": (
        "executed 8 times under",
        lambda c: c["lines"].extend(line("debit", FORGOTTEN, 100, f"r{n}") for n in range(4, 9)),
    ),
    "more often than its key is sent, as its provider's contract resends none": (
        "executed 3 times under",
        lambda c: of(c, "forgotten")["attempts"][0].update(provider="bank"),
    ),
    "two keys, both in time": (
        "executed under 2 keys",
        lambda c: rename(c, WORSE, OTHER),
    ),
    "another amount, and no mistake of theirs": (
        "as nobody mistook it",
        lambda c: rename(c, STRANGE, OTHER),
    ),
    "another amount, and nobody was told": (
        "no amount_mismatch",
        lambda c: c["alerts"].pop(2),
    ),
    "a second reference, and nobody was told": (
        "no second_reference",
        lambda c: c["alerts"].pop(0),
    ),
    "two payments, and nobody was told": (
        "no possible_double_execution",
        lambda c: c["alerts"].pop(1),
    ),
    "paid after it was told as failed, and nobody was told": (
        "no paid_and_failed",
        lambda c: c["alerts"].pop(4),
    ),
    "one cause, and two alerts": (
        "second_reference is told 2 times, and has 1 causes",
        lambda c: c["alerts"].append(alert("double", "second_reference")),
    ),
    "one cause, and another alert after the first was closed": (
        "amount_mismatch is told 2 times, and has 1 causes",
        lambda c: c["alerts"].append(alert("strange", "amount_mismatch", "closed")),
    ),
    "one contradiction, and two alerts": (
        "paid_and_failed is told 2 times, and has 1 causes",
        lambda c: c["alerts"].append(alert("flip", "paid_and_failed")),
    ),
    "a contradiction where the bank told no other": (
        "paid_and_failed without a reason",
        lambda c: c["alerts"].append(alert("good", "paid_and_failed")),
    ),
    "a return that there is not": (
        "return_unexplained without a reason",
        lambda c: c["alerts"].append(alert("good", "return_unexplained")),
    ),
    "an alert about nobody": (
        "unmatched_event about po_x, which nobody knows",
        lambda c: c["alerts"].append(alert("x", "unmatched_event")),
    ),
    "two open alerts about one provider": (
        "bank: provider_refuses_us is open 2 times",
        lambda c: c["alerts"].append(about_bank()),
    ),
    "an alert without a reason": (
        "paid_and_failed without a reason",
        lambda c: c["alerts"].append(alert("stuck", "paid_and_failed")),
    ),
    "a mismatch that there is not": (
        "amount_mismatch without a reason",
        lambda c: c["alerts"].append(alert("good", "amount_mismatch")),
    ),
    "both executions of one key are booked": (
        "books",
        lambda c: c["transfers"]["po_double"].extend(paid(fee=0)),
    ),
    "the second payment is not booked": (
        "books",
        lambda c: c["transfers"].update(po_again=paid()),
    ),
    "another amount is booked as the asked one": (
        "books",
        lambda c: c["transfers"].update(po_strange=paid()),
    ),
    "a return of another amount is booked": (
        "books",
        lambda c: take_back(c, STRANGE, "po_strange"),
    ),
    "a return that the merchant isn't shown": (
        "0 is said to be returned, 60 came back",
        lambda c: take_back(c, DOUBLE, "po_double"),
    ),
    "two fees": ("is due", lambda c: c["transfers"].update(po_again=[*paid(), *paid()])),
    "a cost that the merchant isn't shown": (
        "is said to be the cost",
        lambda c: of(c, "again").update(provider_cost=20),
    ),
    "paid, and shown as failed": (
        "should be settled",
        lambda c: of(c, "again").update(state="failed"),
    ),
    "another's reference": (
        "the statement",
        lambda c: of(c, "double").update(provider_reference="r"),
    ),
    "open with a closed alert": (
        "is still unknown",
        lambda c: c["alerts"][2].update(state="closed"),
    ),
    "open for ever, and nobody was told": (
        "and nobody was told",
        lambda c: c["alerts"].pop(3),
    ),
    "open, and its provider would tell": (
        "is still accepted",
        lambda c: rename(c, STUCK, OTHER),
    ),
    "open, and it was executed": (
        "is still accepted",
        lambda c: c["lines"].append(line("debit", STUCK, 100)),
    ),
    "open, and the bank knows nothing": (
        "is still accepted",
        lambda c: c.update(unheard_of=frozenset({STUCK})),
    ),
    "open without an attempt": (
        "nothing is under way",
        lambda c: of(c, "stuck")["attempts"][0].update(state="failed"),
    ),
    "a debit of nobody": (
        "no attempt of ours",
        lambda c: c["lines"].append(line("debit", "pa-x", 100)),
    ),
    "a hold too many": ("is held", lambda c: c["accounts"][0].update(debits_pending=306)),
    "clearing is not the transfers": (
        "add up",
        lambda c: c["accounts"][1].update(credits_posted=700),
    ),
    "a debt without alert": ("is owed", lambda c: c["accounts"][2].update(balance=5)),
    "books that are not balanced": ("debits", lambda c: c["books"][0].update(debits=2)),
}


@pytest.mark.parametrize(("words", "plant"), PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_disagreement_is_found(words: str, plant: Plant) -> None:
    """I1, I5, I6, I8, I22, I23, I26, F17 to F19, F25: no alert excuses the rest of a payout."""
    case = deepcopy(right())
    plant(case)
    found = judged(Evidence(**case)).faults
    assert any(words in fault for fault in found), found
