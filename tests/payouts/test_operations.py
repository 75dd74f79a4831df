"""Operators send a payout again, and say in pairs what became of an attempt."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from bursar.engine.group import Done
from bursar.engine.model import JOURNAL, Origin, Reply, Request
from bursar.incidents.model import INCIDENTS
from bursar.kit.errors import Refusal
from bursar.ledger.errors import InsufficientFunds
from bursar.ledger.model import HOLDS, TRANSFERS
from bursar.payouts.errors import (
    FinalityWindowOpen,
    NothingToResolve,
    NotRetryable,
    PayoutNotFound,
    SecondPersonRequired,
)
from bursar.payouts.model import FACTS, RESOLUTIONS
from bursar.payouts.operations import ResolvePayout, RetryPayout, Verdict, resolution_shown
from bursar.payouts.store import HistoryLine
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import NotExecuted, Outcome
from bursar.rails.port import EventKind
from tests.engine.wiring import OTHER, SHOP, asked, cancel, create, fund, journal_of
from tests.payouts.story import ACCEPTED, AMOUNT, DECLINED, EXECUTED, FEE, UNKNOWN, Story, told

ANN, BEN, EVE = (Origin(f"per_{name}", f"cor_{name}") for name in ("ann", "ben", "eve"))
BANK = CONTRACTS["bank"]
BUSY = NotExecuted(code="busy", reason="busy", retryable=True, sent=True)


def retry(*, merchant: str = SHOP, name: str = "p", request: Request | None = None) -> RetryPayout:
    """Ann sends `po_<name>` again."""
    return RetryPayout(origin=ANN, request=request, merchant_id=merchant, payout_id=f"po_{name}")


def resolve(
    who: Origin,
    verdict: Verdict = "executed",
    ref: str | None = "bt_1",
    *,
    merchant: str = SHOP,
    evidence: str = "the bank's letter",
    request: Request | None = None,
) -> ResolvePayout:
    """What somebody says became of the payout `p`."""
    return ResolvePayout(
        origin=who,
        request=request,
        merchant_id=merchant,
        payout_id="po_p",
        verdict=verdict,
        provider_ref=ref if verdict == "executed" else None,
        evidence=evidence,
    )


def failed(*, funds: int = 1000) -> Story:
    """The payout `p` was declined a minute ago."""
    story = Story(funds=funds)
    story.sent(DECLINED)
    assert story.state == "failed"
    story.clock.advance(60)
    return story


def unproven() -> Story:
    """Nobody knows what became of `p`, and the provider has forgotten its key."""
    story = Story()
    story.sent(UNKNOWN)
    story.clock.advance(BANK.key_lifetime_s + 60)
    return story


def open_kinds(story: Story) -> set[str]:
    """What asks for a person."""
    return {row.kind for row in story.rows(INCIDENTS) if row.closed_at is None}


def shown(story: Story) -> tuple[object, ...] | None:
    """What the API shows of what people say: state, verdict, and who proposed it."""
    lines = [
        HistoryLine(row.seq, row.kind, row.actor, row.correlation_id, row.at, row.body)
        for row in story.rows(JOURNAL)
        if row.subject_id == "po_p"
    ]
    found = resolution_shown(story.payout(), story.attempts(), lines)
    if found is None:
        return None
    return (found["state"], found["verdict"], found["proposed_by"])


def body(reply: Reply) -> dict[str, Any]:
    """The answer as a document."""
    read: dict[str, Any] = json.loads(reply.body)
    return read


class TestRetry:
    """`failed` or `dead_letter` -> `funds_locked`."""

    def test_a_failed_payout_is_held_anew_and_sent_under_a_new_key(self) -> None:
        """I4, I7: a second hold, a second attempt, and the first stays as it ended."""
        story = failed()
        first = story.hold()
        answer = body(story.do(retry()))
        assert (answer["state"], answer["failure"]) == ("funds_locked", None)
        second = story.hold()
        assert second.id != first.id
        assert (second.state, second.subject_id) == ("active", "po_p")
        held = [row for row in story.rows(TRANSFERS) if row.hold_id == second.id]
        assert {row.recipe for row in held} == {"payout_retried"}
        assert story.free == 1000 - AMOUNT - FEE
        story.sent(EXECUTED, "2")
        assert story.state == "settled"
        assert [row.state for row in story.attempts()] == ["failed", "paid"]
        assert {row.id: row.state for row in story.rows(HOLDS)} == {
            first.id: "voided",
            second.id: "posted",
        }
        story.check()

    def test_retries_and_time_are_given_anew(self) -> None:
        """A dead letter has as many tries as a new payout, and seven days."""
        story = Story(max_retries=0)
        story.sent(BUSY)
        assert story.state == "dead_letter"
        story.clock.advance(60)
        before = story.payout()
        story.do(retry())
        after = story.payout()
        assert (before.retries_burned, after.retries_burned) == (1, 0) or (
            after.retries_burned == 0
        )
        assert after.expires_at > before.expires_at
        assert after.next_attempt_at == story.clock.wall()
        assert after.version == before.version + 1
        story.check()

    def test_an_expired_payout_that_never_left_may_be_sent_again(self) -> None:
        """F35: no attempt, so nothing can be on its way."""
        story = Story()
        story.clock.advance(8 * 86_400)
        story.expire_payout()
        assert story.state == "failed"
        story.do(retry())
        assert story.state == "funds_locked"
        story.check()

    def test_not_while_a_provider_may_still_carry_it_out(self) -> None:
        """F11, F12, I7: until the window of every attempt has closed; it says when."""
        story = Story()
        story.sent(DECLINED)
        with pytest.raises(FinalityWindowOpen) as refused:
            story.do(retry())
        closes_at = refused.value.extra["closes_at"]
        assert isinstance(closes_at, datetime)
        story.clock.advance((closes_at - story.clock.wall()).total_seconds() - 0.001)
        with pytest.raises(FinalityWindowOpen):
            story.do(retry())
        story.clock.advance(0.001)
        story.do(retry())
        assert story.state == "funds_locked"

    def test_not_without_funds(self) -> None:
        """I3: a retry is asked for, so it is refused; nothing is changed."""
        story = failed(funds=AMOUNT + FEE)
        story.do(create("q", 1))
        before = story.payout()
        with pytest.raises(InsufficientFunds):
            story.do(retry())
        assert story.payout() == before
        story.check()

    @pytest.mark.parametrize("state", ["funds_locked", "sending", "sent", "settled", "cancelled"])
    def test_not_in_other_states(self, state: str) -> None:
        """I5: what is under way, paid or taken back is not sent again."""
        story = Story()
        if state == "cancelled":
            story.do(cancel("p"))
        elif state != "funds_locked":
            story.begin()
        if state == "sent":
            story.reply(ACCEPTED)
        if state == "settled":
            story.reply(EXECUTED)
        assert story.state == state
        story.clock.advance(600)
        with pytest.raises(NotRetryable) as refused:
            story.do(retry())
        assert refused.value.extra["state"] == state

    def test_not_after_money_left(self) -> None:
        """F25, I5: paid late, then all came back: the payout is over."""
        story = failed()
        story.hear(told(EventKind.PAID), told(EventKind.RETURNED))
        story.clock.advance(600)
        with pytest.raises(NotRetryable):
            story.do(retry())

    def test_two_in_one_group(self) -> None:
        """F32: one of them gets it."""
        story = failed()
        first, second = story.group(retry(), retry())
        assert isinstance(first, Done)
        assert not isinstance(second, Done)
        assert isinstance(second.error, NotRetryable)
        story.check()

    def test_the_same_request_twice(self) -> None:
        """I10: the second gets the first one's answer."""
        story = failed()
        first = story.do(retry(request=asked("k")))
        second = story.do(retry(request=asked("k")))
        assert (second.body, second.replayed) == (first.body, True)
        assert len(story.rows(HOLDS)) == 2

    def test_another_merchants_payout_is_not_there(self) -> None:
        """F67."""
        story = failed()
        with pytest.raises(PayoutNotFound):
            story.do(retry(merchant=OTHER))
        with pytest.raises(PayoutNotFound):
            story.do(retry(name="nobody"))

    def test_the_old_attempt_turns_out_paid_while_it_waits(self) -> None:
        """F25, I5: the new hold pays for it, and nothing more is sent."""
        story = failed()
        story.do(retry())
        story.hear(told(EventKind.PAID))
        assert story.state == "settled"
        assert story.hold().state == "posted"
        assert story.net == 1000 - AMOUNT - FEE
        story.check()

    def test_a_retried_payout_may_be_cancelled(self) -> None:
        """I4: the new hold is the one that is given back."""
        story = failed()
        story.do(retry())
        story.do(cancel("p"))
        assert story.state == "cancelled"
        assert {row.state for row in story.rows(HOLDS)} == {"voided"}
        assert story.free == 1000
        story.check()


