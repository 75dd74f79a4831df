"""What an outcome does to an attempt, its payout and the books. Pure.

One road for every source: the reply to a send, an inquiry's answer, a provider's event. Facts
are recorded once each; the same fact again changes nothing, whatever its order of arrival.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, assert_never

import msgspec

from bursar.engine.working_set import WorkingSet
from bursar.incidents.commands import open_incident
from bursar.ledger import recipes
from bursar.payouts.machine import (
    HELD,
    OPEN_ATTEMPT,
    AttemptState,
    Event,
    State,
    attempt_state,
)
from bursar.payouts.model import (
    ATTEMPTS,
    ATTEMPTS_OF_PAYOUT,
    FACTS,
    FACTS_OF_ATTEMPT,
    PAYOUTS,
    Attempt,
    Fact,
    Payout,
)
from bursar.payouts.steps import move, release, remark, settle
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import Accepted, Executed, NotExecuted, Outcome, Unknown
from bursar.rails.proof import retry_elsewhere, window_closes_at

_set = msgspec.structs.replace

INQUIRE_BASE = timedelta(seconds=1)
INQUIRE_CAP = timedelta(seconds=60)
UNPROVEN = "unproven"
AWAIT_EVENT = timedelta(seconds=5)
"""How long a promise is awaited before the provider is asked about it."""


class Returned(msgspec.Struct, frozen=True):
    """Money came back: `amount` minor units, under the provider's `return_id`.

    `cost` is what the provider charged for sending it: a return told first is all we hear of it.
    """

    provider_ref: str
    return_id: str
    amount: int
    code: str
    reason: str
    cost: int = 0


class Told(msgspec.Struct, frozen=True):
    """Who told us (reply, inquiry, webhook), and the jittered delay of a possible retry."""

    source: str
    retry_delay: timedelta


def inquire_after(inquiries: int) -> timedelta:
    """The pause before inquiry number `inquiries` + 1: doubling from 1 s up to 60 s."""
    doublings = min(inquiries, 10)
    return min(INQUIRE_BASE * (1 << doublings), INQUIRE_CAP)


def learn(ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: Outcome, told: Told) -> None:
    """Take in one outcome of an attempt: facts, attempt, payout, books, journal."""
    match outcome:
        case Executed():
            _executed(ws, payout, attempt, outcome, told)
        case Accepted():
            _accepted(ws, payout, attempt, outcome, told)
        case NotExecuted():
            _not_executed(ws, payout, attempt, outcome, told)
        case Unknown():
            _unknown(ws, payout, attempt, outcome, told)
        case _:
            assert_never(outcome)


def learn_return(
    ws: WorkingSet, payout: Payout, attempt: Attempt, returned: Returned, told: Told
) -> None:
    """Money of this attempt came back. It had left, even if nobody told us so before."""
    executed = Executed(
        provider_ref=returned.provider_ref,
        amount_minor=attempt.amount,
        currency=attempt.currency,
        cost_minor=returned.cost,
    )
    learn(ws, payout, attempt, executed, told)
    payout, attempt = ws.get(PAYOUTS, payout.id), ws.get(ATTEMPTS, attempt.id)
    new = _fact(
        ws,
        attempt,
        AttemptState.RETURNED,
        told,
        item=returned.return_id,
        provider_ref=returned.provider_ref,
        amount=returned.amount,
        code=returned.code,
        reason=returned.reason,
    )
    if not new:
        return
    note = {
        "amount": returned.amount,
        "code": returned.code,
        "reason": returned.reason,
        "attempt": attempt.id,
    }
    paid_twice = _paid_by_other(ws, payout, attempt)
    before = 0 if paid_twice else payout.amount_returned
    total = before + returned.amount
    if returned.amount <= 0 or total > attempt.amount:
        entry = remark(ws, payout, "payout.return_refused", note)
        open_incident(
            ws,
            entry,
            kind="return_exceeds_settled",
            subject_id=payout.id,
            amount=returned.amount,
            currency=payout.currency,
        )
        return
    ws.update(ATTEMPTS, _set(attempt, state=AttemptState.RETURNED))
    if paid_twice:
        # One of two executions came back: the payout stays settled by the other.
        entry = remark(ws, payout, "payout.again_returned", note)
    elif total == payout.amount and payout.state == State.SETTLED:
        payout, entry = move(ws, payout, Event.RETURN, note=note, amount_returned=total)
    else:
        entry = remark(ws, payout, "payout.part_returned", note)
        payout = _set(payout, amount_returned=total, updated_at=ws.now)
        ws.update(PAYOUTS, payout)
    recipes.payout_returned(ws, entry, payout, amount=returned.amount)


def _executed(
    ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: Executed, told: Told
) -> None:
    new = _fact(
        ws,
        attempt,
        AttemptState.PAID,
        told,
        provider_ref=outcome.provider_ref,
        amount=outcome.amount_minor,
        cost=outcome.cost_minor,
    )
    if not new:
        _paid_under_another_reference(ws, payout, attempt, outcome, told)
        return
    if _has_fact(ws, attempt, AttemptState.FAILED):
        _contradicted(ws, payout, attempt)
    was_open = attempt.state in OPEN_ATTEMPT
    _close(ws, attempt, AttemptState.PAID, provider_ref=outcome.provider_ref)
    others_open = any(
        other.id != attempt.id and other.state in OPEN_ATTEMPT
        for other in ws.children(ATTEMPTS_OF_PAYOUT, payout.id)
    )
    state = State(payout.state)
    if state in HELD and not others_open and (was_open or state == State.FUNDS_LOCKED):
        settle(ws, payout, cost=outcome.cost_minor, provider_ref=outcome.provider_ref)
        return
    _paid_late(ws, payout, attempt, outcome, others_open=others_open)


def _paid_under_another_reference(
    ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: Executed, told: Told
) -> None:
    """One attempt, two transfers at the provider: the first counts, a person looks (F17)."""
    facts = ws.children(FACTS_OF_ATTEMPT, attempt.id)
    known = {fact.provider_ref for fact in facts if fact.kind == AttemptState.PAID}
    if outcome.provider_ref in known:
        return
    _fact(
        ws,
        attempt,
        AttemptState.PAID,
        told,
        item=outcome.provider_ref,
        provider_ref=outcome.provider_ref,
        amount=outcome.amount_minor,
        cost=outcome.cost_minor,
    )
    note = {"attempt": attempt.id, "provider_reference": outcome.provider_ref}
    entry = remark(ws, payout, "attempt.second_reference", note)
    open_incident(
        ws,
        entry,
        kind="second_reference",
        subject_id=payout.id,
        amount=outcome.amount_minor,
        currency=outcome.currency,
    )


def _contradicted(ws: WorkingSet, payout: Payout, attempt: Attempt) -> None:
    """Both paid and failed were told of one attempt. It counts as paid, and a person looks."""
    open_incident(
        ws,
        remark(ws, payout, "attempt.contradicted", {"attempt": attempt.id}),
        kind="paid_and_failed",
        subject_id=payout.id,
        amount=payout.amount,
        currency=payout.currency,
    )


def _paid_late(
    ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: Executed, *, others_open: bool
) -> None:
    """Paid when we no longer expected it: an obligation. It posts, whatever is available (F25)."""
    note = {
        "attempt": attempt.id,
        "cost": outcome.cost_minor,
        "provider_reference": outcome.provider_ref,
    }
    if others_open or payout.state in (State.SETTLED, State.RETURNED, State.IN_REVIEW):
        entry = remark(ws, payout, "payout.paid_again", note)
        open_incident(
            ws,
            entry,
            kind="possible_double_execution",
            subject_id=payout.id,
            amount=payout.amount,
            currency=payout.currency,
        )
        again = _set(
            payout,
            provider_cost=payout.provider_cost + outcome.cost_minor,
            updated_at=ws.now,
        )
        ws.update(PAYOUTS, again)
        recipes.payout_paid_again(ws, entry, again, cost=outcome.cost_minor)
    else:
        again, entry = move(
            ws,
            payout,
            Event.SETTLE,
            note=note,
            settled_at=ws.now,
            provider_ref=outcome.provider_ref,
            provider_cost=payout.provider_cost + outcome.cost_minor,
            failure_code=None,
            failure_reason=None,
        )
        recipes.payout_paid_late(ws, entry, again, cost=outcome.cost_minor)


def _accepted(
    ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: Accepted, told: Told
) -> None:
    new = _fact(ws, attempt, AttemptState.ACCEPTED, told, provider_ref=outcome.provider_ref)
    if attempt.state not in OPEN_ATTEMPT:
        return
    pause = inquire_after(attempt.inquiries) if told.source == "inquiry" else timedelta(0)
    ws.update(
        ATTEMPTS,
        _set(
            attempt,
            state=AttemptState.ACCEPTED,
            provider_ref=outcome.provider_ref,
            lease_until=min(attempt.lease_until, ws.now),
            inquire_at=ws.now + max(AWAIT_EVENT, pause),
            resend_at=None,
            inquiries=attempt.inquiries + (told.source == "inquiry"),
        ),
    )
    if new and payout.state == State.SENDING:
        move(
            ws,
            payout,
            Event.ACCEPT,
            note={"attempt": attempt.id, "provider_reference": outcome.provider_ref},
            provider_ref=outcome.provider_ref,
        )


def _not_executed(
    ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: NotExecuted, told: Told
) -> None:
    new = _fact(ws, attempt, AttemptState.FAILED, told, code=outcome.code, reason=outcome.reason)
    if new and _has_fact(ws, attempt, AttemptState.PAID):
        _contradicted(ws, payout, attempt)
    if not new or attempt.state not in OPEN_ATTEMPT:
        return
    _close(
        ws,
        attempt,
        AttemptState.FAILED,
        code=outcome.code,
        reason=outcome.reason,
        proof_at=ws.now,
    )
    earlier = _paid_before(ws, payout, attempt)
    if earlier is not None:
        _settle_by(ws, payout, earlier, outcome)
        return
    proof = retry_elsewhere(outcome)
    burned = payout.retries_burned + proof.burns_retry
    if payout.state == State.SENT or not proof.retry:
        _give_up(ws, payout, Event.DECLINE, "payout_failed", outcome)
    elif burned > payout.max_retries:
        _give_up(ws, payout, Event.EXHAUST, "payout_failed", outcome)
    else:
        move(
            ws,
            payout,
            Event.RETRY,
            note={"attempt": attempt.id, "code": outcome.code, "reason": outcome.reason},
            retries_burned=burned,
            next_attempt_at=ws.now + told.retry_delay,
        )


def _paid_before(ws: WorkingSet, payout: Payout, attempt: Attempt) -> Attempt | None:
    """Another attempt of the payout that was paid while this one was open."""
    paid = (AttemptState.PAID, AttemptState.RETURNED)
    others = ws.children(ATTEMPTS_OF_PAYOUT, payout.id)
    return next((o for o in others if o.id != attempt.id and o.state in paid), None)


def _settle_by(ws: WorkingSet, payout: Payout, paid: Attempt, outcome: NotExecuted) -> None:
    """The last open attempt moved nothing, but an earlier one had paid and was posted then.

    Sending again would pay twice (I5, I7), and failing would deny the payment. So the hold of the
    open attempt is given back, and the payout is settled.
    """
    moved, entry = move(
        ws,
        payout,
        Event.SETTLE,
        note={"paid_by": paid.id, "code": outcome.code, "reason": outcome.reason},
        settled_at=ws.now,
        provider_ref=paid.provider_ref,
        next_attempt_at=None,
    )
    recipes.payout_paid_before(ws, entry, moved, hold_id=moved.hold_id)
    if moved.amount_returned == moved.amount:
        move(ws, moved, Event.RETURN, note={"paid_by": paid.id})


def _give_up(
    ws: WorkingSet, payout: Payout, event: Event, recipe: str, outcome: NotExecuted
) -> None:
    release(ws, payout, event, recipe=recipe, code=outcome.code, reason=outcome.reason)


def _unknown(
    ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: Unknown, told: Told
) -> None:
    """It may have left: the attempt stays with its provider, which is asked by our key (F9)."""
    if attempt.state not in OPEN_ATTEMPT:
        return
    asked = told.source == "inquiry"
    mismatch = "amount_mismatch"
    known = attempt.reason == mismatch
    changes: dict[str, Any] = {
        "reason": mismatch if known else outcome.reason,
        "inquiries": attempt.inquiries + asked,
    }
    if changes["reason"] == mismatch:
        changes["resend_at"] = None
    elif attempt.state == AttemptState.SENDING:
        pause = CONTRACTS[attempt.provider].resend_pause(attempt.sends)
        changes["resend_at"] = None if pause is None else ws.now + pause
    if attempt.state == AttemptState.SENDING:
        ended = min(attempt.lease_until, ws.now)
        changes |= {
            "state": AttemptState.UNKNOWN,
            "lease_until": ended,
            "ambiguous_at": ended,
        }
        attempt = _set(attempt, lease_until=ended, ambiguous_at=ended)
        remark(
            ws,
            payout,
            "attempt.unknown",
            {"attempt": attempt.id, "reason": outcome.reason, "source": told.source},
        )
    if asked and attempt.code != UNPROVEN and _is_unproven(attempt, ws.now):
        changes["code"] = UNPROVEN
        entry = remark(ws, payout, "attempt.unproven", {"attempt": attempt.id})
        open_incident(
            ws,
            entry,
            kind="attempt_unproven",
            subject_id=payout.id,
            amount=payout.amount,
            currency=payout.currency,
        )
    ws.update(ATTEMPTS, _set(attempt, **changes, inquire_at=_next_inquiry(attempt, ws.now)))
    if outcome.reason == mismatch and not known:
        entry = remark(ws, payout, "attempt.mismatch", {"attempt": attempt.id})
        open_incident(
            ws,
            entry,
            kind="amount_mismatch",
            subject_id=payout.id,
            amount=payout.amount,
            currency=payout.currency,
        )


def _is_unproven(attempt: Attempt, now: datetime) -> bool:
    """Past its window and its key's life: only people can prove what became of it."""
    contract = CONTRACTS[attempt.provider]
    closes = window_closes_at(attempt.ambiguous_at, attempt.lease_until, contract)
    key_dies = attempt.begun_at + timedelta(seconds=contract.key_lifetime_s)
    return now > max(closes, key_dies)


