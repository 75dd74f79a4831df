"""Attempts: begin one under a lease, record what came of it, take over from the dead. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from bursar.engine.model import CommandBase, Key, Needs, Peeked, Table
from bursar.engine.working_set import WorkingSet
from bursar.incidents.commands import open_incident
from bursar.ledger import recipes
from bursar.ledger.model import HOLDS, PENDING_LEGS
from bursar.payouts.commands import account_locks
from bursar.payouts.errors import NotDue
from bursar.payouts.machine import OPEN_ATTEMPT, AttemptState, Event, State
from bursar.payouts.model import (
    ATTEMPTS,
    ATTEMPTS_OF_PAYOUT,
    FACTS_OF_ATTEMPT,
    PAYOUTS,
    PROVIDER_KEYS,
    Attempt,
    Payout,
    ProviderKey,
)
from bursar.payouts.outcomes import Told, learn
from bursar.payouts.steps import move, remark
from bursar.rails.outcomes import Executed, Outcome, Unknown
from bursar.rails.port import PayoutInstruction

_set = msgspec.structs.replace


class Begun(msgspec.Struct, frozen=True):
    """A lease on a fresh attempt, and what to tell the provider."""

    attempt: Attempt
    instruction: PayoutInstruction
    correlation_id: str


class BeginAttempt(CommandBase, frozen=True, kw_only=True):
    """Take a due payout: writes attempt and `sending` before any byte is sent.

    `lease_token` fences every later word of this worker; the lease lasts `lease` from the
    database's time. `provider_key` is the attempt's id in the provider's charset.
    """

    payout_id: str
    attempt_id: str
    provider: str
    provider_key: str
    lease_token: str
    lease: timedelta

    def peeks(self) -> tuple[tuple[Table[Any], Key], ...]:
        """The payout, for its merchant."""
        return ((PAYOUTS, self.payout_id),)

    def needs(self, peeked: Peeked) -> Needs:
        """The payout and its attempts."""
        payout = peeked.find(PAYOUTS, self.payout_id)
        return Needs(
            locks=((PAYOUTS, self.payout_id),),
            children=((ATTEMPTS_OF_PAYOUT, self.payout_id),),
            journals=(payout.merchant_id,) if payout is not None else (),
        )

    def decide(self, ws: WorkingSet) -> Begun:
        """Raises `NotDue` if somebody was faster or the payout is not due."""
        payout = ws.find(PAYOUTS, self.payout_id)
        if payout is None or payout.state != State.FUNDS_LOCKED:
            raise NotDue("The payout is not waiting to be sent.")
        if payout.next_attempt_at is None or payout.next_attempt_at > ws.now:
            raise NotDue("The payout is not due yet.")
        if payout.expires_at <= ws.now:
            raise NotDue("The payout's hold is about to expire.")
        others = ws.children(ATTEMPTS_OF_PAYOUT, payout.id)
        if any(other.state in OPEN_ATTEMPT for other in others):
            raise NotDue("Another attempt is open.")
        if any(other.state in (AttemptState.PAID, AttemptState.RETURNED) for other in others):
            raise NotDue("An attempt has paid.")
        attempt = Attempt(
            id=self.attempt_id,
            merchant_id=payout.merchant_id,
            payout_id=payout.id,
            number=len(others) + 1,
            provider=self.provider,
            provider_key=self.provider_key,
            hold_id=payout.hold_id,
            amount=payout.amount,
            currency=payout.currency,
            begun_at=ws.now,
            state=AttemptState.SENDING,
            lease_token=self.lease_token,
            lease_until=ws.now + self.lease,
            ambiguous_at=None,
            provider_ref=None,
            code=None,
            reason=None,
            inquire_at=None,
            inquiries=0,
            proof_at=None,
            sends=1,
            resend_at=None,
        )
        ws.insert(ATTEMPTS, attempt)
        ws.insert(
            PROVIDER_KEYS,
            ProviderKey(
                self.provider,
                self.provider_key,
                payout.merchant_id,
                payout.id,
                attempt.id,
                payout.hold_id,
                payout.currency,
            ),
        )
        moved, _ = move(
            ws,
            payout,
            Event.BEGIN,
            note={"attempt": attempt.id, "provider": self.provider},
            attempt_count=attempt.number,
            provider=self.provider,
            next_attempt_at=None,
        )
        return Begun(attempt, _instruction(moved, attempt), payout.correlation_id)


def _instruction(payout: Payout, attempt: Attempt) -> PayoutInstruction:
    return PayoutInstruction(
        key=attempt.provider_key,
        amount_minor=attempt.amount,
        currency=attempt.currency,
        creditor_name=payout.beneficiary_name,
        creditor_iban=payout.beneficiary_iban,
        remittance=payout.description or payout.reference,
    )


def attempt_needs(
    *, payout_id: str, attempt_id: str, hold_id: str, merchant_id: str, currency: str
) -> Needs:
    """All that an outcome may touch: payout, hold, accounts, attempts, facts."""
    return Needs(
        locks=(
            (PAYOUTS, payout_id),
            (HOLDS, hold_id),
            *account_locks(merchant_id, currency, recipes.OUTCOME_ROLES),
        ),
        children=(
            (ATTEMPTS_OF_PAYOUT, payout_id),
            (FACTS_OF_ATTEMPT, attempt_id),
            (PENDING_LEGS, hold_id),
        ),
        journals=(merchant_id,),
    )


class _OnAttempt(CommandBase, frozen=True, kw_only=True):
    """A command about one existing attempt."""

    attempt_id: str

    def peeks(self) -> tuple[tuple[Table[Any], Key], ...]:
        """The attempt, for its payout, hold and accounts."""
        return ((ATTEMPTS, self.attempt_id),)

    def needs(self, peeked: Peeked) -> Needs:
        """See `attempt_needs`."""
        attempt = peeked.find(ATTEMPTS, self.attempt_id)
        if attempt is None:
            return Needs(locks=((ATTEMPTS, self.attempt_id),))
        return attempt_needs(
            payout_id=attempt.payout_id,
            attempt_id=attempt.id,
            hold_id=attempt.hold_id,
            merchant_id=attempt.merchant_id,
            currency=attempt.currency,
        )


class RecordReply(_OnAttempt, frozen=True, kw_only=True):
    """What the send under `lease_token` ended in.

    A worker whose lease was taken over, or whose attempt moved on by an event, is too late: its
    answer is noted as evidence, and the provider is asked anyway (F33).
    """

    lease_token: str
    outcome: Outcome
    retry_delay: timedelta

    def decide(self, ws: WorkingSet) -> None:
        """Never refuses: a late answer is evidence."""
        attempt = ws.get(ATTEMPTS, self.attempt_id)
        payout = ws.get(PAYOUTS, attempt.payout_id)
        told = Told("reply", self.retry_delay)
        holds_lease = (
            attempt.lease_token == self.lease_token and attempt.state == AttemptState.SENDING
        )
        if holds_lease:
            learn(ws, payout, attempt, self.outcome, told)
            return
        entry = remark(
            ws,
            payout,
            "attempt.late_reply",
            {"attempt": attempt.id, "reply": self.outcome},
        )
        if attempt.state == AttemptState.FAILED and isinstance(self.outcome, Executed):
            open_incident(
                ws,
                entry,
                kind="paid_and_failed",
                subject_id=payout.id,
                amount=payout.amount,
                currency=payout.currency,
            )


class RecordInquiry(_OnAttempt, frozen=True, kw_only=True):
    """What the provider answered about our key, judged by `rails.proof`.

    `asked_at_inquiry` is the count of inquiries when the question was put: an answer to an older
    question than the last one recorded is dropped.
    """

    asked_at_inquiry: int
    outcome: Outcome
    retry_delay: timedelta

    def decide(self, ws: WorkingSet) -> None:
        """Raises `NotDue` if the attempt has ended or another answer came first."""
        attempt = ws.get(ATTEMPTS, self.attempt_id)
        if attempt.state not in (AttemptState.UNKNOWN, AttemptState.ACCEPTED):
            raise NotDue("The attempt is not waiting for an answer.")
        if attempt.inquiries != self.asked_at_inquiry:
            raise NotDue("A later inquiry was answered first.")
        payout = ws.get(PAYOUTS, attempt.payout_id)
        learn(ws, payout, attempt, self.outcome, Told("inquiry", self.retry_delay))


class ExpireLease(_OnAttempt, frozen=True, kw_only=True):
    """Take an attempt from a worker that fell silent: it is unknown, even if never sent (F4)."""

    def decide(self, ws: WorkingSet) -> None:
        """Raises `NotDue` while the lease runs, or if the worker answered."""
        attempt = ws.get(ATTEMPTS, self.attempt_id)
        if attempt.state != AttemptState.SENDING or attempt.lease_until > ws.now:
            raise NotDue("The lease has not run out.")
        payout = ws.get(PAYOUTS, attempt.payout_id)
        learn(ws, payout, attempt, Unknown("lease_expired"), Told("sweeper", timedelta(0)))
