"""What an event's decision writes, where a story's end does not show it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bursar.engine.model import JOURNAL, PLATFORM
from bursar.identity.commands import CreateMerchant
from bursar.incidents.model import INCIDENTS
from bursar.ledger.model import TRANSFERS, AccountRole
from bursar.payouts.errors import NotDue
from bursar.payouts.inbox import TRIES_MAX
from bursar.payouts.model import FACTS, INBOX
from bursar.rails.outcomes import Accepted, Executed, StatusRejected, Unknown
from tests.engine.wiring import (
    OTHER,
    SHOP,
    T0,
    Twin,
    begin,
    create,
    fund,
    reply,
)
from tests.payouts.wiring import (
    BANK,
    CLOSED,
    NOT_SENT,
    apply,
    asked,
    attempt,
    check_books,
    deliver,
    event,
    incidents,
    payout,
    receive,
    stored,
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
        assert [fact.item for fact in twin.rows(FACTS)] == ["told:"]
        twin.clock.advance(5)
        assert deliver(twin, event("evt_2", "failed")) == "evidence"
        assert payout(twin).state == "sending"
        twin.do(asked(twin, "a", StatusRejected("AC04", "closed")))
        assert payout(twin).state == "failed"
        assert [fact.item for fact in twin.rows(FACTS)] == ["told:", ""]

    @pytest.mark.parametrize("code", ["MS03", "", "AB05", "XYZ"])
    def test_an_unlisted_code_proves_nothing(self, twin: Twin, code: str) -> None:
        """F14: not even after the window."""
        sent(twin)
        twin.do(reply("a", Unknown("timeout"), token="ls_a"))
        twin.clock.advance(3600)
        assert deliver(twin, event("evt_1", "failed", code=code)) == "evidence"
        assert attempt(twin).state == "unknown"

    def test_a_promise_taken_back_for_our_cause_is_sent_again_after_the_window(
        self, twin: Twin
    ) -> None:
        """F12, F90, I5: what was taken back may still be made good; the answer after it counts."""
        sent(twin)
        twin.do(reply("a", Accepted("bt"), token="ls_a"))
        deliver(twin, event("evt_1", "failed", code="AM04"))
        twin.do(asked(twin, "a", StatusRejected("AM04", "empty")))
        assert (payout(twin).state, attempt(twin).state) == ("sent", "accepted")
        closes = T0 + BANK.request_deadline + BANK.finality_window
        asks_at = attempt(twin).inquire_at
        assert asks_at is not None
        assert asks_at <= closes
        twin.clock.advance(5)
        twin.do(asked(twin, "a", StatusRejected("AM04", "empty")))
        row = payout(twin)
        assert (row.state, row.retries_burned) == ("funds_locked", 0)
        twin.do(begin("p", "b"))

    def test_a_payment_taken_back_by_order_is_a_return(self, twin: Twin) -> None:
        """F26: settled and returned are both in the books, and the journal names the failure."""
        sent(twin)
        deliver(twin, event("evt_1", "paid", cost=7, sequence=2))
        assert deliver(twin, event("evt_2", "failed", sequence=3)) == "applied"
        row = payout(twin)
        assert (row.state, row.amount_returned) == ("returned", 100)
        assert [t.recipe for t in twin.rows(TRANSFERS)][-1] == "payout_returned"
        (entry,) = [e for e in twin.rows(JOURNAL) if e.kind == "payout.returned"]
        assert '"return_id":"failed:3"' in entry.body
        deliver(twin, event("evt_3", "paid", cost=7, sequence=4))
        row = payout(twin)
        assert (row.state, row.amount_returned, row.provider_cost) == ("settled", 0, 7)
        assert attempt(twin).state == "paid"
        check_books(twin)
        assert not incidents(twin)

    def test_paid_after_a_proven_failure_by_order_is_late_and_no_contradiction(
        self, twin: Twin
    ) -> None:
        """F25: people look at it, but there is nothing to ask."""
        sent(twin)
        twin.do(reply("a", Accepted("bt"), token="ls_a"))
        twin.clock.advance(5)
        twin.do(asked(twin, "a", StatusRejected("AC04", "closed", 2)))
        assert payout(twin).state == "failed"
        deliver(twin, event("evt_2", "paid", sequence=3))
        assert (payout(twin).state, incidents(twin)) == ("settled", ["paid_and_failed"])
        assert attempt(twin).inquire_at is None

    def test_a_promise_after_a_denial_is_asked_about_at_once(self, twin: Twin) -> None:
        """F12, F24: the failure was told while the send was under way."""
        sent(twin)
        deliver(twin, event("evt_1", "failed"))
        twin.do(reply("a", Accepted("bt"), token="ls_a"))
        assert (attempt(twin).state, attempt(twin).inquire_at) == ("accepted", T0)

    def test_a_question_about_a_contradiction_stays_asked(self, twin: Twin) -> None:
        """F26: whatever else is told meanwhile, and an answer to an older question is no answer."""
        sent(twin)
        twin.do(reply("a", PAID, token="ls_a"))
        deliver(twin, event("evt_1", "failed"))
        deliver(twin, event("evt_2", "returned", amount=30, return_id="rt_1"))
        with pytest.raises(NotDue):
            twin.do(asked(twin, "a", StatusRejected("AC04", "closed"), count=7))
        assert (attempt(twin).state, attempt(twin).inquire_at) == ("returned", T0)

    def test_a_frozen_attempt_stays_frozen(self, twin: Twin) -> None:
        """F18: whatever the worker says of its send."""
        sent(twin)
        deliver(twin, event("evt_1", "paid", amount=99))
        twin.do(reply("a", Unknown("timeout"), token="ls_a"))
        row = attempt(twin)
        assert (row.state, row.frozen_at) == ("unknown", T0)
        twin.clock.advance(59)
        twin.do(asked(twin, "a", StatusRejected("AC04", "closed")))
        assert attempt(twin).state == "unknown"
        assert incidents(twin) == ["amount_mismatch"]

    def test_of_two_executions_one_came_back(self, twin: Twin) -> None:
        """F25, F79: it was never the merchant's, and the journal says so."""
        sent(twin)
        twin.do(reply("a", NOT_SENT, token="ls_a"))
        twin.do(begin("p", "b"))
        deliver(twin, event("evt_1", "paid", "b"))
        deliver(twin, event("evt_2", "paid", "a"))
        deliver(twin, event("evt_3", "returned", "a", amount=70, return_id="rt_1"))
        deliver(twin, event("evt_4", "returned", "b", amount=70, return_id="rt_1"))
        back = [e.kind for e in twin.rows(JOURNAL) if "return_id" in e.body]
        assert back == ["payout.again_returned", "payout.part_returned"]
        assert payout(twin).amount_returned == 40

    def test_a_late_payment_after_all_came_back(self, twin: Twin) -> None:
        """F25, F79: a returned payout is settled again, by the other attempt."""
        sent(twin)
        twin.do(reply("a", NOT_SENT, token="ls_a"))
        twin.do(begin("p", "b"))
        deliver(twin, event("evt_1", "paid", "b"))
        deliver(twin, event("evt_2", "returned", "b"))
        assert payout(twin).state == "returned"
        deliver(twin, event("evt_3", "paid", "a"))
        row = payout(twin)
        assert (row.state, row.amount_returned) == ("settled", 0)
        deliver(twin, event("evt_4", "returned", "a", amount=40, return_id="rt_a"))
        assert payout(twin).amount_returned == 40
        assert twin.account(AccountRole.AVAILABLE).balance == 940
        check_books(twin)

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
        (owed,) = [i for i in twin.rows(INCIDENTS) if i.kind == "merchant_owes"]
        assert (owed.amount, owed.closed_at) == (303, None)
        twin.do(fund(3))
        (owed,) = [i for i in twin.rows(INCIDENTS) if i.kind == "merchant_owes"]
        assert (owed.amount, owed.closed_at) == (300, None)
        twin.do(fund(307))
        (owed,) = [i for i in twin.rows(INCIDENTS) if i.kind == "merchant_owes"]
        assert owed.closed_at == twin.clock.wall()
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
