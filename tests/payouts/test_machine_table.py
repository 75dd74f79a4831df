"""The payout's machine against the table that was written by hand, from the design."""

import itertools
from pathlib import Path

import pytest

from bursar.payouts.errors import IllegalTransition
from bursar.payouts.machine import (
    ENDED,
    HELD,
    AttemptState,
    Event,
    State,
    attempt_state,
    diagram,
    next_state,
)
from tests.payouts.wiring import LEGAL_STEPS, machine_table

TABLE = machine_table()
README = Path(__file__).parents[2] / "src" / "bursar" / "payouts" / "README.md"
PRECEDENCE = ("returned", "paid", "failed", "accepted")


def test_the_table_speaks_of_every_state_and_event() -> None:
    """A state or event added to the code needs a line or column here."""
    assert {state for state, _ in TABLE} == {state.value for state in State}
    assert {event for _, event in TABLE} == {event.value for event in Event}
    assert len(TABLE) == len(State) * len(Event) == 140


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_each_event_in_each_state(state: State, event: Event) -> None:
    """I11: the step of the table, or a refusal."""
    target = TABLE[state.value, event.value]
    if target is not None:
        assert next_state(state, event) == target
        return
    with pytest.raises(IllegalTransition) as refused:
        next_state(state, event)
    assert (refused.value.status, refused.value.code) == (409, "illegal_transition")


def test_the_design_has_22_steps() -> None:
    """I11: no two events make the same step."""
    assert len(LEGAL_STEPS) == sum(target is not None for target in TABLE.values()) == 22


def test_ended_states_are_left_only_by_what_happened_or_by_an_operator() -> None:
    """Nothing of ours moves an ended payout on; a late paid, a return or a person does."""
    assert {"settled", "returned", "failed", "cancelled", "dead_letter"} == ENDED
    assert not HELD & ENDED
    leaving = {
        event
        for (state, event), target in TABLE.items()
        if target is not None and state in {end.value for end in ENDED}
    }
    assert leaving == {"settle", "return", "reopen"}


def test_the_readmes_diagram_is_the_table() -> None:
    """The picture that people read can't grow old."""
    assert diagram() in README.read_text(encoding="utf-8")
    arrows = {
        (state, event.strip(), target)
        for line in diagram().splitlines()[1:]
        for state, rest in [line.strip().split(" --> ")]
        for target, event in [rest.split(":")]
    }
    assert arrows == {(s, e, t) for (s, e), t in TABLE.items() if t is not None}


@pytest.mark.parametrize("otherwise", AttemptState)
def test_an_attempts_state_is_a_function_of_the_set_of_its_facts(otherwise: AttemptState) -> None:
    """F23, I24: returned > paid > failed > accepted, in any order and any number."""
    for size in range(5):
        for facts in itertools.product(PRECEDENCE, repeat=size):
            expected = min(facts, key=PRECEDENCE.index) if facts else otherwise
            assert attempt_state(facts, otherwise) == expected
            assert attempt_state(iter(facts * 2), otherwise) == expected


def test_a_fact_of_another_kind_moves_no_attempt() -> None:
    """Only the four kinds have a rank."""
    assert attempt_state(["noted"], AttemptState.UNKNOWN) == AttemptState.UNKNOWN
