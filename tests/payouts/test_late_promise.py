"""A promise that is told after its provider had said that it knows no such order."""

from __future__ import annotations

import pytest

from bursar.incidents.model import INCIDENTS
from bursar.payouts.errors import NotDue
from bursar.rails.outcomes import StatusNotFound, StatusRejected
from bursar.rails.port import EventKind
from tests.payouts.story import ACCEPTED, EXECUTED, Story, told


def kinds(story: Story) -> list[str]:
    """The kinds of open alerts."""
    return [row.kind for row in story.rows(INCIDENTS) if row.closed_at is None]


@pytest.mark.parametrize("source", ["late reply", "event"])
def test_it_stops_the_next_attempt(source: str) -> None:
    """F13, I7: absence was the proof, and it was none; people and the provider are asked."""
    story = Story()
    story.begin()
    story.clock.advance(5)
    story.expire_lease()
    story.clock.advance(60)
    story.inquire(StatusNotFound())
    assert (story.attempt().state, story.state) == ("failed", "funds_locked")
    if source == "event":
        story.hear(told(EventKind.ACCEPTED))
    else:
        story.reply(ACCEPTED)
    story.clock.advance(400)
    with pytest.raises(NotDue):
        story.begin("2")
    assert kinds(story) == ["promised_after_all"]
    assert story.attempt().inquire_at is not None
    story.record(EXECUTED)
    assert (story.state, story.attempt().frozen_at) == ("settled", None)
    story.check()


def test_a_promise_of_what_was_refused_is_normal() -> None:
    """F24: the event of the promise came after that of the refusal."""
    story = Story()
    story.sent(ACCEPTED)
    story.clock.advance(60)
    story.inquire(StatusRejected("AC04", "closed"))
    story.hear(told(EventKind.ACCEPTED))
    assert (story.state, kinds(story)) == ("failed", [])
