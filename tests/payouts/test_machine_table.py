"""The payout's machine against the table that was written by hand, from the design."""

from pathlib import Path

import pytest

from bursar.payouts.errors import IllegalTransition
from bursar.payouts.machine import (
    ENDED,
    HELD,
    Event,
    State,
    diagram,
    next_state,
)
from tests.payouts.wiring import LEGAL_STEPS, machine_table

TABLE = machine_table()
README = Path(__file__).parents[2] / "src" / "bursar" / "payouts" / "README.md"


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


def test_the_design_has_26_steps() -> None:
    """I11: no two events make the same step."""
    assert len(LEGAL_STEPS) == sum(target is not None for target in TABLE.values()) == 26


def test_ended_states_are_left_only_by_what_happened_or_by_an_operator() -> None:
    """Nothing of ours moves an ended payout on; money that left or came back, or a person, does."""
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
