"""Sending again under the same key: when, by whom, and what its answer proves."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

import msgspec
import pytest

from bursar.engine.model import JOURNAL
from bursar.kit.ids import SystemIds, SystemRandomness
from bursar.ledger.model import AccountRole
from bursar.payouts.attempts import BeginAttempt, Begun, Choice, RecordInquiry, ResendAttempt
from bursar.payouts.errors import NotDue
from bursar.payouts.inbox import ApplyEvent, ReceiveEvent
from bursar.payouts.jobs import LEASE_MARGIN_S, Jobs, resend, send
from bursar.payouts.model import ATTEMPTS, Attempt
from bursar.payouts.store import PostgresReads
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import Accepted, Executed, NotExecuted, Outcome, Unknown
from bursar.rails.port import EventKind, PayoutInstruction, ProviderEvent
from tests.conftest import Database
from tests.engine.stores import open_shop, postgres_place
from tests.engine.wiring import ORIGIN, T0, Twin, begin, create, fund, reply
from tests.payouts.jobdesk import ScriptedRail, jobs_over
from tests.payouts.wiring import check_books, check_payouts, incidents, payout, take_over

OFFRAMP = CONTRACTS["offramp"]
LEASE_S = 5.0
AMOUNT = 1_000_000
SILENCE = Unknown("deadline_exceeded")
CLOSED = NotExecuted(code="account_closed", reason="closed", retryable=False, sent=True)
SHORT = NotExecuted(code="float_insufficient", reason="", retryable=True, ours=True, sent=True)
NO_BYTE = NotExecuted(code="not_sent", reason="refused", retryable=True, sent=False)
PAID = Executed(provider_ref="op_1", amount_minor=AMOUNT, currency="USDC", cost_minor=10_000)


def begin_ramp(name: str, attempt: str, *, token: str = "ls_1") -> BeginAttempt:
    """Begin `pa_<attempt>` at the off-ramp."""
    lease = timedelta(seconds=LEASE_S)
    return BeginAttempt(
        origin=ORIGIN,
        payout_id=f"po_{name}",
        attempt_id=f"pa_{attempt}",
        choices=(Choice("offramp", attempt, lease, frozenset({"USDC"})),),
        lease_token=token,
    )


def again(attempt: str = "a", *, token: str = "ls_2", lease_s: float = LEASE_S) -> ResendAttempt:
    """Send `pa_<attempt>` again."""
    return ResendAttempt(
        origin=ORIGIN,
        attempt_id=f"pa_{attempt}",
        lease_token=token,
        lease=timedelta(seconds=lease_s),
    )


def attempt(twin: Twin, name: str = "a") -> Attempt:
    """The attempt as it stands."""
    found: Attempt = twin.memory.tables[ATTEMPTS.name][f"pa_{name}"]
    return found


def after(seconds: float) -> datetime:
    """So long after the start."""
    return T0 + timedelta(seconds=seconds)


def at(twin: Twin, seconds: float) -> None:
    """Move on to so long after the start."""
    twin.clock.advance(seconds - twin.clock.monotonic())


def tell(twin: Twin, event_id: str, kind: EventKind, key: str = "a", **said: Any) -> None:
    """The off-ramp tells by webhook."""
    told = ProviderEvent(
        event_id=event_id,
        kind=kind,
        provider_key=key,
        provider_ref="op_1",
        amount_minor=said.get("amount", AMOUNT),
        currency="USDC",
        cost_minor=10_000,
        code=said.get("code"),
        reason=None,
        return_id=None,
        sequence=said.get("sequence"),
    )
    twin.do(ReceiveEvent(origin=ORIGIN, provider="offramp", event_id=event_id, body="{}"))
    twin.do(ApplyEvent(origin=ORIGIN, provider="offramp", event=told, retry_delay=timedelta(0)))


@pytest.fixture
def twin() -> Twin:
    """The payout p with attempt a at the off-ramp, begun at the start, and no answer to it."""
    made = Twin()
    made.do(fund(10 * AMOUNT, "USDC"))
    made.do(create("p", AMOUNT, "USDC", max_retries=3))
    made.do(begin_ramp("p", "a"))
    made.do(reply("a", SILENCE))
    return made


class TestWhen:
    def test_not_before_its_time(self, twin: Twin) -> None:
        """F19: the contract's pause after the first send."""
        assert attempt(twin).resend_at == after(1)
        at(twin, 0.999)
        with pytest.raises(NotDue):
            twin.do(again())
        at(twin, 1)
        assert twin.do(again()) is not None

    def test_it_is_one_more_send_under_a_lease_of_its_own(self, twin: Twin) -> None:
        """F33: the attempt is being sent; the payout does not move, and the key is the same."""
        at(twin, 1)
        before = payout(twin)
        begun = twin.do(again())
        assert isinstance(begun, Begun)
        now = attempt(twin)
        assert begun.attempt == now
        assert (now.state, now.sends, now.resend_at) == ("sending", 2, None)
        assert (now.lease_token, now.lease_until) == ("ls_2", after(1 + LEASE_S))
        assert begun.instruction == PayoutInstruction(
            key="a",
            amount_minor=AMOUNT,
            currency="USDC",
            creditor_name="Zoë Bell",
            creditor_iban="DE89370400440532013000",
            remittance="p",
        )
        assert not begun.first_send
        assert payout(twin) == before
        (entry,) = [row for row in twin.rows(JOURNAL) if row.kind == "attempt.resent"]
        assert entry.subject_id == "po_p"
        check_payouts(twin)

    def test_pauses_double(self, twin: Twin) -> None:
        """F19: 1, 2, 4, 8 and 16 s after each send without an answer."""
        pauses = []
        for send_number in range(2, 7):
            due = attempt(twin).resend_at
            assert due is not None
            pauses.append((due - twin.clock.wall()).total_seconds())
            twin.clock.advance(pauses[-1])
            twin.do(again(token=f"ls_{send_number}"))
            twin.do(reply("a", SILENCE, token=f"ls_{send_number}"))
        assert pauses == [1, 2, 4, 8, 16]
        assert attempt(twin).sends == 6

    def test_a_worker_that_died_leaves_it_to_the_next(self, twin: Twin) -> None:
        """F4: a lease that ran out is an unknown send, so it is due again."""
        at(twin, 1)
        twin.do(again())
        at(twin, 1 + LEASE_S)
        twin.do(take_over())
        now = attempt(twin)
        assert (now.state, now.ambiguous_at) == ("unknown", after(1 + LEASE_S))
        assert now.resend_at == after(1 + LEASE_S + 2)

    def test_two_workers_send_once(self, twin: Twin) -> None:
        """F33: the second is told that it is not due."""
        at(twin, 1)
        first, second = twin.group(again(token="ls_2"), again(token="ls_3"))
        assert type(first).__name__ == "Done"
        assert type(second).__name__ == "Failed"
        assert attempt(twin).sends == 2

    @pytest.mark.parametrize(
        "outcome", [Accepted("op_1"), PAID], ids=lambda outcome: type(outcome).__name__
    )
    def test_never_once_it_is_answered(self, outcome: Outcome) -> None:
        """F10: a promise is awaited or asked about, and what is over is over."""
        twin = Twin()
        twin.do(fund(10 * AMOUNT, "USDC"))
        twin.do(create("p", AMOUNT, "USDC"))
        twin.do(begin_ramp("p", "a"))
        with pytest.raises(NotDue):
            twin.do(again())
        twin.do(reply("a", outcome))
        at(twin, 60)
        with pytest.raises(NotDue):
            twin.do(again())
        assert attempt(twin).sends == 1

    def test_an_answer_in_between_ends_it(self, twin: Twin) -> None:
        """F23: the webhook came first."""
        tell(twin, "evt_1", EventKind.ACCEPTED)
        assert attempt(twin).resend_at is None
        at(twin, 1)
        with pytest.raises(NotDue):
            twin.do(again())

    def test_a_bank_that_does_not_resend(self) -> None:
        """Its inquiry proves absence, so nothing need be risked."""
        twin = Twin()
        twin.do(fund(100))
        twin.do(create("p"))
        twin.do(begin("p", "a"))
        twin.do(reply("a", SILENCE))
        assert attempt(twin).resend_at is None


