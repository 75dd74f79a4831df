"""Attempts of which nobody can say what became of them: when to ask, when people must. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from bursar.engine.model import PLATFORM
from bursar.engine.working_set import WorkingSet
from bursar.incidents.commands import close_incident, open_incident, open_incidents
from bursar.payouts.machine import AttemptState, State
from bursar.payouts.model import ATTEMPTS, PAYOUTS, Attempt, Payout, Source
from bursar.payouts.steps import remark
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import Accepted, NotExecuted
from bursar.rails.proof import window_closes_at

_set = msgspec.structs.replace

INQUIRE_BASE = timedelta(seconds=1)
INQUIRE_CAP = timedelta(seconds=60)
UNPROVEN = "unproven"
UNPROVEN_INCIDENT = "attempt_unproven"
MISMATCH_INCIDENT = "amount_mismatch"
UNEXPLAINED_INCIDENT = "return_unexplained"
PROMISED_INCIDENT = "promised_after_all"
REFUSED_INCIDENT = "provider_refuses_us"
UNREACHABLE_INCIDENT = "provider_unreachable"
ASKS_WHILE_FROZEN = frozenset({MISMATCH_INCIDENT, UNEXPLAINED_INCIDENT, PROMISED_INCIDENT})
"""Alerts that no one person closes while an attempt of their payout is frozen."""
UNREACHABLE_AFTER = 5
"""At this attempt of a payout people hear that nothing reaches its provider."""


def inquire_after(inquiries: int) -> timedelta:
    """The pause before inquiry number `inquiries` + 1: doubling from 1 s up to 60 s."""
    doublings = min(inquiries, 10)
    return min(INQUIRE_BASE * (1 << doublings), INQUIRE_CAP)


def is_frozen(attempt: Attempt) -> bool:
    """Whether money may have left of which we don't know how much, or whether (F13, F18).

    So it is when another amount or currency was told than asked for, a return of what nobody told
    us was paid, or a promise of what its provider had said it did not know. An open one is never
    sent again, never failed by us or the provider. It ends by the right amount being told, or by
    two persons. Of a payout with a frozen attempt, open or not, no other attempt begins, and its
    hold is neither cancelled nor expired.
    """
    return attempt.frozen_at is not None


def freeze(ws: WorkingSet, payout: Payout, attempt: Attempt) -> None:
    """Stop all that could move money for the payout until it is known how much has left.

    A payout that waits to be sent again waits no longer: people must look first. What they said
    before does not answer what is told now.
    """
    ws.update(ATTEMPTS, _set(attempt, frozen_at=ws.now, resend_at=None))
    if payout.state == State.FUNDS_LOCKED:
        ws.update(PAYOUTS, _set(payout, next_attempt_at=None, updated_at=ws.now))


def stay_unknown(
    ws: WorkingSet,
    payout: Payout,
    attempt: Attempt,
    reason: str,
    *,
    source: Source,
) -> None:
    """It may have left: the attempt stays with its provider, which is asked by our key (F9).

    Where its contract resends, the same key is due to be sent again as well.
    """
    asked = source == Source.INQUIRY
    if attempt.state == AttemptState.SENDING:
        ended = min(attempt.lease_until, ws.now)
        pause = CONTRACTS[attempt.provider].resend_pause(attempt.sends)
        attempt = _set(
            attempt,
            state=AttemptState.UNKNOWN,
            lease_until=ended,
            ambiguous_at=ended,
            resend_at=None if pause is None or is_frozen(attempt) else ws.now + pause,
        )
        note = {"attempt": attempt.id, "reason": reason, "source": source}
        remark(ws, payout, "attempt.unknown", note)
    waiting = _set(
        attempt,
        inquiries=attempt.inquiries + asked,
        reason=reason,
        inquire_at=next_inquiry(attempt, ws.now),
    )
    ws.update(ATTEMPTS, waiting)
    if asked:
        report_unproven(ws, payout, waiting)


def report_unproven(ws: WorkingSet, payout: Payout, attempt: Attempt) -> None:
    """After an answer that settles nothing: call for people, once, if nothing can any more."""
    if attempt.code == UNPROVEN or ws.now < unprovable_at(attempt):
        return
    ws.update(ATTEMPTS, _set(attempt, code=UNPROVEN))
    open_incident(
        ws,
        remark(ws, payout, "attempt.unproven", {"attempt": attempt.id}),
        kind=UNPROVEN_INCIDENT,
        subject_id=payout.id,
        amount=payout.amount,
        currency=payout.currency,
        detail=(
            f"{attempt.provider} has not proven what became of the key {attempt.provider_key} "
            f"since {attempt.begun_at:%Y-%m-%d %H:%M:%S} UTC. Its window and its key's life "
            "are over: two persons may resolve the payout."
        ),
    )


def close_unproven(ws: WorkingSet, payout: Payout, attempt: Attempt) -> None:
    """What became of the attempt is known now: nobody needs to look for it any more."""
    if attempt.code != UNPROVEN:
        return
    for incident in open_incidents(ws, payout.id):
        if incident.kind == UNPROVEN_INCIDENT:
            close_incident(ws, incident, note="The attempt has ended.")


def report_promised(ws: WorkingSet, payout: Payout, attempt: Attempt, promise: Accepted) -> None:
    """What its provider said it did not know it had promised (F13): nothing more is sent.

    It is asked again, and people are called.
    """
    freeze(ws, payout, attempt)
    ask_now(ws, ws.get(ATTEMPTS, attempt.id))
    open_incident(
        ws,
        remark(ws, ws.get(PAYOUTS, payout.id), "attempt.promised", {"attempt": attempt.id}),
        kind=PROMISED_INCIDENT,
        subject_id=payout.id,
        amount=payout.amount,
        currency=payout.currency,
        detail=(
            f"{attempt.provider} promised the key {attempt.provider_key}, as "
            f"{promise.provider_ref}, and had told after its window that it does not know it. "
            "It may be carried out yet."
        ),
    )


def is_held_up(outcome: object) -> bool:
    """Whether it failed for a cause that is not the payout's (F90).

    Its provider turns us away, or can't be reached. Not if this process was too slow to send.
    """
    return isinstance(outcome, NotExecuted) and (
        outcome.ours if outcome.sent else outcome.retryable and not outcome.ours
    )


def report_held_up(ws: WorkingSet, attempt: Attempt, outcome: NotExecuted) -> None:
    """Payouts wait for a cause that uses up no retry: tell people of the platform, once (F90).

    It is one alert for each provider and kind; workers that fail in the same moment may each open
    one. A provider that could not be reached a few times is none yet.
    """
    if not outcome.sent and attempt.number < UNREACHABLE_AFTER:
        return
    kind = REFUSED_INCIDENT if outcome.sent else UNREACHABLE_INCIDENT
    provider = attempt.provider
    if any(row.kind == kind for row in open_incidents(ws, provider)):
        return
    what = f"refuses us with {outcome.code}" if outcome.sent else "gets nothing from us"
    open_incident(
        ws,
        ws.journal(
            PLATFORM,
            kind.replace("_", ".", 1),
            provider,
            {"code": outcome.code, "reason": outcome.reason},
        ),
        kind=kind,
        subject_id=provider,
        detail=(
            f"{provider} {what}: {outcome.reason}. Payouts wait, and are tried again until their "
            f"holds expire. The first that told: {attempt.payout_id}."
        ),
    )


def ask_now(ws: WorkingSet, attempt: Attempt) -> None:
    """Ask the provider about an attempt before its time; one being sent is left alone."""
    if attempt.state != AttemptState.SENDING:
        ws.update(ATTEMPTS, _set(attempt, inquire_at=ws.now))


def closes_at(attempt: Attempt) -> datetime:
    """The end of its window: from then on a "no" is proof."""
    contract = CONTRACTS[attempt.provider]
    return window_closes_at(attempt.ambiguous_at, attempt.lease_until, contract)


def unprovable_at(attempt: Attempt) -> datetime:
    """The end of its window and of its key's life: from then on people may say what became of it.

    Until then the provider's own answer is better than anybody's word.
    """
    return max(closes_at(attempt), attempt.begun_at + CONTRACTS[attempt.provider].key_lifetime)


def next_inquiry(attempt: Attempt, now: datetime) -> datetime:
    """After a doubling pause, but never past a moment that makes a difference.

    That is when a "no" becomes proof, and when people are called.
    """
    pause_ends = now + inquire_after(attempt.inquiries)
    moments = (closes_at(attempt), unprovable_at(attempt), pause_ends)
    return min(moment for moment in moments if moment > now)
