"""Another amount is told after persons spoke: what they said is asked for again."""

from __future__ import annotations

import pytest

from bursar.payouts.errors import AlreadyDispatched, NotRetryable, SecondPersonRequired
from bursar.payouts.operations import Verdict
from bursar.rails.port import EventKind
from tests.engine.wiring import cancel
from tests.payouts.story import AMOUNT, told
from tests.payouts.test_operations import ANN, BEN, EVE, open_kinds, resolve, retry, shown, unproven


@pytest.mark.parametrize("verdict", ["executed", "not_executed"])
@pytest.mark.parametrize("retried", [False, True])
def test_another_amount_told_after_their_word_asks_them_again(
    verdict: Verdict, *, retried: bool
) -> None:
    """F18, I22: it freezes the attempt and the hold; their next word frees both."""
    story = unproven()
    story.do(resolve(ANN, "not_executed"))
    story.do(resolve(BEN, "not_executed"))
    if retried:
        story.do(retry())
    story.hear(told(EventKind.PAID, amount=AMOUNT - 1))
    story.clock.advance(60)
    with pytest.raises((NotRetryable, AlreadyDispatched)):
        story.do(cancel("p") if retried else retry())
    assert open_kinds(story) == {"amount_mismatch"}
    story.do(resolve(ANN, verdict))
    with pytest.raises(SecondPersonRequired):
        story.do(resolve(ANN, verdict))
    story.do(resolve(BEN, verdict))
    assert story.attempt().frozen_at is None
    if verdict == "executed":
        assert story.state == "settled"
    else:
        assert open_kinds(story) == set()
        story.do(cancel("p") if retried else retry())
    story.check()


def test_a_proposal_from_before_another_amount_is_made_anew() -> None:
    """F18, F68: the second person would confirm what the first one could not know of."""
    story = unproven()
    story.do(resolve(ANN, "not_executed"))
    story.clock.advance(1)
    story.hear(told(EventKind.PAID, amount=AMOUNT - 1))
    story.clock.advance(1)
    assert story.do(resolve(BEN, "not_executed")).status == 202
    assert story.do(resolve(ANN, "not_executed")).status == 200


def test_what_is_shown_follows_the_question() -> None:
    """F68: nobody sees support for a word that was given to another one."""
    story = unproven()
    for who in (ANN, BEN):
        story.do(resolve(who, "not_executed"))
    assert shown(story) == ("confirmed", "not_executed", "per_ann")
    story.hear(told(EventKind.PAID, amount=AMOUNT - 1))
    assert shown(story) is None
    story.clock.advance(1)
    story.do(resolve(EVE))
    assert shown(story) == ("proposed", "executed", "per_eve")
    story.hear(told(EventKind.PAID, event="evt_right"))
    assert shown(story) == ("confirmed", "not_executed", "per_ann")
