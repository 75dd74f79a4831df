"""What one decision writes, where a story's end does not show it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from bursar.engine.model import IDEMPOTENCY_KEYS, JOURNAL, Command, Reply
from bursar.ledger.errors import InsufficientFunds, UnknownAccount
from bursar.ledger.model import HOLDS, TRANSFERS, AccountRole
from bursar.payouts.errors import AlreadyDispatched, DuplicateReference, NotDue, PayoutNotFound
from bursar.payouts.model import FACTS, PAYOUTS, PROVIDER_KEYS, REFERENCES
from bursar.rails.outcomes import (
    Accepted,
    Executed,
    Inquiry,
    StatusExecuted,
    StatusNotFound,
    StatusPending,
    StatusRejected,
    StatusReturned,
    StatusUnknown,
    Unknown,
)
from tests.engine.wiring import (
    OTHER,
    SHOP,
    T0,
    Twin,
    begin,
    cancel,
    create,
    fund,
    new_merchant,
    reply,
)
from tests.engine.wiring import asked as request
from tests.payouts.wiring import (
    BUSY,
    CLOSED,
    NOT_SENT,
    asked,
    attempt,
    check_books,
    deliver,
    event,
    expire,
    incidents,
    payout,
    take_over,
)

PAID = Executed(provider_ref="bt", amount_minor=100, currency="EUR", cost_minor=7)
TRUTH = StatusExecuted(provider_ref="bt", amount_minor=100, currency="EUR", cost_minor=7)


@pytest.fixture
def twin() -> Twin:
    """Two merchants; the shop has 1000."""
    made = Twin(merchants=(SHOP, OTHER))
    made.do(fund(1000))
    return made


def seconds(count: float) -> timedelta:
    """So many seconds."""
    return timedelta(seconds=count)


def sent(twin: Twin, *, due_in: float = 0) -> None:
    """The payout p with attempt a under way."""
    twin.do(create("p", due_at=T0 + seconds(due_in)))
    twin.do(begin("p", "a", token="ls_a"))


class TestCreate:
    def test_state_hold_reference_and_reply_are_one(self, twin: Twin) -> None:
        """F1: all of it commits together, and the reply is the payout."""
        answer: Any = twin.do(create("p", 100, fee=2, request=request("k")))
        body = json.loads(answer.body)
        assert (answer.status, answer.resource_id) == (201, "po_p")
        assert (body["state"], body["amount"], body["fee"]) == ("funds_locked", 100, 2)
        assert body["expires_at"] == "2026-04-03T09:00:00Z"
        (hold,) = twin.rows(HOLDS)
        assert (hold.subject_id, hold.state) == ("po_p", "active")
        assert twin.account(AccountRole.AVAILABLE).debits_pending == 102
        assert [row.payout_id for row in twin.rows(REFERENCES)] == ["po_p"]

    @pytest.mark.parametrize("ended", [False, True])
    def test_a_reference_is_taken_for_ever(self, twin: Twin, *, ended: bool) -> None:
        """F43, I9: whatever became of its payout."""
        twin.do(create("p", reference="INV-1"))
        if ended:
            twin.do(cancel("p"))
        with pytest.raises(DuplicateReference) as refused:
            twin.do(create("q", reference="INV-1"))
        assert refused.value.extra["payout_id"] == "po_p"
        assert refused.value.pointer == "/reference"
        assert len(twin.rows(PAYOUTS)) == 1

    def test_another_merchants_reference_is_another(self, twin: Twin) -> None:
        """F42: references belong to their merchant."""
        twin.do(fund(100, merchant=OTHER))
        twin.do(create("p", reference="INV-1"))
        twin.do(create("q", reference="INV-1", merchant=OTHER))
        assert len(twin.rows(PAYOUTS)) == 2

    def test_too_little_money_stores_nothing_but_the_reply(self, twin: Twin) -> None:
        """F37, I3: and the reference is free again."""
        before = dict(twin.memory.tables)
        answer: Any = twin.do(create("p", 999, fee=2, reference="INV-1", request=request("k")))
        assert (answer.status, json.loads(answer.body)["code"]) == (422, "insufficient_funds")
        after = twin.memory.tables
        changed = {name for name in after if after[name] != before.get(name, {})}
        assert changed == {"idempotency_keys", "group_commits"}
        assert [row.outcome for row in twin.rows(IDEMPOTENCY_KEYS)] == ["refused"]
        made: Reply = twin.do(create("q", 998, fee=2, reference="INV-1"))
        assert made.status == 201

    def test_the_same_without_a_request(self, twin: Twin) -> None:
        """F37: the refusal is raised."""
        with pytest.raises(InsufficientFunds):
            twin.do(create("p", 1001))
        assert not twin.rows(PAYOUTS)
        assert not twin.rows(REFERENCES)

    def test_money_that_is_held_can_not_be_promised_again(self, twin: Twin) -> None:
        """F37, I3: two in one group, and the one after."""
        first, second = twin.group(create("p", 600), create("q", 600))
        assert [type(first).__name__, type(second).__name__] == ["Done", "Failed"]
        with pytest.raises(InsufficientFunds):
            twin.do(create("r", 401))
        twin.do(create("s", 400))
        check_books(twin)

    def test_a_currency_without_an_account(self) -> None:
        """F72: the merchant was made with euros only."""
        euros = Twin(merchants=())
        euros.do(new_merchant(SHOP, "EUR"))
        with pytest.raises(UnknownAccount):
            euros.do(create("p", 1, "JPY"))

    def test_due_later_is_not_due_now(self, twin: Twin) -> None:
        """It may be begun from its time on, and expires a retry budget after it."""
        due = T0 + seconds(3600)
        twin.do(create("p", due_at=due))
        row = payout(twin)
        assert (row.state, row.next_attempt_at) == ("funds_locked", due)
        assert row.expires_at == due + timedelta(days=7)
        twin.clock.advance(3599)
        with pytest.raises(NotDue):
            twin.do(begin("p", "a"))
        twin.clock.advance(1)
        twin.do(begin("p", "a"))

    def test_due_within_a_year_by_the_databases_clock(self, twin: Twin) -> None:
        """F39: the last moment counts; a moment later is refused, and the refusal is stored."""
        last = T0 + timedelta(days=365)
        twin.do(create("p", due_at=last))
        late = create("q", due_at=last + timedelta(microseconds=1), request=request("k"))
        for _ in range(2):
            refused: Any = twin.do(late)
            problem = json.loads(refused.body)
            assert (refused.status, problem["code"]) == (422, "invalid_field")
            assert problem["pointer"] == "/due_at"
            twin.clock.advance(60)

    def test_due_in_the_past_is_due_now(self, twin: Twin) -> None:
        """F39: time is that of the database."""
        twin.do(create("p", due_at=T0 - seconds(3600)))
        assert payout(twin).due_at == T0


class TestCancel:
    def test_it_gives_the_hold_back_and_tells_why(self, twin: Twin) -> None:
        """I4: cancelled and voided are one."""
        twin.do(create("p", 100, fee=2))
        answer: Any = twin.do(cancel("p", request=request("k")))
        body = json.loads(answer.body)
        assert (answer.status, body["state"]) == (200, "cancelled")
        assert body["failure"]["code"] == "cancelled"
        assert [hold.state for hold in twin.rows(HOLDS)] == ["voided"]
        assert twin.account(AccountRole.AVAILABLE).free == 1000

    @pytest.mark.parametrize("name", ["p", "nowhere"])
    def test_another_merchants_is_not_found(self, twin: Twin, name: str) -> None:
        """F67: the answer does not tell whether it exists."""
        twin.do(create("p"))
        with pytest.raises(PayoutNotFound, match=r"^There is no such payout\.$") as refused:
            twin.do(cancel(name, merchant=OTHER))
        assert refused.value.status == 404
        assert not refused.value.extra
        assert payout(twin).state == "funds_locked"

    def test_twice_in_one_group(self, twin: Twin) -> None:
        """F34: the first wins, the second is told."""
        twin.do(create("p"))
        first, second = twin.group(cancel("p"), cancel("p"))
        assert type(first).__name__ == "Done"
        assert isinstance(getattr(second, "error", None), AlreadyDispatched)
        assert len([t for t in twin.rows(TRANSFERS) if t.kind == "void"]) == 1

    @pytest.mark.parametrize("cancel_first", [True, False])
    def test_against_dispatch_in_one_group(self, twin: Twin, *, cancel_first: bool) -> None:
        """F34: one of them wins; never cancelled with an attempt that left."""
        twin.do(create("p"))
        pair: list[Command[Any]] = [cancel("p"), begin("p", "a")]
        if not cancel_first:
            pair.reverse()
        verdicts = twin.group(*pair)
        assert [type(verdict).__name__ for verdict in verdicts] == ["Done", "Failed"]
        assert payout(twin).state == ("cancelled" if cancel_first else "sending")


class TestBegin:
    def test_it_is_written_before_anything_is_sent(self, twin: Twin) -> None:
        """F3: attempt, lease, provider's key and state, in one commit."""
        twin.do(create("p", 100, fee=2))
        begun: Any = twin.do(begin("p", "a", token="ls_a", lease_s=5))
        row = attempt(twin)
        assert (row.state, row.number, row.amount, row.lease_token) == ("sending", 1, 100, "ls_a")
        assert row.lease_until == T0 + seconds(5)
        assert begun.instruction.key == "a"
        assert (begun.instruction.amount_minor, begun.instruction.currency) == (100, "EUR")
        assert begun.correlation_id == "cor_1"
        (key,) = twin.rows(PROVIDER_KEYS)
        assert (key.provider, key.key, key.attempt_id) == ("bank", "a", "pa_a")
        assert (payout(twin).state, payout(twin).next_attempt_at) == ("sending", None)

    def test_two_workers_in_one_group(self, twin: Twin) -> None:
        """F32, I6: one attempt."""
        twin.do(create("p"))
        first, second = twin.group(begin("p", "a"), begin("p", "b"))
        assert type(first).__name__ == "Done"
        assert isinstance(getattr(second, "error", None), NotDue)

    def test_a_payout_that_is_not_there(self, twin: Twin) -> None:
        """A worker's stale candidate."""
        with pytest.raises(NotDue):
            twin.do(begin("nowhere", "a"))

    def test_back_off_is_kept(self, twin: Twin) -> None:
        """F30: not before the pause has passed."""
        sent(twin)
        twin.do(reply("a", NOT_SENT, token="ls_a", retry_s=30))
        assert payout(twin).next_attempt_at == T0 + seconds(30)
        twin.clock.advance(29.9)
        with pytest.raises(NotDue):
            twin.do(begin("p", "b"))
        twin.clock.advance(0.1)
        twin.do(begin("p", "b"))
        assert (payout(twin).attempt_count, attempt(twin, "b").number) == (2, 2)