class TestNeverAgain:
    @pytest.mark.parametrize("how", ["reply", "webhook"])
    def test_a_frozen_attempt(self, how: str) -> None:
        """F18: of an unknown amount, sending again could only add to it."""
        twin = Twin()
        twin.do(fund(10 * AMOUNT, "USDC"))
        twin.do(create("p", AMOUNT, "USDC"))
        twin.do(begin_ramp("p", "a"))
        if how == "reply":
            twin.do(reply("a", Unknown("amount_mismatch", AMOUNT - 1, "USDC")))
        else:
            twin.do(reply("a", SILENCE))
            tell(twin, "evt_1", EventKind.PAID, amount=AMOUNT + 1)
        assert "amount_mismatch" in incidents(twin)
        at(twin, 60)
        with pytest.raises(NotDue):
            twin.do(again())
        assert (attempt(twin).state, attempt(twin).sends) == ("unknown", 1)
        assert attempt(twin).resend_at is None

    def test_a_frozen_attempt_that_was_left_due(self, twin: Twin) -> None:
        """F18: the decision does not rely on whoever froze it."""
        rows = twin.memory.tables[ATTEMPTS.name]
        rows["pa_a"] = msgspec.structs.replace(attempt(twin), frozen_at=T0)
        at(twin, 1)
        assert twin.do(again()) is None
        assert (attempt(twin).sends, attempt(twin).resend_at) == (1, None)

    @pytest.mark.parametrize(
        ("seconds", "sent"), [(112.999, True), (113, False), (119, False), (500, False)]
    )
    def test_only_while_the_key_is_sure_to_be_known(
        self, twin: Twin, seconds: float, *, sent: bool
    ) -> None:
        """F19: 120 s from the begin, less the lease (5 s) and the deadline (2 s)."""
        at(twin, seconds)
        assert (twin.do(again()) is not None) == sent
        if not sent:
            assert (attempt(twin).state, attempt(twin).resend_at) == ("unknown", None)
            with pytest.raises(NotDue):
                twin.do(again())

    @pytest.mark.parametrize("amount", [AMOUNT, AMOUNT - 1])
    def test_a_payout_that_another_attempt_has_paid(self, twin: Twin, amount: int) -> None:
        """F18, F25, I5: were the first send lost, the second would pay once more.

        So it would if the other attempt paid another amount.
        """
        at(twin, 8)
        twin.do(again())
        twin.do(reply("a", SHORT, token="ls_2"))
        assert attempt(twin).state == "failed"
        twin.do(begin_ramp("p", "b", token="ls_3"))
        twin.do(reply("b", SILENCE, token="ls_3"))
        assert attempt(twin, "b").resend_at == after(9)
        tell(twin, "evt_1", EventKind.PAID, "a", amount=amount)
        at(twin, 9)
        assert twin.do(again("b")) is None
        assert attempt(twin, "b").sends == 1
        assert attempt(twin, "b").resend_at is None
        check_books(twin)


