"""What one decision writes, where a story's end does not show it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from bursar.engine.model import IDEMPOTENCY_KEYS, JOURNAL, PLATFORM, Command, Reply
from bursar.identity.commands import CreateMerchant
from bursar.incidents.model import INCIDENTS
from bursar.ledger.errors import InsufficientFunds, UnknownAccount
from bursar.ledger.model import HOLDS, TRANSFERS, AccountRole
from bursar.payouts.errors import AlreadyEnded, DuplicateReference, NotDue, PayoutNotFound
from bursar.payouts.inbox import TRIES_MAX
from bursar.payouts.model import FACTS, INBOX, PAYOUTS, PROVIDER_KEYS, REFERENCES
from bursar.rails.outcomes import (
    Accepted,
    Executed,
    StatusExecuted,
    StatusNotFound,
    StatusPending,
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
    apply,
    asked,
    attempt,
    check_books,
    deliver,
    event,
    expire,
    incidents,
    payout,
    receive,
    stored,
    take_over,
)

PAID = Executed(provider_ref="bt", amount_minor=100, currency="EUR", cost_minor=7)


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
        assert isinstance(getattr(second, "error", None), AlreadyEnded)
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
        twin.do(reply("a", PAID, token="ls_stolen"))
        assert (payout(twin), attempt(twin)) == before
        assert not twin.rows(FACTS)
        (late,) = [row for row in twin.rows(JOURNAL) if row.kind == "attempt.late_reply"]
        assert json.loads(late.body)["reply"]["outcome"] == "executed"

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
        """F30: 1, 2, 4 seconds, to a minute; never past the moment when a no is proof."""
        sent(twin)
        twin.do(reply("a", Unknown("timeout"), token="ls_a"))
        pauses = []
        for _ in range(11):
            due = attempt(twin).inquire_at
            assert due is not None
            pauses.append((due - twin.clock.wall()).total_seconds())
            twin.clock.advance(pauses[-1])
            twin.do(asked(twin, "a", StatusUnknown("silent")))
        assert pauses == [1, 1, 2, 1, 8, 16, 32, 60, 60, 60, 60]
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
        """F24: the reply, or an event, was faster."""
        sent(twin)
        answer = StatusExecuted(provider_ref="bt", amount_minor=100, currency="EUR")
        with pytest.raises(NotDue):
            twin.do(asked(twin, "a", answer))
        twin.do(reply("a", PAID, token="ls_a"))
        with pytest.raises(NotDue):
            twin.do(asked(twin, "a", answer))
        assert len(twin.rows(FACTS)) == 1


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


class TestEvents:
    def test_stored_once(self, twin: Twin) -> None:
        """F21: by provider and event id; the second is answered, and changes nothing."""
        said = event("evt_1", "paid")
        assert receive(twin, said) is True
        assert receive(twin, said) is False
        (row,) = twin.rows(INBOX)
        assert (row.result, row.tries, row.next_try_at) == ("", 0, T0)

    def test_applied_once(self, twin: Twin) -> None:
        """F6, F21: whoever comes second is told that it was done."""
        sent(twin)
        said = event("evt_1", "paid", cost=7)
        assert deliver(twin, said) == "applied"
        with pytest.raises(NotDue):
            apply(twin, said)
        assert deliver(twin, event("evt_2", "paid", cost=7)) == "applied"
        assert twin.account(AccountRole.COSTS).balance == 7
        assert len([t for t in twin.rows(TRANSFERS) if t.kind == "post"]) == 1

    def test_a_no_inside_the_window_makes_us_ask(self, twin: Twin) -> None:
        """F12: evidence only; the provider is asked at once."""
        sent(twin)
        twin.do(reply("a", Unknown("timeout"), token="ls_a"))
        assert deliver(twin, event("evt_1", "failed")) == "evidence"
        assert attempt(twin).inquire_at == T0
        assert not twin.rows(FACTS)
        twin.clock.advance(5)
        assert deliver(twin, event("evt_2", "failed")) == "applied"
        assert payout(twin).state == "failed"

    @pytest.mark.parametrize("code", ["MS03", "", "AB05", "XYZ"])
    def test_an_unlisted_code_proves_nothing(self, twin: Twin, code: str) -> None:
        """F14: not even after the window."""
        sent(twin)
        twin.do(reply("a", Unknown("timeout"), token="ls_a"))
        twin.clock.advance(3600)
        assert deliver(twin, event("evt_1", "failed", code=code)) == "evidence"
        assert attempt(twin).state == "unknown"

    def test_another_amount_opens_an_incident(self, twin: Twin) -> None:
        """F18: with the amount that was told, and no settlement."""
        sent(twin)
        assert deliver(twin, event("evt_1", "paid", amount=1000)) == "evidence"
        (incident,) = twin.rows(INCIDENTS)
        assert (incident.kind, incident.subject_id) == ("amount_mismatch", "po_p")
        assert (incident.amount, incident.currency) == (1000, "EUR")
        assert twin.account(AccountRole.AVAILABLE).debits_pending == 100

    def test_an_unknown_key_is_tried_again_then_looked_at(self, twin: Twin) -> None:
        """F24, F27, I23: no payout is touched."""
        sent(twin)
        said = event("evt_1", "paid", key="nobody")
        receive(twin, said)
        before = payout(twin)
        for number in range(1, TRIES_MAX):
            apply(twin, said)
            row = stored(twin, "evt_1")
            assert (row.result, row.tries) == ("", number)
            assert row.next_try_at == twin.clock.wall() + seconds(0.5 * 2 ** (number - 1))
            twin.clock.advance(0.5 * 2 ** (number - 1))
        assert not incidents(twin)
        apply(twin, said)
        assert (stored(twin, "evt_1").result, incidents(twin)) == ("unmatched", ["unmatched_event"])
        assert {row.merchant_id for row in twin.rows(INCIDENTS)} == {PLATFORM}
        assert payout(twin) == before
        with pytest.raises(NotDue):
            apply(twin, said)

    def test_an_event_that_outran_its_attempt_is_applied_in_the_end(self, twin: Twin) -> None:
        """F24: the commit that makes its key known comes after it."""
        twin.do(create("p"))
        said = event("evt_1", "paid")
        receive(twin, said)
        apply(twin, said)
        assert stored(twin, "evt_1").result == ""
        twin.do(begin("p", "a"))
        apply(twin, said)
        assert (stored(twin, "evt_1").result, payout(twin).state) == ("applied", "settled")

    def test_it_reaches_only_the_payout_of_its_key(self, twin: Twin) -> None:
        """F27: another merchant's payout and books stay as they are."""
        twin.do(fund(100, merchant=OTHER))
        twin.do(create("o", 100, merchant=OTHER))
        sent(twin)
        before = payout(twin, "o")
        deliver(twin, event("evt_1", "paid"))
        assert payout(twin, "o") == before
        assert twin.account(AccountRole.AVAILABLE, merchant=OTHER).debits_pending == 100

    def test_a_return_under_a_new_event_id_is_known_by_its_own(self, twin: Twin) -> None:
        """F22, F80: two parts of the same size are told apart by the provider's return id."""
        sent(twin)
        twin.do(reply("a", PAID, token="ls_a"))
        for number, return_id in enumerate(["rt_1", "rt_1", "rt_2", "rt_2"]):
            said = event(f"evt_{number}", "returned", amount=30, return_id=return_id)
            assert deliver(twin, said) == "applied"
        assert payout(twin).amount_returned == 60
        assert twin.account(AccountRole.AVAILABLE).balance == 960

    def test_a_late_paid_takes_what_is_free_and_the_rest_is_owed(self, twin: Twin) -> None:
        """F25, I26: an incident of equal amount; money that comes later repays it first."""
        twin.do(create("p", 700, fee=3))
        twin.do(begin("p", "a"))
        twin.do(reply("a", CLOSED))
        twin.do(create("q", 600))
        deliver(twin, event("evt_1", "paid", amount=700, cost=5))
        row = payout(twin)
        assert (row.state, row.failure_code, row.provider_cost) == ("settled", None, 5)
        assert twin.account(AccountRole.AVAILABLE).free == 0
        assert twin.account(AccountRole.RECEIVABLE).balance == 303
        owed = [i.amount for i in twin.rows(INCIDENTS) if i.kind == "merchant_owes"]
        assert sum(owed) == 303
        twin.do(fund(310))
        assert twin.account(AccountRole.RECEIVABLE).balance == 0
        assert twin.account(AccountRole.AVAILABLE).free == 7
        check_books(twin)

    def test_a_return_repays_what_is_owed_first(self, twin: Twin) -> None:
        """F25, F79: before any of it may be spent."""
        twin.do(create("p", 1000))
        twin.do(begin("p", "a"))
        twin.do(reply("a", CLOSED))
        twin.do(create("q", 900))
        deliver(twin, event("evt_1", "paid", amount=1000))
        deliver(twin, event("evt_2", "returned", amount=950))
        assert twin.account(AccountRole.RECEIVABLE).balance == 0
        assert twin.account(AccountRole.AVAILABLE).free == 50


def test_merchants_are_made_with_all_their_accounts(twin: Twin) -> None:
    """No account is made in passing: the fixture's merchants have theirs from the start."""
    assert isinstance(twin.decided[0], CreateMerchant)
    for role in AccountRole:
        assert twin.account(role, "KWD", OTHER).balance == 0