class TestReply:
    def test_executed_posts_the_hold_and_the_providers_charge(self, twin: Twin) -> None:
        """The charge is ours, never taken from the hold."""
        twin.do(create("p", 100, fee=2))
        twin.do(begin("p", "a"))
        twin.do(reply("a", PAID))
        row = payout(twin)
        assert (row.state, row.provider_cost, row.provider_ref) == ("settled", 7, "bt")
        assert row.settled_at == T0
        assert twin.account(AccountRole.AVAILABLE).balance == 898
        assert twin.account(AccountRole.FEES).balance == 2
        assert twin.account(AccountRole.COSTS).balance == 7
        assert twin.account(AccountRole.PROVIDER_CLEARING).balance == 107
        assert [hold.state for hold in twin.rows(HOLDS)] == ["posted"]

    def test_accepted_is_asked_about_if_no_event_comes(self, twin: Twin) -> None:
        """F29: after five seconds."""
        sent(twin)
        twin.do(reply("a", Accepted("bt"), token="ls_a"))
        assert (payout(twin).state, payout(twin).provider_ref) == ("sent", "bt")
        assert attempt(twin).inquire_at == T0 + seconds(5)

    def test_unknown_keeps_the_hold_and_is_asked_about(self, twin: Twin) -> None:
        """F9, F16: never a second attempt."""
        sent(twin)
        twin.clock.advance(2)
        twin.do(reply("a", Unknown("timeout"), token="ls_a"))
        row = attempt(twin)
        assert (row.state, row.reason, row.inquiries) == ("unknown", "timeout", 0)
        assert row.ambiguous_at == row.lease_until == T0 + seconds(2)
        assert row.inquire_at == T0 + seconds(3)
        assert [hold.state for hold in twin.rows(HOLDS)] == ["active"]

    @pytest.mark.parametrize("burned", [0, 1, 2])
    def test_retries_are_counted(self, twin: Twin, burned: int) -> None:
        """F30: `max_retries` more sends after the first, then the dead letters."""
        twin.do(create("p", max_retries=burned))
        for number in range(burned + 1):
            assert payout(twin).state == "funds_locked"
            assert payout(twin).retries_burned == number
            twin.do(begin("p", f"a{number}"))
            twin.do(reply(f"a{number}", BUSY))
        row = payout(twin)
        assert (row.state, row.failure_code, row.next_attempt_at) == (
            "dead_letter",
            "busy",
            None,
        )
        assert [hold.state for hold in twin.rows(HOLDS)] == ["voided"]

    def test_a_wrong_token_is_evidence_only(self, twin: Twin) -> None:
        """F33: noted in the journal, moves nothing."""
        sent(twin)
        before = (payout(twin), attempt(twin))
        for said in (CLOSED, NOT_SENT, Unknown("timeout")):
            twin.do(reply("a", said, token="ls_stolen"))
        assert (payout(twin), attempt(twin)) == before
        assert not twin.rows(FACTS)
        late = [row for row in twin.rows(JOURNAL) if row.kind == "attempt.late_reply"]
        assert [json.loads(row.body)["reply"]["outcome"] for row in late] == [
            "not_executed",
            "not_executed",
            "unknown",
        ]

    def test_that_money_left_counts_whoever_brings_it(self, twin: Twin) -> None:
        """F25, F33: a zombie's yes is as good as any other; the lease of the living goes on."""
        sent(twin)
        lease_until = attempt(twin).lease_until
        twin.do(reply("a", PAID, token="ls_stolen"))
        assert (payout(twin).state, attempt(twin).state) == ("settled", "paid")
        assert attempt(twin).lease_until == lease_until
        twin.do(reply("a", PAID, token="ls_a"))
        assert len(twin.rows(FACTS)) == 1

    def test_a_zombies_no_does_not_count_after_its_successor_began(self, twin: Twin) -> None:
        """F33: the second attempt goes on."""
        sent(twin)
        twin.clock.advance(5)
        twin.do(take_over())
        twin.clock.advance(5)
        twin.do(asked(twin, "a", StatusNotFound()))
        twin.do(begin("p", "b", token="ls_b"))
        twin.do(reply("a", CLOSED, token="ls_a"))
        assert (payout(twin).state, attempt(twin, "b").state) == ("sending", "sending")


