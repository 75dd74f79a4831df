"""Payouts that wait for a cause of ours: people of the platform hear of it, once."""

from __future__ import annotations

import pytest

from bursar.engine.model import PLATFORM
from bursar.incidents.model import INCIDENTS
from bursar.payouts.silence import UNREACHABLE_AFTER
from bursar.rails.outcomes import NotExecuted
from bursar.rails.port import EventKind
from tests.payouts.story import AMOUNT, EXECUTED, NOT_SENT, Story, told

EMPTY = NotExecuted(code="AM04", reason="empty", retryable=True, ours=True, sent=True)


def alerts(story: Story) -> list[tuple[str, str, str]]:
    """(kind, subject, merchant) of each alert."""
    return [(row.kind, row.subject_id, row.merchant_id) for row in story.rows(INCIDENTS)]


def test_a_provider_that_refuses_us_is_told_once() -> None:
    """F90: at the first refusal, however many payouts wait for it."""
    story = Story()
    for number in range(1, 4):
        story.clock.advance(400)
        story.sent(EMPTY, str(number))
        assert alerts(story) == [("provider_refuses_us", "bank", PLATFORM)]
    assert story.payout().retries_burned == 0
    story.check()


def test_a_provider_that_nothing_reaches_is_told_after_some_tries() -> None:
    """F15, F90: a connection that could not be made now and then is no news."""
    story = Story()
    for number in range(1, UNREACHABLE_AFTER + 2):
        story.clock.advance(400)
        story.sent(NOT_SENT, str(number))
        wanted = [("provider_unreachable", "bank", PLATFORM)] * (number >= UNREACHABLE_AFTER)
        assert alerts(story) == wanted
    story.check()


@pytest.mark.parametrize("again", [30, 40])
def test_a_return_that_is_told_with_another_amount(again: int) -> None:
    """F80: the first counts, and a person looks, once."""
    story = Story()
    story.sent(EXECUTED)
    for number, amount in enumerate((30, again, again)):
        story.hear(told(EventKind.RETURNED, amount=amount, event=f"evt_{number}"))
    wanted = [("return_contradicted", "po_p", story.payout().merchant_id)] * (again != 30)
    assert alerts(story) == wanted
    assert story.payout().amount_returned == 30 < AMOUNT
    story.check()
