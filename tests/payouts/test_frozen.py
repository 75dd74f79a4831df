"""An attempt of which another amount was told than asked, or a return and no payment."""

from __future__ import annotations

import pytest

from bursar.engine.model import Origin
from bursar.incidents.errors import AlertAlreadyClosed, AlertNotFound
from bursar.incidents.model import INCIDENTS
from bursar.ledger.model import AccountRole
from bursar.payouts.alerts import CloseAlert
from bursar.payouts.errors import AlreadyDispatched, NotDue, StillOpen
from bursar.payouts.facts import foreign_currency, foreign_item
from bursar.payouts.operations import ResolvePayout
from bursar.rails.outcomes import (
    Inquiry,
    NotExecuted,
    Outcome,
    StatusNotFound,
    StatusPending,
    StatusRejected,
    StatusReturned,
    StatusUnknown,
    Unknown,
)
from bursar.rails.port import EventKind
from tests.engine.wiring import ORIGIN, SHOP, cancel
from tests.payouts.story import ACCEPTED, AMOUNT, EXECUTED, NOT_SENT, UNKNOWN, Story, told
from tests.payouts.wiring import asked, expire

LESS = AMOUNT - 40
MISMATCH = Unknown("amount_mismatch", LESS, "EUR")
ALL_OF_IT_CAME_BACK = StatusReturned(
    provider_ref="bt_1",
    amount_minor=LESS,
    currency="EUR",
    returned_minor=LESS,
    code="AC06",
    reason="blocked",
    return_id="rt_1",
)


def kinds(story: Story, *, is_open: bool = True) -> list[str]:
    """The kinds of alerts, sorted."""
    rows = story.rows(INCIDENTS)
    return sorted(row.kind for row in rows if (row.closed_at is None) == is_open)


def not_executed(person: str) -> ResolvePayout:
    """What a person says of the payout `p`."""
    return ResolvePayout(
        origin=Origin(person, "cor_1"),
        merchant_id=SHOP,
        payout_id="po_p",
        verdict="not_executed",
        provider_ref=None,
        evidence="a letter",
    )


def close(story: Story, *, merchant_id: str = "") -> CloseAlert:
    """A person's word on the first alert."""
    incident = story.rows(INCIDENTS)[0]
    return CloseAlert(
        origin=ORIGIN,
        merchant_id=merchant_id or incident.merchant_id,
        incident_id=incident.id,
        note="looked at",
    )


