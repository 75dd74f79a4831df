"""The payout's machine, and an attempt's state as a function of its facts."""

from itertools import chain, combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.payouts.errors import IllegalTransition
from bursar.payouts.machine import (
    ENDED,
    HELD,
    OPEN_ATTEMPT,
    TRANSITIONS,
    AttemptState,
    Event,
    State,
    attempt_state,
    diagram,
    next_state,
)

# Every step that there is. What is not here is refused: 10 states x 14 events.
LEGAL = """
    created       lock     funds_locked
    funds_locked  begin    sending
    funds_locked  review   in_review
    funds_locked  cancel   cancelled
    funds_locked  expire   failed
    funds_locked  settle   settled
    in_review     approve  funds_locked
    in_review     reject   failed
    in_review     cancel   cancelled
    sending       accept   sent
    sending       settle   settled
    sending       retry    funds_locked
    sending       decline  failed
    sending       exhaust  dead_letter
    sent          settle   settled
    sent          decline  failed
    settled       return   returned
    failed        reopen   funds_locked
    failed        settle   settled
    dead_letter   reopen   funds_locked
    dead_letter   settle   settled
    cancelled     settle   settled
"""
STEPS = {
    (line.split()[0], line.split()[1]): line.split()[2]
    for line in LEGAL.split("\n")
    if line.strip()
}


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_every_state_meets_every_event(state: State, event: Event) -> None:
    """I11: the table above, and nothing else."""
    expected = STEPS.get((state.value, event.value))
    if expected is None:
        with pytest.raises(IllegalTransition):
            next_state(state, event)
    else:
        assert next_state(state, event) == expected


def test_money_is_held_until_the_payout_is_over() -> None:
    """I4: a state holds money, or is over, or is never stored; none is two of these."""
    assert HELD | ENDED | {State.CREATED} == set(State)
    assert not HELD & ENDED


def test_nothing_that_left_is_forgotten() -> None:
    """F25: a late `paid` is taken in from every state in which nothing has been paid yet."""
    unpaid = set(State) - {State.CREATED, State.IN_REVIEW, State.SETTLED, State.RETURNED}
    assert {state for state in State if Event.SETTLE in TRANSITIONS[state]} == unpaid


def test_every_state_can_be_reached() -> None:
    """No state that nothing leads to."""
    reached = {State.CREATED} | {to for steps in TRANSITIONS.values() for to in steps.values()}
    assert reached == set(State)


def test_the_diagram_shows_every_step() -> None:
    """The README's picture is the table's."""
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert sorted(line.strip() for line in lines[1:]) == sorted(
        f"{state} --> {to}: {event}" for (state, event), to in STEPS.items()
    )


FACTS = ("accepted", "failed", "paid", "returned")
"""From weakest to strongest."""


@pytest.mark.parametrize(
    "facts", chain.from_iterable(combinations(FACTS, size) for size in range(len(FACTS) + 1))
)
def test_the_strongest_fact_decides_in_every_order(facts: tuple[str, ...]) -> None:
    """F23, I24: returned over paid over failed over accepted; none leaves the state as it was."""
    for order in permutations(facts):
        for before in OPEN_ATTEMPT:
            assert attempt_state(order, before) == (facts[-1] if facts else before)


@given(st.lists(st.sampled_from(FACTS)))
def test_telling_a_fact_again_changes_nothing(facts: list[str]) -> None:
    """F21, F22, I24."""
    once = attempt_state(facts, AttemptState.SENDING)
    assert attempt_state(facts + facts[::-1], AttemptState.SENDING) == once
    assert attempt_state(sorted(facts), AttemptState.SENDING) == once