def _paid_by_other(ws: WorkingSet, payout: Payout, attempt: Attempt) -> bool:
    return any(
        other.id != attempt.id and other.state == AttemptState.PAID
        for other in ws.children(ATTEMPTS_OF_PAYOUT, payout.id)
    )


def _next_inquiry(attempt: Attempt, now: datetime) -> datetime:
    """After a doubling pause, but never past the moment from which a "no" is proof."""
    contract = CONTRACTS[attempt.provider]
    closes = window_closes_at(attempt.ambiguous_at, attempt.lease_until, contract)
    pause_ends = now + inquire_after(attempt.inquiries)
    return closes if now < closes < pause_ends else pause_ends


def _close(ws: WorkingSet, attempt: Attempt, otherwise: AttemptState, **changes: Any) -> None:
    """End an attempt in the state that its facts give."""
    kinds = [fact.kind for fact in ws.children(FACTS_OF_ATTEMPT, attempt.id)]
    ws.update(
        ATTEMPTS,
        _set(
            attempt,
            state=attempt_state(kinds, otherwise),
            lease_until=min(attempt.lease_until, ws.now),
            inquire_at=None,
            resend_at=None,
            **changes,
        ),
    )


def _has_fact(ws: WorkingSet, attempt: Attempt, kind: AttemptState, *, item: str = "") -> bool:
    known = ws.children(FACTS_OF_ATTEMPT, attempt.id)
    return any(fact.kind == kind and fact.item == item for fact in known)


def _fact(
    ws: WorkingSet,
    attempt: Attempt,
    kind: AttemptState,
    told: Told,
    *,
    item: str = "",
    provider_ref: str | None = None,
    amount: int = 0,
    cost: int = 0,
    code: str | None = None,
    reason: str | None = None,
) -> bool:
    """Record a fact. False if it was known: then it has had its effect (F21, F22)."""
    if _has_fact(ws, attempt, kind, item=item):
        return False
    ws.insert(
        FACTS,
        Fact(
            merchant_id=attempt.merchant_id,
            attempt_id=attempt.id,
            kind=kind,
            item=item,
            provider_ref=provider_ref,
            amount=amount,
            cost=cost,
            code=code,
            reason=reason,
            source=told.source,
            at=ws.now,
            sequence=None,
        ),
    )
    return True