class TestReturnsOfAnotherAmount:
    @pytest.mark.parametrize("first", ["mismatch", "return"])
    def test_nothing_is_booked(self, first: str) -> None:
        """F18, F79: 60 of 100 left and came back; neither is what was asked."""
        story = Story()
        story.sent(ACCEPTED)
        facts = [
            told(EventKind.PAID, amount=LESS),
            told(EventKind.RETURNED, amount=LESS),
        ]
        story.hear(*(facts if first == "mismatch" else reversed(facts)))
        story.clock.advance(10)
        story.do(asked(story, "1", ALL_OF_IT_CAME_BACK))
        assert (story.state, story.attempt().state) == ("sent", "accepted")
        assert story.account(AccountRole.PROVIDER_CLEARING).balance == 0
        assert (story.net, story.payout().amount_returned) == (896, 0)  # the hold stays
        assert kinds(story) == ["amount_mismatch"]
        story.check()

    def test_a_return_told_first_is_booked_with_its_payment(self) -> None:
        """F23: the answer of the provider says how much had left."""
        story = Story()
        story.sent(ACCEPTED)
        story.hear(told(EventKind.RETURNED, amount=LESS))
        assert (story.state, story.attempt().inquire_at) == ("sent", story.clock.wall())
        right = StatusReturned(
            provider_ref="bt_1",
            amount_minor=AMOUNT,
            currency="EUR",
            returned_minor=LESS,
            code="AC06",
            reason="blocked",
            return_id="rt_1",
        )
        story.do(asked(story, "1", right))
        assert (story.state, story.payout().amount_returned) == ("settled", LESS)
        assert (story.attempt().frozen_at, kinds(story)) == (None, [])
        story.check()

    def test_a_return_of_what_failed_stops_the_next_attempt(self) -> None:
        """F25, I5: money had left; sending again would pay twice."""
        story = Story()
        story.sent(NOT_SENT)
        story.hear(told(EventKind.RETURNED))
        story.clock.advance(60)
        with pytest.raises(NotDue):
            story.begin("2")
        assert kinds(story) == []
        story.hear(told(EventKind.PAID))
        assert (story.state, kinds(story)) == ("returned", ["paid_and_failed"])
        story.check()

    @pytest.mark.parametrize(
        "answer", [StatusPending("bt_1"), StatusRejected("AC04", "closed"), StatusUnknown("silent")]
    )
    def test_a_return_that_nobody_explains_calls_for_people(self, answer: Inquiry) -> None:
        """F23, I22: the provider was asked how much had left, and it does not say."""
        story = Story()
        story.sent(NOT_SENT)
        story.hear(told(EventKind.RETURNED))
        story.clock.advance(60)
        story.inquire(answer)
        (alert,) = story.rows(INCIDENTS)
        assert (alert.kind, alert.amount) == ("return_unexplained", AMOUNT)
        with pytest.raises(StillOpen):
            story.do(close(story))
        for person in ("per_ann", "per_ben"):
            story.do(not_executed(person))
        assert story.attempt().frozen_at is None
        assert [row.kind for row in story.rows(INCIDENTS) if row.closed_at is None] == []
        story.begin("2")
        story.check()

    def test_a_no_beside_a_return_is_no_proof(self) -> None:
        """F12, F23: a provider that says both knows something that we don't."""
        story = Story()
        story.sent(UNKNOWN)
        story.hear(told(EventKind.RETURNED))
        story.clock.advance(60)
        story.inquire(StatusRejected("AC04", "closed"))
        assert (story.state, story.attempt().state) == ("sending", "unknown")


class TestWhatFreezes:
    @pytest.mark.parametrize("reason", ["amount_mismatch", "unproven"])
    def test_no_words_of_a_provider_do(self, reason: str) -> None:
        """F18: `reason` is the provider's text, and text decides nothing."""
        story = Story()
        story.sent(NotExecuted(code="AM04", reason=reason, retryable=True, sent=True, ours=True))
        assert story.attempt().frozen_at is None
        story.sent(EXECUTED, "2")
        assert story.state == "settled"

    @pytest.mark.parametrize("how", ["reply", "zombie", "inquiry", "old question"])
    def test_whoever_tells_it(self, how: str) -> None:
        """F18, F33: the alert has the amount that was told, once."""
        story = Story()
        story.begin()
        if how in {"reply", "zombie"}:
            story.reply(MISMATCH, token=None if how == "reply" else "ls_old")
        else:
            story.reply(UNKNOWN)
            story.record(MISMATCH, asked_at=0 if how == "inquiry" else 7)
        story.hear(told(EventKind.PAID, amount=LESS))
        assert story.attempt().frozen_at == story.clock.wall()
        (incident,) = story.rows(INCIDENTS)
        assert (incident.kind, incident.amount, incident.currency) == (
            "amount_mismatch",
            LESS,
            "EUR",
        )
        assert str(LESS) in incident.detail

    def test_a_zombies_word_leaves_the_lease_alone(self) -> None:
        """F33: the worker that holds it is still sending."""
        story = Story()
        story.begin()
        story.reply(MISMATCH, token="ls_old")
        assert story.attempt().state == "sending"
        story.reply(EXECUTED)
        assert story.state == "settled"

    def test_an_amount_that_cannot_be_told(self) -> None:
        """F18: people are called all the same; the alert's amount is the payout's."""
        story = Story()
        story.sent(Unknown("amount_mismatch", 0))
        (incident,) = story.rows(INCIDENTS)
        assert (incident.amount, incident.currency) == (AMOUNT, "EUR")

    def test_the_item_tells_the_currency(self) -> None:
        """Also of none."""
        assert foreign_currency(foreign_item(60, "EUR")) == "EUR"
        assert foreign_currency(foreign_item(0, "")) == ""