class TestConclusive:
    @pytest.mark.parametrize(
        ("seconds", "conclusive"),
        [(1, False), (5.999, False), (6, True), (60, True)],
    )
    def test_the_window_of_the_sends_before(
        self, twin: Twin, seconds: float, *, conclusive: bool
    ) -> None:
        """F11, F12: given up at 0 s, a deadline of 2 s and a window of 4 s."""
        at(twin, seconds)
        begun = twin.do(again())
        assert begun is not None
        assert begun.conclusive == conclusive

    def test_it_counts_from_the_last_send_and_not_from_the_first(self, twin: Twin) -> None:
        """F11: each send opens the window anew."""
        at(twin, 5)
        twin.do(again())
        at(twin, 6)
        twin.do(reply("a", SILENCE, token="ls_2"))
        at(twin, 11.999)
        begun = twin.do(again(token="ls_3"))
        assert begun is not None
        assert not begun.conclusive

    def test_a_lease_that_ran_out_counts_to_its_end(self) -> None:
        """F11, F33: its holder may have begun in its last instant."""
        for seconds, conclusive in ((LEASE_S + 5.999, False), (LEASE_S + 6, True)):
            twin = Twin()
            twin.do(fund(10 * AMOUNT, "USDC"))
            twin.do(create("p", AMOUNT, "USDC"))
            twin.do(begin_ramp("p", "a"))
            at(twin, LEASE_S)
            twin.do(take_over())
            at(twin, seconds)
            begun = twin.do(again())
            assert begun is not None
            assert begun.conclusive == conclusive

    def test_a_question_put_before_a_send_does_not_speak_of_it(self, twin: Twin) -> None:
        """F12: the answer was proof of the sends before it, and now there is one more."""
        at(twin, 7)
        asked_at = attempt(twin).inquiries
        twin.do(again())
        twin.do(reply("a", SILENCE, token="ls_2"))
        late = RecordInquiry(
            origin=ORIGIN,
            attempt_id="pa_a",
            asked_at_inquiry=asked_at,
            outcome=CLOSED,
            retry_delay=timedelta(0),
        )
        with pytest.raises(NotDue):
            twin.do(late)
        assert attempt(twin).state == "unknown"

    def test_a_zombies_answer_is_evidence_only(self, twin: Twin) -> None:
        """F33: the first send's worker wakes up while the second is under way."""
        at(twin, 1)
        twin.do(again())
        twin.do(reply("a", CLOSED, token="ls_1"))
        assert attempt(twin).state == "sending"
        assert [row.kind for row in twin.rows(JOURNAL)].count("attempt.late_reply") == 1