class TestInquiry:
    def test_a_stale_question_is_dropped(self, twin: Twin) -> None:
        """F13: an older answer does not speak after a newer one."""
        sent(twin)
        twin.do(reply("a", Unknown("timeout"), token="ls_a"))
        twin.do(asked(twin, "a", StatusUnknown("silent")))
        assert attempt(twin).inquiries == 1
        with pytest.raises(NotDue):
            twin.do(asked(twin, "a", StatusNotFound(), count=0))

    def test_the_pause_doubles(self, twin: Twin) -> None:
        """F30: 1, 2, 4 seconds, to a minute; never past a moment that makes a difference.

        A no is proof 5 s after the reply, and people are called a minute after the first send.
        """
        sent(twin)
        twin.do(reply("a", Unknown("timeout"), token="ls_a"))
        pauses = []
        for _ in range(11):
            due = attempt(twin).inquire_at
            assert due is not None
            pauses.append((due - twin.clock.wall()).total_seconds())
            twin.clock.advance(pauses[-1])
            twin.do(asked(twin, "a", StatusUnknown("silent")))
        assert pauses == [1, 1, 2, 1, 8, 16, 31, 60, 60, 60, 60]
        assert attempt(twin).state == "unknown"

    def test_not_found_after_the_window_is_sent_again(self, twin: Twin) -> None:
        """F10, I7: the proof has its time."""
        sent(twin)
        twin.do(reply("a", Unknown("timeout"), token="ls_a"))
        twin.clock.advance(5)
        twin.do(asked(twin, "a", StatusNotFound()))
        row = payout(twin)
        assert (row.state, row.next_attempt_at) == ("funds_locked", T0 + seconds(5))
        assert (attempt(twin).proof_at, attempt(twin).code) == (T0 + seconds(5), "not_found")

    def test_a_promise_is_asked_about_again(self, twin: Twin) -> None:
        """F29: it stays `sent`, however long."""
        sent(twin)
        twin.do(reply("a", Accepted("bt"), token="ls_a"))
        for _ in range(4):
            twin.do(asked(twin, "a", StatusPending("bt")))
        assert attempt(twin).inquire_at == T0 + seconds(8)
        twin.do(asked(twin, "a", StatusNotFound()))
        assert (payout(twin).state, attempt(twin).state) == ("sent", "accepted")
        assert [fact.kind for fact in twin.rows(FACTS)] == ["accepted"]

    def test_unknown_becomes_a_promise(self, twin: Twin) -> None:
        """F9: the provider has it."""
        sent(twin)
        twin.do(reply("a", Unknown("timeout"), token="ls_a"))
        twin.do(asked(twin, "a", StatusPending("bt")))
        assert (payout(twin).state, attempt(twin).state) == ("sent", "accepted")

    def test_no_question_about_an_ended_or_a_running_attempt(self, twin: Twin) -> None:
        """F24: the reply, or an event, was faster; what it had told is known."""
        sent(twin)
        with pytest.raises(NotDue):
            twin.do(asked(twin, "a", StatusPending("bt")))
        twin.do(reply("a", PAID, token="ls_a"))
        with pytest.raises(NotDue):
            twin.do(asked(twin, "a", TRUTH))
        assert len(twin.rows(FACTS)) == 1

    @pytest.mark.parametrize("running", [True, False])
    def test_that_money_left_counts_however_late_it_is_told(
        self, twin: Twin, *, running: bool
    ) -> None:
        """F25: also if the answer was outrun by another one, or nobody waits for it any more."""
        sent(twin)
        if not running:
            twin.do(reply("a", CLOSED, token="ls_a"))
        twin.do(asked(twin, "a", TRUTH, count=7))
        assert (payout(twin).state, attempt(twin).state) == ("settled", "paid")

    @pytest.mark.parametrize("silence", [StatusUnknown("http_503"), StatusRejected("AC04", "no")])
    def test_a_contradiction_is_asked_about_until_it_is_answered(
        self, twin: Twin, silence: Inquiry
    ) -> None:
        """F26: at once, although the attempt has ended; then people look at what was said."""
        sent(twin)
        twin.do(reply("a", PAID, token="ls_a"))
        assert attempt(twin).inquire_at is None
        deliver(twin, event("evt_1", "failed"))
        assert (attempt(twin).inquire_at, incidents(twin)) == (T0, ["paid_and_failed"])
        twin.do(asked(twin, "a", silence))
        assert attempt(twin).inquire_at == T0 + seconds(1)
        twin.clock.advance(5)
        twin.do(asked(twin, "a", StatusRejected("AC04", "closed")))
        assert (attempt(twin).inquire_at, attempt(twin).state) == (None, "paid")
        (noted,) = [row for row in twin.rows(JOURNAL) if '"answer"' in row.body]
        assert noted.kind == "attempt.evidence"
        with pytest.raises(NotDue):
            twin.do(asked(twin, "a", StatusNotFound()))
        deliver(twin, event("evt_2", "failed"))
        assert (attempt(twin).inquire_at, incidents(twin)) == (None, ["paid_and_failed"])

    @pytest.mark.parametrize("return_id", ["rt_1", None])
    def test_what_came_back_is_booked_whoever_tells_it(
        self, twin: Twin, return_id: str | None
    ) -> None:
        """F29, F79, F80: an inquiry's return and the webhook's are one."""
        sent(twin)
        twin.do(reply("a", Unknown("timeout"), token="ls_a"))
        back = StatusReturned(
            provider_ref="bt",
            amount_minor=100,
            currency="EUR",
            returned_minor=100,
            code="AC06",
            reason="blocked",
            cost_minor=7,
            return_id=return_id,
        )
        twin.do(asked(twin, "a", back))
        with pytest.raises(NotDue):
            twin.do(asked(twin, "a", back))
        deliver(twin, event("evt_1", "paid", cost=7))
        deliver(twin, event("evt_2", "returned", return_id="rt_1"))
        row = payout(twin)
        assert (row.state, row.amount_returned, row.provider_cost) == ("returned", 100, 7)
        assert twin.account(AccountRole.COSTS).balance == 7
        assert not incidents(twin)