class TestTheHold:
    def test_it_is_neither_cancelled_nor_expired(self) -> None:
        """F18, F35: 60 may have left; the money for it is not given back."""
        story = Story()
        story.sent(NOT_SENT)
        story.hear(told(EventKind.PAID, amount=LESS))
        with pytest.raises(AlreadyDispatched):
            story.do(cancel("p"))
        story.clock.advance(8 * 24 * 3600)
        with pytest.raises(NotDue):
            story.do(expire())
        assert (story.state, story.hold().state) == ("funds_locked", "active")


class TestUnproven:
    @pytest.mark.parametrize("answer", [StatusPending("bt_1"), StatusUnknown("silent")])
    def test_a_promise_that_is_never_kept_calls_for_people(
        self, answer: StatusPending | StatusUnknown
    ) -> None:
        """I22: past window and key life, whatever it is that proves nothing."""
        story = Story()
        story.sent(ACCEPTED)
        story.clock.advance(59)
        story.inquire(answer)
        assert kinds(story) == []
        story.clock.advance(1)
        story.inquire(answer)
        story.inquire(answer)
        assert kinds(story) == ["attempt_unproven"]

    @pytest.mark.parametrize("end", [EXECUTED, NOT_SENT, "event"])
    def test_it_ends_with_its_attempt(self, end: Outcome | str) -> None:
        """I22: by payment or by proof; then nobody has to look."""
        story = Story()
        story.sent(UNKNOWN)
        story.clock.advance(61)
        story.inquire(StatusUnknown("silent"))
        assert kinds(story) == ["attempt_unproven"]
        if isinstance(end, str):
            story.hear(told(EventKind.PAID))
        else:
            story.record(end)
        assert (kinds(story), kinds(story, is_open=False)) == ([], ["attempt_unproven"])


class TestClosingAlerts:
    def test_one_person_does_not_close_an_open_question(self) -> None:
        """I22, F68: afterwards nothing would tell of the attempt."""
        story = Story()
        story.sent(UNKNOWN)
        story.clock.advance(61)
        story.inquire(StatusUnknown("silent"))
        with pytest.raises(StillOpen):
            story.do(close(story))

    def test_another_amount_is_a_question_until_the_right_one_is_told(self) -> None:
        """F18: then a person may close it."""
        story = Story()
        story.sent(NOT_SENT)
        story.hear(told(EventKind.PAID, amount=LESS))
        with pytest.raises(StillOpen):
            story.do(close(story))
        story.hear(told(EventKind.PAID, event="evt_right"))
        assert story.do(close(story)).status == 200
        with pytest.raises(AlertAlreadyClosed):
            story.do(close(story))

    def test_other_alerts_are_a_persons(self) -> None:
        """And another merchant's do not exist."""
        story = Story()
        story.sent(EXECUTED)
        story.hear(told(EventKind.FAILED))
        with pytest.raises(AlertNotFound):
            story.do(close(story, merchant_id="mer_other"))
        assert story.do(close(story)).status == 200


class TestContradictions:
    def test_one_of_which_nothing_more_can_be_known(self) -> None:
        """F26: past window and key life nobody is asked any more; people have the alert."""
        story = Story()
        story.sent(EXECUTED)
        story.hear(told(EventKind.FAILED))
        story.clock.advance(1)
        story.inquire(StatusUnknown("http_503"))
        assert story.attempt().inquire_at is not None
        story.clock.advance(60)
        story.inquire(StatusUnknown("http_503"))
        assert (story.attempt().inquire_at, kinds(story)) == (None, ["paid_and_failed"])


class TestStaleAnswers:
    def test_a_promise_outruns_the_answer_to_an_older_question(self) -> None:
        """F13, F24: "not found" was asked before the provider promised."""
        story = Story()
        story.sent(UNKNOWN)
        story.clock.advance(60)
        question = asked(story, "1", StatusNotFound())
        story.hear(told(EventKind.ACCEPTED))
        with pytest.raises(NotDue):
            story.do(question)
        assert (story.state, story.attempt().state) == ("sent", "accepted")