async def started(*answers: Outcome) -> tuple[Twin, ScriptedRail, Jobs, str]:
    """A payout that was sent once; the attempt's id."""
    twin = Twin()
    twin.do(fund(10 * AMOUNT, "USDC"))
    twin.do(create("p", AMOUNT, "USDC"))
    rail = ScriptedRail(OFFRAMP, *answers)
    jobs = jobs_over(twin, rail)
    await send(jobs, "po_p")
    (row,) = twin.rows(ATTEMPTS)
    return twin, rail, jobs, row.id


class TestAnswers:
    @pytest.mark.parametrize(
        ("seconds", "answer", "state", "reason"),
        [
            (1, CLOSED, "unknown", "no_proof_on_resend:account_closed"),
            (1, NO_BYTE, "unknown", "no_proof_on_resend:not_sent"),
            (1, SILENCE, "unknown", "deadline_exceeded"),
            (1, PAID, "paid", None),
            (1, Accepted("op_1"), "accepted", None),
            (6, CLOSED, "failed", None),
            (6, NO_BYTE, "unknown", "no_proof_on_resend:not_sent"),
            (6, PAID, "paid", None),
        ],
    )
    async def test_what_a_second_answer_proves(
        self, seconds: float, answer: Outcome, state: str, reason: str | None
    ) -> None:
        """F12: a no counts only after the window of the first send; a yes always."""
        twin, rail, jobs, attempt_id = await started(SILENCE, answer)
        at(twin, seconds)
        await resend(jobs, attempt_id)
        (row,) = twin.rows(ATTEMPTS)
        assert (row.state, row.sends) == (state, 2)
        if reason is not None:
            assert row.reason == reason
        first, second = rail.told
        assert first[0] == second[0]
        assert second[1] == seconds + LEASE_MARGIN_S
        held = AMOUNT if state in {"unknown", "accepted"} else 0
        assert twin.account(AccountRole.AVAILABLE, "USDC").debits_pending == held
        check_books(twin)
        check_payouts(twin)

    async def test_nothing_is_sent_that_is_not_due(self) -> None:
        """F33: nor of an attempt that is not there, nor at a provider that is not served here."""
        twin, rail, jobs, attempt_id = await started(SILENCE)
        await resend(jobs, attempt_id)
        await resend(jobs, "pa_" + "0" * 32)
        at(twin, 1)
        elsewhere = ScriptedRail(CONTRACTS["bank"])
        await resend(jobs_over(twin, elsewhere), attempt_id)
        at(twin, 120)
        await resend(jobs, attempt_id)
        assert len(rail.told) == 1
        assert elsewhere.told == []
        (row,) = twin.rows(ATTEMPTS)
        assert (row.state, row.sends, row.resend_at) == ("unknown", 1, None)