class TestExpiry:
    def test_a_lease_is_taken_over(self, twin: Twin) -> None:
        """F4: unknown from the lease's end, even if nothing was ever sent."""
        sent(twin)
        twin.clock.advance(60)
        twin.do(take_over())
        row = attempt(twin)
        assert (row.state, row.reason) == ("unknown", "lease_expired")
        assert row.ambiguous_at == row.lease_until == T0 + seconds(5)

    def test_the_hold_expires_with_the_payout(self, twin: Twin) -> None:
        """F35: by a command of payouts only."""
        twin.do(create("p"))
        twin.clock.advance(7 * 86400)
        twin.do(expire())
        row = payout(twin)
        assert (row.state, row.failure_code) == ("failed", "hold_expired")
        assert [hold.state for hold in twin.rows(HOLDS)] == ["expired"]

    @pytest.mark.parametrize("after", ["cancelled", "settled"])
    def test_an_ended_payout_does_not_expire(self, twin: Twin, after: str) -> None:
        """F35: its hold has ended already."""
        sent(twin)
        twin.do(reply("a", NOT_SENT if after == "cancelled" else PAID, token="ls_a"))
        if after == "cancelled":
            twin.do(cancel("p"))
        twin.clock.advance(8 * 86400)
        with pytest.raises(NotDue):
            twin.do(expire())
        assert payout(twin).state == after
