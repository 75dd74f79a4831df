"""Which alerts end with two persons' word, and which a person must close."""

from __future__ import annotations

import pytest

from bursar.incidents.commands import CloseIncident
from bursar.incidents.model import INCIDENTS
from bursar.payouts.operations import Verdict
from bursar.rails.port import EventKind
from tests.engine.wiring import SHOP
from tests.payouts.story import AMOUNT, UNKNOWN, told
from tests.payouts.test_operations import ANN, BEN, EVE, open_kinds, resolve, unproven


@pytest.mark.parametrize("verdict", ["executed", "not_executed"])
def test_the_incidents_that_are_answered_are_closed(verdict: Verdict) -> None:
    """F18: by the second person. That another amount was taken stays open after "executed"."""
    story = unproven()
    story.record(UNKNOWN)
    story.hear(told(EventKind.PAID, amount=AMOUNT - 1))
    kinds = {"attempt_unproven", "amount_mismatch"}
    story.clock.advance(1)
    assert open_kinds(story) == kinds
    story.do(resolve(ANN, verdict))
    assert open_kinds(story) == kinds
    story.do(resolve(BEN, verdict))
    closed = {row.kind: row.closed_by for row in story.rows(INCIDENTS) if row.closed_at}
    answered = {"attempt_unproven"} if verdict == "executed" else kinds
    assert closed == dict.fromkeys(answered, "per_ben")
    assert open_kinds(story) == kinds - answered
    assert story.state == ("settled" if verdict == "executed" else "failed")


def test_a_person_closes_the_alert_about_the_amount() -> None:
    """F18: the difference is in no account, so it ends by a person's note."""
    story = unproven()
    story.hear(told(EventKind.PAID, amount=AMOUNT - 1))
    story.do(resolve(ANN))
    story.do(resolve(BEN))
    (left,) = [row for row in story.rows(INCIDENTS) if row.closed_at is None]
    close = CloseIncident(
        origin=EVE, merchant_id=SHOP, incident_id=left.id, note="The bank paid it back."
    )
    assert story.do(close).status == 200
    assert not open_kinds(story)