def test_what_nobody_can_prove_ends_before_people(twin: Twin) -> None:
    """F13: its absence proves nothing there; past window and key's life there is one incident."""
    while twin.clock.monotonic() < 400:
        now = attempt(twin)
        if now.resend_at is not None and now.resend_at <= twin.clock.wall():
            token = f"ls_{now.sends + 1}"
            if twin.do(again(token=token)) is not None:
                twin.do(reply("a", SILENCE, token=token))
        now = attempt(twin)
        if now.inquire_at is not None and now.inquire_at <= twin.clock.wall():
            twin.do(
                RecordInquiry(
                    origin=ORIGIN,
                    attempt_id="pa_a",
                    asked_at_inquiry=now.inquiries,
                    outcome=Unknown("not_found"),
                    retry_delay=timedelta(0),
                )
            )
        if twin.clock.monotonic() < 120:
            assert incidents(twin) == []
        twin.clock.advance(0.5)
    assert incidents(twin) == ["attempt_unproven"]
    assert (attempt(twin).state, payout(twin).state) == ("unknown", "sending")
    assert attempt(twin).sends == 7
    assert twin.account(AccountRole.AVAILABLE, "USDC").debits_pending == AMOUNT


async def test_a_resend_on_postgres(database: Database) -> None:
    """F19: queue, columns and grants: as the worker's role, from the first send to the proof."""
    dsn = database.dsns.owner
    async with postgres_place(dsn) as shop, postgres_place(database.dsns.worker) as place:
        await open_shop(shop)
        made = shop.engine()
        await made.submit(fund(10 * AMOUNT, "USDC"))
        await made.submit(create("p", AMOUNT, "USDC"))
        rail = ScriptedRail(OFFRAMP, SILENCE, PAID)
        assert place.pool is not None
        jobs = Jobs(
            engine=place.engine(),
            reads=PostgresReads(place.pool),
            rails=cast(Any, {rail.name: rail}),
            verifiers={},
            clock=place.clock,
            ids=SystemIds(),
            randomness=SystemRandomness(),
            worker_id="wrk_1",
        )
        await send(jobs, "po_p")
        assert await place.store.take_due("resends", 10, {"in_flight": []}) == []
        await place.clock.sleep(1)
        (attempt_id,) = await place.store.take_due("resends", 10, {"in_flight": []})
        assert await place.store.take_due("resends", 10, {"in_flight": [attempt_id]}) == []
        await resend(jobs, attempt_id)
        assert await place.store.take_due("resends", 10, {"in_flight": []}) == []
        (row,) = await place.rows(ATTEMPTS)
        assert (row.state, row.sends, row.resend_at) == ("paid", 2, None)
        assert [told[0] for told in rail.told] == [rail.told[0][0]] * 2
