"""What became known of an attempt, taken in: one road for every source. Pure.

The reply to a send, an inquiry's answer, a provider's event, two persons' word: each becomes a
fact, once. `facts` says how the attempt stands by all of them, `effects` books the difference.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, assert_never

import msgspec

from bursar.engine.working_set import WorkingSet
from bursar.ledger import recipes
from bursar.payouts.effects import others_paid, report_other_return, stands, take_effect
from bursar.payouts.facts import FOREIGN, failure_item, foreign_item, return_item
from bursar.payouts.machine import OPEN_ATTEMPT, AttemptState, Event, State
from bursar.payouts.model import (
    ATTEMPTS,
    ATTEMPTS_OF_PAYOUT,
    FACTS,
    FACTS_OF_ATTEMPT,
    PAYOUTS,
    Attempt,
    Fact,
    Payout,
    Source,
)
from bursar.payouts.silence import (
    ask_now,
    close_unproven,
    freeze,
    inquire_after,
    is_frozen,
    is_held_up,
    report_held_up,
    report_promised,
    report_unproven,
    stay_unknown,
)
from bursar.payouts.steps import move, release
from bursar.rails.outcomes import Accepted, Executed, NotExecuted, Outcome, Unknown
from bursar.rails.proof import NOT_FOUND, retry_elsewhere

_set = msgspec.structs.replace

AWAIT_EVENT = timedelta(seconds=5)
"""How long a promise is awaited before the provider is asked about it."""


class Returned(msgspec.Struct, frozen=True):
    """Money came back: `amount` minor units, under the provider's `return_id`.

    Without a `return_id` it is all that came back so far.
    """

    provider_ref: str
    return_id: str | None
    amount: int
    code: str
    reason: str
    sequence: int | None = None


class Told(msgspec.Struct, frozen=True):
    """Who told us; the pause before a retry."""

    source: Source
    retry_delay: timedelta


def learn(ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: Outcome, told: Told) -> bool:
    """Take in one outcome of an attempt: facts, attempt, payout, books, journal.

    False if it was known already: then it has had its effect (F21, F22).
    """
    match outcome:
        case Executed():
            return _executed(ws, payout, attempt, outcome, told)
        case Accepted():
            return _accepted(ws, payout, attempt, outcome, told)
        case NotExecuted():
            return _not_executed(ws, payout, attempt, outcome, told)
        case Unknown(reason, amount, currency):
            waits = attempt.state in OPEN_ATTEMPT and _may_end_silence(attempt, told)
            if waits:
                stay_unknown(ws, payout, attempt, reason, source=told.source)
            if amount is None:
                return waits
            reference = attempt.provider_ref
            return learn_foreign(ws, attempt, told, amount, currency, reference) or waits
        case _:
            assert_never(outcome)


def _may_end_silence(attempt: Attempt, told: Told) -> bool:
    """Whether "not known" is said by who was to know: of a send, only its worker or its lease."""
    if attempt.state == AttemptState.SENDING:
        return told.source in (Source.REPLY, Source.SWEEPER)
    return told.source != Source.LATE_REPLY


def speaks_of_money(outcome: Outcome) -> bool:
    """Whether it says that money left, of whatever amount: then it counts however late it is."""
    return isinstance(outcome, Executed) or (
        isinstance(outcome, Unknown) and outcome.amount_minor is not None
    )


def learn_foreign(
    ws: WorkingSet,
    attempt: Attempt,
    told: Told,
    amount: int,
    currency: str,
    provider_ref: str | None,
) -> bool:
    """The provider speaks of an `amount` or `currency` that nobody asked for (F18).

    Nothing is booked by it. False if it was known already.
    """
    payout, attempt = ws.get(PAYOUTS, attempt.payout_id), ws.get(ATTEMPTS, attempt.id)
    item = foreign_item(amount, currency)
    fact = _fact(ws, attempt, FOREIGN, told, item=item, provider_ref=provider_ref, amount=amount)
    return _take_in(ws, payout, attempt, fact, told)


def learn_return(
    ws: WorkingSet, payout: Payout, attempt: Attempt, returned: Returned, told: Told
) -> bool:
    """Money of this attempt came back. Until a payment is told it is not known of how much (F23).

    So it is kept, and the provider is asked. False if it was known already.
    """
    fact = _fact(
        ws,
        attempt,
        AttemptState.RETURNED,
        told,
        item=return_item(returned.return_id, returned.amount),
        provider_ref=returned.provider_ref,
        amount=returned.amount,
        code=returned.code,
        reason=returned.reason,
        sequence=returned.sequence,
    )
    report_other_return(ws, payout, attempt, fact)
    return _take_in(ws, payout, attempt, fact, told)


def learn_denial(
    ws: WorkingSet,
    payout: Payout,
    attempt: Attempt,
    told: Told,
    *,
    code: str | None,
    reason: str | None,
    sequence: int | None,
) -> bool:
    """The provider says that it failed, which proves nothing by itself (F12).

    It still counts beside a payment: after one, by the provider's own order, it takes it back;
    without order the two contradict each other (F26). True if it had such an effect.
    """
    before = stands(ws, attempt)
    fact = _fact(
        ws,
        attempt,
        AttemptState.FAILED,
        told,
        item=failure_item(sequence, proven=False),
        code=code,
        reason=reason,
        sequence=sequence,
    )
    _take_in(ws, payout, attempt, fact, told)
    after = stands(ws, attempt)
    if attempt.state in OPEN_ATTEMPT:
        ask_now(ws, ws.get(ATTEMPTS, attempt.id))
    return (after.undone_by, after.contradicted) != (before.undone_by, before.contradicted)


def _executed(
    ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: Executed, told: Told
) -> bool:
    known = stands(ws, attempt).references
    another = bool(known) and outcome.provider_ref not in known
    number = "" if outcome.sequence is None else str(outcome.sequence)
    fact = _fact(
        ws,
        attempt,
        AttemptState.PAID,
        told,
        # The same fact in a provider's other words is known; under another reference it is not.
        item=f"{outcome.provider_ref}:{number}" if another else number,
        provider_ref=outcome.provider_ref,
        amount=outcome.amount_minor,
        cost=outcome.cost_minor,
        sequence=outcome.sequence,
    )
    return _take_in(ws, payout, attempt, fact, told)


def _take_in(ws: WorkingSet, payout: Payout, attempt: Attempt, fact: Fact, told: Told) -> bool:
    """Record a fact that may say that money left or came back, and book what it changes."""
    if _is_known(ws, fact):
        return False
    before = stands(ws, attempt)
    ws.insert(FACTS, fact)
    after = stands(ws, attempt)
    if after.paid:
        reference = fact.provider_ref if not before.paid else attempt.provider_ref
        _close(
            ws,
            payout,
            attempt,
            after.state(AttemptState.PAID),
            told,
            provider_ref=reference,
            frozen_at=None,
        )
    elif fact.kind in (FOREIGN, AttemptState.RETURNED):
        freeze(ws, payout, attempt)
        if told.source != Source.INQUIRY:
            ask_now(ws, ws.get(ATTEMPTS, attempt.id))
    take_effect(ws, ws.get(PAYOUTS, payout.id), ws.get(ATTEMPTS, attempt.id), before, fact)
    return True


def _accepted(
    ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: Accepted, told: Told
) -> bool:
    fact = _fact(ws, attempt, AttemptState.ACCEPTED, told, provider_ref=outcome.provider_ref)
    known = _is_known(ws, fact)
    if not known:
        ws.insert(FACTS, fact)
    if attempt.state not in OPEN_ATTEMPT:
        if not known and attempt.state == AttemptState.FAILED and attempt.code == NOT_FOUND:
            report_promised(ws, payout, attempt, outcome)
        return not known
    asked = told.source == Source.INQUIRY
    pause = max(AWAIT_EVENT, inquire_after(attempt.inquiries) if asked else timedelta(0))
    if (is_frozen(attempt) or stands(ws, attempt).denied) and not asked:
        pause = timedelta(0)  # it was said to have failed, too, or to have moved who knows what
    # A question that was put before this promise was not answered by one who had given it.
    news = told.source in (Source.WEBHOOK, Source.LATE_REPLY) and not known
    accepted = _set(
        attempt,
        state=AttemptState.ACCEPTED,
        provider_ref=outcome.provider_ref,
        lease_until=_lease_ends(ws, attempt, told),
        inquire_at=ws.now + pause,
        resend_at=None,
        inquiries=attempt.inquiries + (asked or news),
    )
    ws.update(ATTEMPTS, accepted)
    if asked:
        report_unproven(ws, payout, accepted)
    if payout.state == State.SENDING:
        move(
            ws,
            payout,
            Event.ACCEPT,
            note={"attempt": attempt.id, "provider_reference": outcome.provider_ref},
            provider_ref=outcome.provider_ref,
        )
    return not known


def _not_executed(
    ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: NotExecuted, told: Told
) -> bool:
    """Proof that it moved nothing. Of a frozen attempt only people can say that (F18)."""
    is_open = attempt.state in OPEN_ATTEMPT
    frozen = is_open and is_frozen(attempt) and told.source != Source.OPERATOR
    fact = _fact(
        ws,
        attempt,
        AttemptState.FAILED,
        told,
        item=failure_item(outcome.sequence, proven=not frozen),
        code=outcome.code,
        reason=outcome.reason,
        sequence=outcome.sequence,
    )
    if frozen:
        stay_unknown(ws, payout, attempt, outcome.code, source=told.source)
        return _take_in(ws, payout, ws.get(ATTEMPTS, attempt.id), fact, told)
    if not is_open:
        return _take_in(ws, payout, attempt, fact, told)
    if not _is_known(ws, fact):
        ws.insert(FACTS, fact)
    _close(
        ws,
        payout,
        attempt,
        AttemptState.FAILED,
        told,
        code=outcome.code,
        reason=outcome.reason,
        proof_at=ws.now,
    )
    _end_unpaid(ws, payout, attempt, outcome, told)
    return True


def _end_unpaid(
    ws: WorkingSet, payout: Payout, attempt: Attempt, outcome: NotExecuted, told: Told
) -> None:
    """The payout's open attempt moved nothing: send it again, or give it up."""
    earlier = others_paid(ws, payout, attempt)
    frozen = any(map(is_frozen, ws.children(ATTEMPTS_OF_PAYOUT, payout.id)))
    proof = retry_elsewhere(outcome)
    burned = payout.retries_burned + proof.burns_retry
    if is_held_up(outcome):
        report_held_up(ws, attempt, outcome)
    if earlier:
        _settle_by(ws, payout, earlier[0], outcome)
    elif not proof.retry:
        _give_up(ws, payout, Event.DECLINE, outcome)
    elif burned > payout.max_retries:
        _give_up(ws, payout, Event.EXHAUST, outcome)
    else:
        move(
            ws,
            payout,
            Event.RETRY,
            note={"attempt": attempt.id, "code": outcome.code, "reason": outcome.reason},
            retries_burned=burned,
            next_attempt_at=None if frozen else ws.now + told.retry_delay,
        )


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


