"""Attempts: begin one under a lease, send it again, record what came of it. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from bursar.engine.model import PLATFORM, CommandBase, Key, Needs, Peeked, Table
from bursar.engine.working_set import WorkingSet
from bursar.incidents.model import OPEN_INCIDENTS
from bursar.ledger import recipes
from bursar.ledger.model import HOLDS, PENDING_LEGS
from bursar.payouts.commands import account_locks
from bursar.payouts.effects import report_unexplained, stands
from bursar.payouts.errors import NotDue
from bursar.payouts.machine import OPEN_ATTEMPT, PAID_ATTEMPT, AttemptState, Event, State
from bursar.payouts.model import (
    ATTEMPTS,
    ATTEMPTS_OF_PAYOUT,
    FACTS_OF_ATTEMPT,
    PAYOUTS,
    PROVIDER_KEYS,
    Attempt,
    Payout,
    ProviderKey,
    Source,
)
from bursar.payouts.outcomes import (
    Returned,
    Told,
    learn,
    learn_return,
    speaks_of_money,
)
from bursar.payouts.silence import (
    closes_at,
    is_frozen,
    is_held_up,
    next_inquiry,
    unprovable_at,
)
from bursar.payouts.steps import move, remark
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import Accepted, Outcome, Unknown
from bursar.rails.port import PayoutInstruction

_set = msgspec.structs.replace


class Begun(msgspec.Struct, frozen=True):
    """A lease on one send of an attempt, and what to tell the provider.

    `conclusive`: the window of every earlier send had closed when this one began.
    """

    attempt: Attempt
    instruction: PayoutInstruction
    correlation_id: str
    conclusive: bool

    @property
    def first_send(self) -> bool:
        """Whether no send of the attempt was ever begun before."""
        return self.attempt.sends == 1


class Choice(msgspec.Struct, frozen=True):
    """A provider that an attempt may go to.

    `provider_key` is the attempt's id in the provider's charset, `lease` how long a send there
    may take, `currencies` what the provider is there for (None: whatever no other choice is).
    """

    provider: str
    provider_key: str
    lease: timedelta
    currencies: frozenset[str] | None


class BeginAttempt(CommandBase, frozen=True, kw_only=True):
    """Take a due payout: writes attempt and `sending` before any byte is sent.

    `lease_token` fences every later word of this worker; the lease lasts as long as the choice
    says, from the database's time. `choices` stand in order of preference; the payout's currency
    decides.
    """

    payout_id: str
    attempt_id: str
    choices: tuple[Choice, ...]
    lease_token: str

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
        if any(other.state in PAID_ATTEMPT for other in others):
            raise NotDue("An attempt has paid.")
        if any(map(is_frozen, others)):
            raise NotDue("An attempt may have paid an amount that is not known.")
        choice = _choose(self.choices, payout.currency)
        attempt = Attempt(
            id=self.attempt_id,
            merchant_id=payout.merchant_id,
            payout_id=payout.id,
            number=len(others) + 1,
            provider=choice.provider,
            provider_key=choice.provider_key,
            hold_id=payout.hold_id,
            amount=payout.amount,
            currency=payout.currency,
            begun_at=ws.now,
            state=AttemptState.SENDING,
            lease_token=self.lease_token,
            lease_until=ws.now + choice.lease,
            ambiguous_at=None,
            provider_ref=None,
            code=None,
            reason=None,
            inquire_at=None,
            inquiries=0,
            proof_at=None,
            sends=1,
            resend_at=None,
            frozen_at=None,
        )
        ws.insert(ATTEMPTS, attempt)
        ws.insert(
            PROVIDER_KEYS,
            ProviderKey(
                attempt.provider,
                attempt.provider_key,
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
            note={"attempt": attempt.id, "provider": attempt.provider},
            attempt_count=attempt.number,
            provider=attempt.provider,
            next_attempt_at=None,
        )
        instruction = _instruction(moved, attempt)
        return Begun(attempt, instruction, payout.correlation_id, conclusive=True)


def _choose(choices: tuple[Choice, ...], currency: str) -> Choice:
    """The first that is there for the currency, else the first that is there for all the rest."""
    own = (c for c in choices if c.currencies is not None and currency in c.currencies)
    rest = (c for c in choices if c.currencies is None)
    choice = next(own, None) or next(rest, None)
    if choice is None:
        raise NotDue("No provider here takes the currency.")
    return choice


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
            recipes.debt(merchant_id, currency),
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


class ResendAttempt(_OnAttempt, frozen=True, kw_only=True):
    """Take the lease for another send to the same provider under the same key (F19).

    It moves nothing: a provider that knows the key tells how its payout stands, and one that does
    not takes it as it should have taken the first. Only while the key is sure to be known.
    """

    lease_token: str
    lease: timedelta

    def needs(self, peeked: Peeked) -> Needs:
        """The payout and its attempts."""
        attempt = peeked.find(ATTEMPTS, self.attempt_id)
        if attempt is None:
            return Needs(locks=((ATTEMPTS, self.attempt_id),))
        return Needs(
            locks=((PAYOUTS, attempt.payout_id),),
            children=((ATTEMPTS_OF_PAYOUT, attempt.payout_id),),
            journals=(attempt.merchant_id,),
        )

    def decide(self, ws: WorkingSet) -> Begun | None:
        """None if the attempt is never to be sent again; then it is not due any more.

        Raises `NotDue` if it waits for no resend now.
        """
        attempt = ws.get(ATTEMPTS, self.attempt_id)
        if attempt.state != AttemptState.UNKNOWN:
            raise NotDue("The attempt is not unknown.")
        if attempt.resend_at is None or attempt.resend_at > ws.now:
            raise NotDue("The attempt is not due to be sent again.")
        contract = CONTRACTS[attempt.provider]
        others = ws.children(ATTEMPTS_OF_PAYOUT, attempt.payout_id)
        # Were the first send lost, this one would pay what another attempt has paid (I5).
        paid = any(other.state in PAID_ATTEMPT for other in others)
        alive = contract.may_resend(attempt.begun_at, ws.now, self.lease)
        if paid or any(map(is_frozen, others)) or not alive:
            ws.update(ATTEMPTS, _set(attempt, resend_at=None))
            return None
        closes = closes_at(attempt)
        again = _set(
            attempt,
            state=AttemptState.SENDING,
            lease_token=self.lease_token,
            lease_until=max(attempt.lease_until, ws.now + self.lease),
            sends=attempt.sends + 1,
            resend_at=None,
            # A question that was put before this send does not speak of it: its answer is late.
            inquiries=attempt.inquiries + 1,
        )
        ws.update(ATTEMPTS, again)
        payout = ws.get(PAYOUTS, attempt.payout_id)
        remark(ws, payout, "attempt.resent", {"attempt": again.id, "send": again.sends})
        return Begun(
            again,
            _instruction(payout, again),
            payout.correlation_id,
            conclusive=ws.now >= closes,
        )


class _OnOutcome(_OnAttempt, frozen=True, kw_only=True):
    """A command that brings an outcome."""

    outcome: Outcome
    retry_delay: timedelta

    def needs(self, peeked: Peeked) -> Needs:
        """See `attempt_needs`; and the alerts about a provider that holds payouts up."""
        needs = super().needs(peeked)
        attempt = peeked.find(ATTEMPTS, self.attempt_id)
        if attempt is None or not is_held_up(self.outcome):
            return needs
        told = (OPEN_INCIDENTS, attempt.provider)
        return msgspec.structs.replace(
            needs, children=(*needs.children, told), journals=(*needs.journals, PLATFORM)
        )


class RecordReply(_OnOutcome, frozen=True, kw_only=True):
    """What the send under `lease_token` ended in.

    A worker whose lease was taken over, or whose attempt moved on by an event, is too late: its
    answer is noted, and the provider is asked anyway (F33). That money left, of whatever amount,
    or was promised to leave, counts however late it is told; nothing else does.
    """

    lease_token: str

    def decide(self, ws: WorkingSet) -> None:
        """Never refuses: a late answer is evidence."""
        attempt = ws.get(ATTEMPTS, self.attempt_id)
        payout = ws.get(PAYOUTS, attempt.payout_id)
        told = Told(Source.REPLY, self.retry_delay)
        if attempt.lease_token == self.lease_token and attempt.state == AttemptState.SENDING:
            learn(ws, payout, attempt, self.outcome, told)
            return
        note = {"attempt": attempt.id, "reply": self.outcome}
        remark(ws, payout, "attempt.late_reply", note)
        if speaks_of_money(self.outcome) or isinstance(self.outcome, Accepted):
            learn(ws, payout, attempt, self.outcome, Told(Source.LATE_REPLY, self.retry_delay))


class RecordInquiry(_OnOutcome, frozen=True, kw_only=True):
    """What the provider answered about our key, judged by `rails.proof`.

    `asked_at_inquiry` is the count of inquiries when the question was put: an answer to an older
    question than the last one recorded is dropped. But that money left, or came back (`returned`),
    counts whenever it is told. An attempt that has ended was asked about because its facts
    contradict each other: any other answer is evidence for the people who look at that. No answer
    at all leaves it to be asked about again, until there can be none.
    """

    asked_at_inquiry: int
    returned: Returned | None = None

    def decide(self, ws: WorkingSet) -> None:
        """Raises `NotDue` if nobody waits for the answer, or another one came first."""
        attempt = ws.get(ATTEMPTS, self.attempt_id)
        payout = ws.get(PAYOUTS, attempt.payout_id)
        waits = attempt.state in (AttemptState.UNKNOWN, AttemptState.ACCEPTED)
        fresh = attempt.inquiries == self.asked_at_inquiry
        told = Told(Source.INQUIRY, self.retry_delay)
        new = False
        if waits and fresh:
            learn(ws, payout, attempt, self.outcome, told)
            new = True
        elif speaks_of_money(self.outcome):
            new = learn(ws, payout, attempt, self.outcome, told)
        if self.returned is not None:
            payout, now = ws.get(PAYOUTS, payout.id), ws.get(ATTEMPTS, attempt.id)
            new = learn_return(ws, payout, now, self.returned, told) or new
        ended = attempt.state not in OPEN_ATTEMPT
        if ended and fresh and attempt.inquire_at is not None:
            self._answer(ws, payout)
        elif not new:
            raise NotDue("Nobody waits for this answer.")

    def _answer(self, ws: WorkingSet, payout: Payout) -> None:
        """Of an ended attempt: keep what was said, and ask again if nothing was."""
        attempt = ws.get(ATTEMPTS, self.attempt_id)
        silent = isinstance(self.outcome, Unknown) and not speaks_of_money(self.outcome)
        again: datetime | None = next_inquiry(attempt, ws.now)
        if not silent or ws.now >= unprovable_at(attempt):
            # What came back has to be explained some day: that question is put until it is.
            asks_on = is_frozen(attempt) and stands(ws, attempt).unexplained
            if not asks_on or report_unexplained(ws, payout, attempt):
                note = {"attempt": attempt.id, "answer": self.outcome}
                remark(ws, payout, "attempt.evidence", note)
            again = again if asks_on else None
        ws.update(ATTEMPTS, _set(attempt, inquire_at=again, inquiries=attempt.inquiries + 1))


class ExpireLease(_OnAttempt, frozen=True, kw_only=True):
    """Take an attempt from a worker that fell silent: it is unknown, even if never sent (F4)."""

    def decide(self, ws: WorkingSet) -> None:
        """Raises `NotDue` while the lease runs, or if the worker answered."""
        attempt = ws.get(ATTEMPTS, self.attempt_id)
        if attempt.state != AttemptState.SENDING or attempt.lease_until > ws.now:
            raise NotDue("The lease has not run out.")
        payout = ws.get(PAYOUTS, attempt.payout_id)
        learn(ws, payout, attempt, Unknown("lease_expired"), Told(Source.SWEEPER, timedelta(0)))