class TestResolve:
    """Two persons are proof where no provider is."""

    def test_two_persons_say_that_it_was_executed(self) -> None:
        """F68, I7: proposed, confirmed, and applied as any outcome is."""
        story = unproven()
        proposal = story.do(resolve(ANN))
        assert proposal.status == 202
        assert body(proposal)["state"] == "proposed"
        assert body(proposal)["amount"] == AMOUNT
        assert story.state == "sending"
        done = story.do(resolve(BEN))
        assert (done.status, body(done)["state"]) == (200, "confirmed")
        assert body(done)["payout_state"] == story.state == "settled"
        (row,) = story.rows(RESOLUTIONS)
        assert (row.proposed_by, row.confirmed_by) == ("per_ann", "per_ben")
        (fact,) = story.rows(FACTS)
        assert (fact.kind, fact.source, fact.provider_ref) == ("paid", "operator", "bt_1")
        assert story.payout().provider_ref == "bt_1"
        story.check()

    def test_two_persons_say_that_it_was_not(self) -> None:
        """The payout fails and its money is free; sending again is another decision."""
        story = unproven()
        story.do(resolve(ANN, "not_executed"))
        story.do(resolve(BEN, "not_executed"))
        assert story.state == "failed"
        assert story.payout().failure_code == "resolved_not_executed"
        assert story.free == 1000
        story.do(retry())
        assert story.state == "funds_locked"
        story.check()

    def test_one_person_is_not_two(self) -> None:
        """F68: persons are compared, not keys or requests."""
        story = unproven()
        story.do(resolve(ANN, request=asked("k1")))
        again = story.do(resolve(ANN, request=asked("k2"), evidence="another letter"))
        assert (again.status, body(again)["code"]) == (409, "second_person_required")
        with pytest.raises(SecondPersonRequired):
            story.do(resolve(Origin("per_ann", "another correlation")))
        assert story.state == "sending"

    @pytest.mark.parametrize(
        ("verdict", "ref"), [("not_executed", None), ("executed", "bt_2"), ("executed", "BT_1")]
    )
    def test_who_says_something_else_begins_anew(self, verdict: Verdict, ref: str | None) -> None:
        """F69: an approval is of what was proposed; another content is another proposal."""
        story = unproven()
        story.do(resolve(ANN))
        assert shown(story) == ("proposed", "executed", "per_ann")
        other = story.do(resolve(BEN, verdict, ref))
        assert shown(story) == ("proposed", verdict, "per_ben")
        assert (other.status, body(other)["proposed_by"]) == (202, "per_ben")
        assert story.state == "sending"
        with pytest.raises(SecondPersonRequired):
            story.do(resolve(BEN, verdict, ref))
        # Ann's word is gone: she must say it again, and it is then a proposal of hers.
        assert story.do(resolve(ANN)).status == 202
        assert story.do(resolve(EVE)).status == 200
        assert story.state == "settled"
        assert shown(story) == ("confirmed", "executed", "per_ann")

    def test_who_proposed_may_change_their_mind(self) -> None:
        """And is still one person."""
        story = unproven()
        story.do(resolve(ANN))
        assert story.do(resolve(ANN, "not_executed")).status == 202
        with pytest.raises(SecondPersonRequired):
            story.do(resolve(ANN, "not_executed"))
        story.do(resolve(BEN, "not_executed"))
        assert story.state == "failed"

    def test_both_in_one_group(self) -> None:
        """F68: the order within a group is an order."""
        story = unproven()
        verdicts = story.group(resolve(ANN), resolve(ANN), resolve(BEN), resolve(EVE))
        kinds = [
            verdict.value.status if isinstance(verdict, Done) else type(verdict.error)
            for verdict in verdicts
        ]
        assert sorted(map(str, kinds)) == sorted(
            map(str, [202, SecondPersonRequired, 200, NothingToResolve])
        )
        story.check()

    @pytest.mark.parametrize("verdict", ["executed", "not_executed"])
    @pytest.mark.parametrize("outcome", [None, UNKNOWN, ACCEPTED])
    def test_no_word_before_window_and_key_are_over(
        self, outcome: Outcome | None, verdict: Verdict
    ) -> None:
        """F11, F13: the provider may still act, and its own answer is better than a word."""
        story = Story()
        story.begin()
        if outcome is not None:
            story.reply(outcome)
        with pytest.raises(FinalityWindowOpen) as refused:
            story.do(resolve(ANN, verdict))
        closes_at = refused.value.extra["closes_at"]
        assert isinstance(closes_at, datetime)
        begun = story.attempt().begun_at
        assert (closes_at - begun).total_seconds() >= BANK.key_lifetime_s
        story.clock.advance((closes_at - story.clock.wall()).total_seconds() - 0.001)
        with pytest.raises(FinalityWindowOpen):
            story.do(resolve(ANN, verdict))
        assert not story.rows(RESOLUTIONS)
        story.clock.advance(0.001)
        assert story.do(resolve(ANN, verdict)).status == 202

    def test_a_late_answer_of_the_provider_still_counts_in_full(self) -> None:
        """F17: nobody can come before it with a reference of their own; its cost is booked."""
        story = Story()
        story.begin()
        for who in (ANN, BEN):
            with pytest.raises(FinalityWindowOpen):
                story.do(resolve(who, ref="wrong"))
        story.reply(EXECUTED)
        assert (story.state, story.payout().provider_cost) == ("settled", EXECUTED.cost_minor)
        assert not story.rows(INCIDENTS)
        story.check()

    def test_only_of_an_open_attempt(self) -> None:
        """I5: what has an end needs no word."""
        waiting = Story()
        for story in (waiting, failed()):
            with pytest.raises(NothingToResolve):
                story.do(resolve(ANN))

    def test_a_proposal_dies_with_its_attempt(self) -> None:
        """F69: it is about one attempt, and the next has another key."""
        story = unproven()
        story.do(resolve(ANN))
        story.record(BUSY)
        story.begin("2")
        story.reply(UNKNOWN, "2")
        assert shown(story) is None
        story.clock.advance(BANK.key_lifetime_s + 60)
        assert story.do(resolve(BEN)).status == 202
        assert story.state == "sending"

    def test_a_frozen_attempt_may_be_sent_again_after_two_persons(self) -> None:
        """F18: another amount was told; they say that nothing left, so a retry is possible."""
        story = Story()
        story.begin()
        story.hear(told(EventKind.PAID, amount=AMOUNT - 1))
        story.clock.advance(BANK.key_lifetime_s + 60)
        story.do(resolve(ANN, "not_executed"))
        story.do(resolve(BEN, "not_executed"))
        assert story.state == "failed"
        story.do(retry())
        story.sent(EXECUTED, "2")
        assert story.state == "settled"
        story.check()

    @pytest.mark.parametrize("verdict", ["executed", "not_executed"])
    def test_another_amount_of_an_attempt_that_failed(self, verdict: Verdict) -> None:
        """F18: the payout waits for people; their word settles it, or lets it go on."""
        story = Story()
        story.sent(BUSY)
        story.hear(told(EventKind.PAID, amount=AMOUNT - 1))
        assert (story.state, story.payout().next_attempt_at) == ("funds_locked", None)
        story.clock.advance(BANK.key_lifetime_s + 60)
        story.do(resolve(ANN, verdict))
        story.do(resolve(BEN, verdict))
        asking = [row for row in story.rows(INCIDENTS) if row.kind == "amount_mismatch"]
        if verdict == "executed":
            assert story.state == "settled"
            assert [row.closed_by for row in asking] == [None]
        else:
            assert [row.closed_by for row in asking] == ["per_ben"]
            assert story.payout().next_attempt_at == story.clock.wall()
            story.sent(EXECUTED, "2")
            assert story.state == "settled"
        with pytest.raises(NothingToResolve):
            story.do(resolve(ANN, verdict))
        story.check()

    def test_what_two_persons_decided_is_not_decided_again(self) -> None:
        """While nothing else is told."""
        story = unproven()
        story.do(resolve(ANN, "not_executed"))
        story.do(resolve(BEN, "not_executed"))
        with pytest.raises(NothingToResolve):
            story.do(resolve(ANN))

    def test_the_journal_names_both_and_their_evidence(self) -> None:
        """I11: who said what, when, on what ground."""
        story = unproven()
        story.do(resolve(ANN, evidence="letter 1"))
        story.do(resolve(BEN, evidence="letter 2"))
        (proposed,) = journal_of(story.rows(JOURNAL), "attempt.resolution_proposed")
        (resolved,) = journal_of(story.rows(JOURNAL), "attempt.resolved")
        assert (proposed.actor, json.loads(proposed.body)["reason"]) == ("per_ann", "letter 1")
        assert (resolved.actor, json.loads(resolved.body)["reason"]) == ("per_ben", "letter 2")
        assert json.loads(resolved.body)["proposed_by"] == "per_ann"

    def test_a_payment_that_comes_to_light_later_is_booked(self) -> None:
        """F25, I8: two persons were wrong; the money left all the same."""
        story = unproven()
        story.do(fund(0 + 1))
        story.do(resolve(ANN, "not_executed"))
        story.do(resolve(BEN, "not_executed"))
        story.hear(told(EventKind.PAID))
        assert story.state == "settled"
        story.check()

    def test_another_merchants_payout_is_not_there(self) -> None:
        """F67."""
        story = unproven()
        with pytest.raises(PayoutNotFound):
            story.do(resolve(ANN, merchant=OTHER))

    def test_refusals_change_nothing(self) -> None:
        """A refused word leaves the proposal as it was."""
        story = unproven()
        story.do(resolve(ANN))
        before = {name: dict(rows) for name, rows in story.memory.tables.items()}
        with pytest.raises(Refusal):
            story.do(resolve(ANN))
        after = {name: dict(rows) for name, rows in story.memory.tables.items()}
        del before["group_commits"], after["group_commits"]
        assert before == after
