"""Attempts of which nobody can say what became of them: when to ask, when people must. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from bursar.engine.working_set import WorkingSet
from bursar.incidents.commands import open_incident
from bursar.payouts.machine import OPEN_ATTEMPT, AttemptState, State
from bursar.payouts.model import ATTEMPTS, PAYOUTS, Attempt, Payout
from bursar.payouts.steps import remark
from bursar.rails.contracts import CONTRACTS
from bursar.rails.proof import window_closes_at

_set = msgspec.structs.replace

INQUIRE_BASE = timedelta(seconds=1)
INQUIRE_CAP = timedelta(seconds=60)
UNPROVEN = "unproven"
MISMATCH = "amount_mismatch"


class Instead(msgspec.Struct, frozen=True):
    """What the provider speaks of, where that is not what was asked: minor units of `currency`.

    0 or no currency: it can't be told in units that we carry. `reference` is its name of it.
    """

    amount: int
    currency: str
    reference: str | None

    def is_known(self) -> bool:
        """Whether it is an amount that we can tell."""
        return self.amount > 0 and bool(self.currency)


_UNTOLD = Instead(0, "", None)


def inquire_after(inquiries: int) -> timedelta:
    """The pause before inquiry number `inquiries` + 1: doubling from 1 s up to 60 s."""
    doublings = min(inquiries, 10)
    return min(INQUIRE_BASE * (1 << doublings), INQUIRE_CAP)


def is_frozen(attempt: Attempt) -> bool:
    """Whether the provider told another amount or currency than asked (F18).

    An open one is never sent again, never failed by us or the provider: money of an unknown
    amount may have left. It ends by the right amount being told, or by two persons. Of a payout
    with a frozen attempt, open or not, no other attempt begins.
    """
    return attempt.reason == MISMATCH


def freeze(ws: WorkingSet, payout: Payout, attempt: Attempt, instead: Instead) -> Attempt:
    """Take note, once, that the provider speaks of another amount or currency than asked.

    A payout that waits to be sent again waits no longer: people must look first.
    """
    if is_frozen(attempt):
        return attempt
    frozen = _set(attempt, reason=MISMATCH, resend_at=None)
    ws.update(ATTEMPTS, frozen)
    if payout.state == State.FUNDS_LOCKED:
        payout = _set(payout, next_attempt_at=None, updated_at=ws.now)
        ws.update(PAYOUTS, payout)
    open_incident(
        ws,
        remark(ws, payout, "attempt.mismatch", {"attempt": attempt.id}),
        kind="amount_mismatch",
        subject_id=payout.id,
        amount=instead.amount if instead.is_known() else payout.amount,
        currency=instead.currency if instead.is_known() else payout.currency,
        detail=_difference(attempt, instead),
    )
    return frozen


def _difference(attempt: Attempt, instead: Instead) -> str:
    says = "another amount, which can't be told in minor units that we carry"
    if instead.is_known():
        says = f"{instead.amount} {instead.currency}"
    under = f", under {instead.reference}" if instead.reference else ""
    return (
        f"We asked {attempt.amount} {attempt.currency} of {attempt.provider} under the key "
        f"{attempt.provider_key}. It says {says}{under}. Amounts are in minor units."
    )


def stay_unknown(
    ws: WorkingSet,
    payout: Payout,
    attempt: Attempt,
    reason: str,
    *,
    source: str,
    instead: Instead = _UNTOLD,
) -> None:
    """It may have left: the attempt stays with its provider, which is asked by our key (F9).

    Where its contract resends, the same key is due to be sent again as well.
    """
    asked = source == "inquiry"
    changes: dict[str, Any] = {"inquiries": attempt.inquiries + asked}
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
    if asked and attempt.code != UNPROVEN and _is_unproven(attempt, ws.now):
        changes["code"] = UNPROVEN
        open_incident(
            ws,
            remark(ws, payout, "attempt.unproven", {"attempt": attempt.id}),
            kind="attempt_unproven",
            subject_id=payout.id,
            amount=payout.amount,
            currency=payout.currency,
            detail=(
                f"{attempt.provider} has not proven what became of the key {attempt.provider_key} "
                f"since {attempt.begun_at:%Y-%m-%d %H:%M:%S} UTC. Its window and its key's life "
                "are over: two persons may resolve the payout."
            ),
        )
    if not is_frozen(attempt) and reason != MISMATCH:
        changes["reason"] = reason
    waiting = _set(attempt, **changes, inquire_at=_next_inquiry(attempt, ws.now))
    ws.update(ATTEMPTS, waiting)
    if reason == MISMATCH:
        freeze(ws, payout, waiting, instead)


def ask_now(ws: WorkingSet, attempt: Attempt) -> None:
    """Ask the provider about an open attempt before its time; one being sent is left alone."""
    if attempt.state in OPEN_ATTEMPT and attempt.inquire_at is not None:
        ws.update(ATTEMPTS, _set(attempt, inquire_at=ws.now))


def _is_unproven(attempt: Attempt, now: datetime) -> bool:
    """Past its window and its key's life: only people can prove what became of it."""
    contract = CONTRACTS[attempt.provider]
    closes = window_closes_at(attempt.ambiguous_at, attempt.lease_until, contract)
    return now > max(closes, attempt.begun_at + contract.key_lifetime)


def _next_inquiry(attempt: Attempt, now: datetime) -> datetime:
    """After a doubling pause, but never past the moment from which a "no" is proof."""
    contract = CONTRACTS[attempt.provider]
    closes = window_closes_at(attempt.ambiguous_at, attempt.lease_until, contract)
    pause_ends = now + inquire_after(attempt.inquiries)
    return closes if now < closes < pause_ends else pause_ends
