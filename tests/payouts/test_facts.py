"""How an attempt stands by its facts, and what a payout got back by those of all its attempts."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from bursar.payouts.facts import Standing, amount_returned, failure_item, return_item, standing
from bursar.payouts.machine import AttemptState
from bursar.payouts.model import Fact

AMOUNT = 100
PRECEDENCE = ("returned", "paid", "failed", "accepted")


def fact(
    kind: str,
    item: str = "",
    *,
    amount: int = AMOUNT,
    sequence: int | None = None,
    ref: str | None = "bt",
) -> Fact:
    """Something that was told of one attempt."""
    return Fact(
        merchant_id="mer_shop",
        attempt_id="pa_a",
        kind=kind,
        item=item,
        provider_ref=ref,
        amount=amount,
        cost=0,
        code=None,
        reason=None,
        source="webhook",
        at=datetime(2026, 3, 27, tzinfo=UTC),
        sequence=sequence,
    )


def paid(sequence: int | None = None) -> Fact:
    """It paid, as number `sequence` of what the provider said."""
    return fact("paid", "" if sequence is None else str(sequence), sequence=sequence)


def failed(sequence: int | None = None, *, proven: bool = True) -> Fact:
    """It failed, as number `sequence`."""
    item = failure_item(sequence, proven=proven)
    return fact("failed", item, amount=0, sequence=sequence)


def back(item: str, amount: int) -> Fact:
    """A part came back under the id `item`."""
    return fact("returned", item, amount=amount)


@pytest.mark.parametrize("otherwise", AttemptState)
def test_without_order_returned_beats_paid_beats_failed_beats_accepted(
    otherwise: AttemptState,
) -> None:
    """F23, F18, I24: in any order and any number; a return counts only beside a payment."""
    for size in range(5):
        for kinds in itertools.product((*PRECEDENCE, "foreign"), repeat=size):
            counting = {*kinds} - ({"foreign"} if "paid" in kinds else {"foreign", "returned"})
            expected = min(counting, key=PRECEDENCE.index) if counting else otherwise
            facts = [fact(kind) for kind in kinds]
            assert standing(facts, AMOUNT).state(otherwise) == expected
            assert standing(iter(facts * 2), AMOUNT).state(otherwise) == expected


@pytest.mark.parametrize(
    ("facts", "state", "returned", "contradicted"),
    [
        # without order, or with half of one
        ([paid(), failed()], "paid", 0, True),
        ([paid(2), failed()], "paid", 0, True),
        ([paid(), failed(3)], "paid", 0, True),
        ([paid(), failed(proven=False)], "paid", 0, True),
        ([paid(2), failed(3), failed()], "returned", 100, True),
        # the provider's order decides
        ([paid(2), failed(3)], "returned", 100, False),
        ([paid(2), failed(3, proven=False)], "returned", 100, False),
        ([failed(2), paid(3)], "paid", 0, False),
        ([failed(2, proven=False), paid(3)], "paid", 0, False),
        ([paid(2), failed(3), paid(4)], "paid", 0, False),
        ([paid(2), failed(3), paid(4), failed(5)], "returned", 100, False),
        ([paid(), paid(2), failed(3)], "returned", 100, False),
        # what came back besides
        ([paid(2), back("rt_1", 30), failed(4)], "returned", 100, False),
        ([paid(2), back("rt_1", 30), failed(4), paid(5)], "returned", 30, False),
        # a failure that was only told is none
        ([failed(proven=False)], "unknown", 0, False),
        ([failed(3, proven=False)], "unknown", 0, False),
        ([fact("accepted"), failed(3, proven=False)], "accepted", 0, False),
        ([fact("accepted"), failed(3)], "failed", 0, False),
        ([failed(3, proven=False), failed()], "failed", 0, False),
    ],
)
def test_paid_and_failed(
    facts: list[Fact], state: str, returned: int, *, contradicted: bool
) -> None:
    """F25, F26, I24: the same for every order of arrival."""
    for told in itertools.permutations(facts):
        stands = standing(told, AMOUNT)
        assert stands.state(AttemptState.UNKNOWN) == state
        assert (stands.returned, stands.contradicted) == (returned, contradicted)
        assert stands.denied == any(one.kind == "failed" for one in facts)


@pytest.mark.parametrize(
    ("parts", "returned", "excess"),
    [
        ([], 0, 0),
        ([("rt_1", 60)], 60, 0),
        ([("rt_1", 60), ("rt_2", 40)], 100, 0),
        ([("rt_1", 60), ("rt_2", 41)], 100, 1),
        ([("rt_1", 60), ("rt_2", 30), ("rt_3", 50)], 100, 40),
        ([("rt_1", 0)], 0, 0),
        ([("rt_1", -5), ("rt_2", 10)], 10, 0),
        # told by an inquiry without an id: all that came back so far
        ([(return_item(None, 60), 60)], 60, 0),
        ([(return_item(None, 60), 60), ("rt_1", 60)], 60, 0),
        ([(return_item(None, 60), 60), ("rt_1", 60), ("rt_2", 10)], 70, 0),
        ([(return_item(None, 60), 60), (return_item(None, 80), 80), ("rt_1", 60)], 80, 0),
    ],
)
def test_returns_add_up_to_the_amount_at_most(
    parts: list[tuple[str, int]], returned: int, excess: int
) -> None:
    """F80, I8, I24: whichever part is told last, as much is booked."""
    for told in itertools.permutations([paid(), *(back(*part) for part in parts)]):
        stands = standing(told, AMOUNT)
        assert (stands.returned, stands.excess, stands.paid) == (returned, excess, True)


def test_a_return_alone_does_not_say_how_much_had_left() -> None:
    """F18, F23: it counts once a payment is told; beside a failure it stays unexplained."""
    alone = standing([back("rt_1", 60)], AMOUNT)
    assert (alone.paid, alone.returned, alone.excess, alone.unexplained) == (False, 0, 0, True)
    beside = standing([back("rt_1", 60), failed()], AMOUNT)
    assert (beside.contradicted, beside.unexplained) == (False, True)
    third = fact("returned", "rt_1", amount=60, sequence=3)
    assert standing([third, failed(4)], AMOUNT).undone_by is None
    assert standing([third, fact("foreign", "EUR:60", amount=60)], AMOUNT).returned == 0
    both = standing([back("rt_1", 60), paid()], AMOUNT)
    assert (both.paid, both.returned, both.unexplained) == (True, 60, False)


def test_every_reference_is_known() -> None:
    """F17: of what was paid or came back."""
    facts = [fact("paid"), fact("paid", "x", ref="bt_x"), fact("accepted", ref="bt_y")]
    assert standing(facts, AMOUNT).references == {"bt", "bt_x"}


@pytest.mark.parametrize(
    ("attempts", "returned"),
    [
        ([], 0),
        ([Standing(failed=True)], 0),
        ([Standing(paid=True, returned=30)], 30),
        ([Standing(paid=True, returned=30), Standing(failed=True)], 30),
        ([Standing(paid=True, returned=100), Standing(paid=True)], 0),
        ([Standing(paid=True, returned=60), Standing(paid=True, returned=60)], 20),
        ([Standing(paid=True, returned=100), Standing(paid=True, returned=100)], 100),
        ([Standing(paid=True, returned=100)] * 2 + [Standing(paid=True)], 0),
    ],
)
def test_what_a_payout_got_back(attempts: list[Standing], returned: int) -> None:
    """F79, F80, I8: of several executions all but one were never the merchant's."""
    for told in itertools.permutations(attempts):
        assert amount_returned(AMOUNT, told) == returned