def _give_up(ws: WorkingSet, payout: Payout, event: Event, outcome: NotExecuted) -> None:
    release(ws, payout, event, recipe="payout_failed", code=outcome.code, reason=outcome.reason)


def _close(
    ws: WorkingSet,
    payout: Payout,
    attempt: Attempt,
    state: AttemptState,
    told: Told,
    **changes: Any,
) -> None:
    """End an attempt, or move one that has ended. What was asked of an ended one stays asked."""
    close_unproven(ws, payout, attempt)
    ws.update(
        ATTEMPTS,
        _set(
            attempt,
            state=state,
            lease_until=_lease_ends(ws, attempt, told),
            inquire_at=None if attempt.state in OPEN_ATTEMPT else attempt.inquire_at,
            resend_at=None,
            **changes,
        ),
    )


def _lease_ends(ws: WorkingSet, attempt: Attempt, told: Told) -> datetime:
    """A worker's own word ends its lease; nobody else's does, for it may still be sending."""
    ended = told.source == Source.REPLY and attempt.state == AttemptState.SENDING
    return min(attempt.lease_until, ws.now) if ended else attempt.lease_until


def _is_known(ws: WorkingSet, fact: Fact) -> bool:
    known = ws.children(FACTS_OF_ATTEMPT, fact.attempt_id)
    return any((other.kind, other.item) == (fact.kind, fact.item) for other in known)


def _fact(
    ws: WorkingSet,
    attempt: Attempt,
    kind: str,
    told: Told,
    *,
    item: str = "",
    provider_ref: str | None = None,
    amount: int = 0,
    cost: int = 0,
    code: str | None = None,
    reason: str | None = None,
    sequence: int | None = None,
) -> Fact:
    return Fact(
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
        sequence=sequence,
    )
