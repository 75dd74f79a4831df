"""Every situation a payout can be in, against everything anybody may try on it.

A cell is the payout's state afterwards, or `no:` and the code of the refusal; after a refusal not
one row differs. `=` means that it was taken in and moved nothing.
"""

from collections.abc import Callable

import pytest

from bursar.kit.errors import Refusal
from bursar.payouts.commands import RETRY_BUDGET
from bursar.rails.port import EventKind
from tests.engine.wiring import cancel
from tests.payouts.story import (
    ACCEPTED,
    DECLINED,
    EXECUTED,
    NOT_SENT,
    TRUTH_FAILED,
    TRUTH_PAID,
    UNKNOWN,
    Story,
    told,
)

WEEK_S = RETRY_BUDGET.total_seconds()


def _returned(story: Story) -> None:
    story.sent(EXECUTED)
    story.hear(told(EventKind.RETURNED))


def _expired(story: Story) -> None:
    story.clock.advance(WEEK_S)
    story.expire_payout()


SITUATIONS: dict[str, Callable[[Story], object]] = {
    "waiting": lambda _: None,
    "backing_off": lambda story: story.sent(NOT_SENT),
    "being_sent": lambda story: story.begin(),
    "unknown": lambda story: story.sent(UNKNOWN),
    "promised": lambda story: story.sent(ACCEPTED),
    "settled": lambda story: story.sent(EXECUTED),
    "returned": _returned,
    "failed": lambda story: story.sent(DECLINED),
    "cancelled": lambda story: story.do(cancel("p")),
    "expired": _expired,
}


def _later(seconds: float, then: Callable[[Story], object]) -> Callable[[Story], object]:
    def wait(story: Story) -> None:
        story.clock.advance(seconds)
        then(story)

    return wait


TRIALS: dict[str, Callable[[Story], object]] = {
    "cancel": lambda story: story.do(cancel("p")),
    "begin": _later(1, lambda story: story.begin("2")),
    "expire_now": lambda story: story.expire_payout(),
    "expire_then": _later(WEEK_S, lambda story: story.expire_payout()),
    "lease_now": lambda story: story.expire_lease(),
    "lease_then": _later(60, lambda story: story.expire_lease()),
    "reply_paid": lambda story: story.reply(EXECUTED),
    "reply_no": lambda story: story.reply(DECLINED),
    "zombie_paid": lambda story: story.reply(EXECUTED, token="ls_old"),
    "asked_paid": lambda story: story.inquire(TRUTH_PAID),
    "asked_no": lambda story: story.inquire(TRUTH_FAILED),
    "later_no": _later(60, lambda story: story.inquire(TRUTH_FAILED)),
    "told_paid": lambda story: story.hear(told(EventKind.PAID)),
    "told_no": lambda story: story.hear(told(EventKind.FAILED)),
    "told_back": lambda story: story.hear(told(EventKind.RETURNED)),
    "back_paid": lambda story: story.hear(told(EventKind.RETURNED), told(EventKind.PAID)),
}
# `-` where there is no attempt to speak of.
TABLE = """
situation    cancel                 begin     expire_now expire_then lease_now lease_then
waiting      cancelled              sending   no:not_due failed      -         -
backing_off  cancelled              sending   no:not_due failed      no:not_due no:not_due
being_sent   no:already_dispatched  no:not_due no:not_due no:not_due no:not_due sending
unknown      no:already_dispatched  no:not_due no:not_due no:not_due no:not_due no:not_due
promised     no:already_dispatched  no:not_due no:not_due no:not_due no:not_due no:not_due
settled      no:already_dispatched       no:not_due no:not_due no:not_due no:not_due no:not_due
returned     no:already_dispatched       no:not_due no:not_due no:not_due no:not_due no:not_due
failed       no:already_dispatched       no:not_due no:not_due no:not_due no:not_due no:not_due
cancelled    no:already_dispatched       no:not_due no:not_due no:not_due -         -
expired      no:already_dispatched       no:not_due no:not_due no:not_due -         -

situation    reply_paid reply_no zombie_paid asked_paid asked_no   later_no
backing_off  settled    =        settled     settled    no:not_due no:not_due
being_sent   settled    failed   settled     settled    no:not_due no:not_due
unknown      settled    =        settled     settled    sending    failed
promised     settled    =        settled     settled    sent       failed
settled      =          =        =           no:not_due no:not_due no:not_due
returned     =          =        =           no:not_due no:not_due no:not_due
failed       settled    =        settled     settled    no:not_due no:not_due

situation    told_paid told_no  told_back    back_paid
backing_off  settled   =        funds_locked returned
being_sent   settled   sending  sending      returned
unknown      settled   sending  sending      returned
promised     settled   sent     sent         returned
settled      =         settled  returned     returned
returned     =         returned =            =
failed       settled   =        failed       returned
"""


def _cells() -> list[tuple[str, str, str]]:
    cells = []
    for block in TABLE.strip().split("\n\n"):
        head, *lines = [line.split() for line in block.split("\n")]
        for situation, *words in lines:
            cells += [
                (situation, trial, word)
                for trial, word in zip(head[1:], words, strict=True)
                if word != "-"
            ]
    return cells


def _picture(story: Story) -> object:
    """All that a trial may move; the inbox and the journal may take notes."""
    attempts = [
        (row.id, row.state, row.provider_ref, row.lease_until, row.proof_at)
        for row in story.attempts()
    ]
    return story.payout(), attempts, story.balances(), story.net


@pytest.mark.parametrize(("situation", "trial", "expected"), _cells())
def test_each_trial_in_each_situation(situation: str, trial: str, expected: str) -> None:
    """F4, F9, F12, F16, F21, F25, F26, F32 to F35, I4, I6, I11."""
    story = Story()
    SITUATIONS[situation](story)
    before = _picture(story)
    outcome = "="
    try:
        TRIALS[trial](story)
    except Refusal as refusal:
        outcome = f"no:{refusal.code}"
    story.check()
    if _picture(story) != before:
        assert outcome == "="
        outcome = story.state
    elif outcome == "=" and expected != "=":
        outcome = story.state
    assert outcome == expected


def test_the_table_is_whole() -> None:
    """Every situation has met every trial, but those about an attempt that there never was."""
    met = {(situation, trial) for situation, trial, _ in _cells()}
    no_attempt = {"waiting", "cancelled", "expired"}
    about_attempts = set(TRIALS) - {"cancel", "begin", "expire_now", "expire_then"}
    assert met == {
        (situation, trial)
        for situation in SITUATIONS
        for trial in TRIALS
        if not (situation in no_attempt and trial in about_attempts)
    }


@pytest.mark.parametrize("outcome", [EXECUTED, ACCEPTED, DECLINED, NOT_SENT, UNKNOWN])
def test_an_outcome_recorded_twice_is_recorded_once(outcome: object) -> None:
    """F49: a command that is run again after a lost commit is a no-op."""
    story = Story()
    story.sent(outcome)  # type: ignore[arg-type]
    before = _picture(story)
    story.reply(outcome)  # type: ignore[arg-type]
    assert _picture(story) == before
    story.check()
