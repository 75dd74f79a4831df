"""Any order and number of the same facts ends in the same state and the same money."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from hypothesis import event as seen
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.ledger.model import AccountRole
from bursar.rails.outcomes import (
    Accepted,
    Executed,
    Inquiry,
    Outcome,
    StatusExecuted,
    StatusRejected,
    Unknown,
)
from bursar.rails.port import ProviderEvent
from tests.engine.wiring import Twin, begin, create, fund, reply
from tests.payouts.wiring import (
    CLOSED,
    asked,
    attempt,
    check_books,
    check_payouts,
    deliver,
    event,
    incidents,
    net,
    payout,
    take_over,
)

EXECUTED = Executed(provider_ref="bt", amount_minor=100, currency="EUR")
PAID = StatusExecuted(provider_ref="bt", amount_minor=100, currency="EUR")
REJECTED = StatusRejected("AC04", "closed")
FUNDED, AMOUNT, FEE = 1000, 100, 2

Step = ProviderEvent | Outcome | float
"""A provider's message, the reply to our send, or seconds that pass."""


@dataclass
class End:
    """How it all stands in the end."""

    payout: str
    attempt: str
    net: int
    returned: int
    pending: int
    incidents: list[str]


def run(steps: list[Step], truth: Inquiry) -> End:
    """Tell the steps of one attempt, then ask the provider until the attempt has ended."""
    twin = Twin()
    twin.do(fund(FUNDED))
    twin.do(create("p", AMOUNT, fee=FEE))
    twin.do(begin("p", "a", token="ls_a"))
    for step in steps:
        if isinstance(step, ProviderEvent):
            seen(f"{step.kind}: {deliver(twin, step)}")
        elif isinstance(step, float):
            twin.clock.advance(step)
        else:
            twin.do(reply("a", step, token="ls_a"))
        check_payouts(twin)
    twin.clock.advance(10)
    if attempt(twin).state == "sending":
        twin.do(take_over())
        twin.clock.advance(10)
    if attempt(twin).state in {"unknown", "accepted"}:
        twin.do(asked(twin, "a", truth))
    check_books(twin)
    check_payouts(twin)
    return End(
        payout=payout(twin).state,
        attempt=attempt(twin).state,
        net=net(twin),
        returned=payout(twin).amount_returned,
        pending=twin.account(AccountRole.AVAILABLE).debits_pending,
        incidents=incidents(twin),
    )


def told(*facts: ProviderEvent) -> st.SearchStrategy[list[Step]]:
    """Each fact at least once, in any order, again under its own or another event id."""

    def twice(number: int, fact: ProviderEvent) -> ProviderEvent:
        return msgspec.structs.replace(fact, event_id=f"again_{number}")

    again = st.lists(
        st.builds(twice, st.integers(0, 9), st.sampled_from(facts)) | st.sampled_from(facts),
        max_size=4,
    )
    return again.flatmap(lambda more: st.permutations([*facts, *more]))


def with_reply(
    steps: st.SearchStrategy[list[Step]], *replies: Outcome
) -> st.SearchStrategy[list[Step]]:
    """The same, with the reply to our send somewhere among them, or never."""

    def insert(told_steps: list[Step], places: list[tuple[int, Step]]) -> list[Step]:
        mixed = list(told_steps)
        for place, step in places:
            mixed.insert(min(place, len(mixed)), step)
        return mixed

    place = st.integers(0, 8)
    reply_at = st.lists(st.tuples(place, st.sampled_from(replies)), max_size=1)
    pauses = st.lists(st.tuples(place, st.sampled_from([0.5, 4.0, 11.0])), max_size=3)
    return st.builds(lambda s, r, p: insert(s, [*r, *p]), steps, reply_at, pauses)


ACCEPTED_FACT = event("evt_a", "accepted")
PAID_FACT = event("evt_p", "paid")
FAILED_FACT = event("evt_f", "failed")
PARTS = (
    event("evt_1", "returned", amount=30, return_id="rt_1"),
    event("evt_2", "returned", amount=30, return_id="rt_2"),
    event("evt_3", "returned", amount=40, return_id="rt_3"),
)
SAID = (Accepted("bt"), EXECUTED, Unknown("timeout"))


@settings(max_examples=200, deadline=None)
@given(with_reply(told(ACCEPTED_FACT, PAID_FACT), *SAID))
def test_accepted_and_paid(steps: list[Step]) -> None:
    """F21-F24, I24: settled, once."""
    assert run(steps, PAID) == End("settled", "paid", FUNDED - AMOUNT - FEE, 0, 0, [])


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 3))
def test_accepted_paid_and_returned_in_parts(data: st.DataObject, parts: int) -> None:
    """F23, F79, F80, I24: what came back is free again, the fee is kept."""
    facts = (ACCEPTED_FACT, PAID_FACT, *PARTS[:parts])
    back = sum(part.amount_minor for part in PARTS[:parts])
    end = run(data.draw(with_reply(told(*facts), *SAID)), PAID)
    state = "returned" if back == AMOUNT else "settled"
    assert end == End(state, "returned", FUNDED - AMOUNT - FEE + back, back, 0, [])


@settings(max_examples=200, deadline=None)
@given(with_reply(told(ACCEPTED_FACT, FAILED_FACT), Accepted("bt"), Unknown("timeout"), CLOSED))
def test_accepted_and_failed(steps: list[Step]) -> None:
    """F12, F23, I24: failed, now or when the window has closed; the hold is given back.

    A worker that brings a promise after the failure was proven is looked at by a human.
    """
    end = run(steps, REJECTED)
    assert set(end.incidents) <= {"possible_double_execution"}
    assert end == End("failed", "failed", FUNDED, 0, 0, end.incidents)


@settings(max_examples=300, deadline=None)
@given(
    with_reply(told(PAID_FACT, FAILED_FACT, *PARTS[:1]), *SAID),
    st.sampled_from([0.0, 11.0]),
)
def test_paid_and_failed_is_paid(steps: list[Step], pause: float) -> None:
    """F25, F26, I24: whatever was told first; a contradiction is never dropped silently.

    `failed` counts as a fact only after the window, so whether there is an incident may depend on
    the time of its arrival. State and money do not.
    """
    end = run([pause, *steps], PAID)
    assert set(end.incidents) <= {"paid_and_failed", "possible_double_execution"}
    assert (end.payout, end.attempt, end.pending) == ("settled", "returned", 0)
    assert (end.net, end.returned) == (FUNDED - AMOUNT - FEE + 30, 30)


@settings(max_examples=100, deadline=None)
@given(with_reply(told(ACCEPTED_FACT, PAID_FACT, event("evt_x", "paid", amount=99)), *SAID[::2]))
def test_a_wrong_amount_among_the_right_facts_moves_nothing(steps: list[Step]) -> None:
    """F18, I24: an incident at the most."""
    end = run(steps, PAID)
    assert set(end.incidents) == {"amount_mismatch"} or not end.incidents
    assert (end.payout, end.net) == ("settled", FUNDED - AMOUNT - FEE)
