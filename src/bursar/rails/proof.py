"""What counts as proof. Pure rules over outcomes, contracts and the database's time.

A payout may be sent elsewhere only after proof that it was not executed. Two things look like
proof and are not: a "no" while an earlier send of ours may still be under way, and silence. The
first is answered by the finality window, which runs from the *last* moment at which a byte could
have left. The second is never answered by waiting alone: it ends in an incident.
"""

from datetime import datetime
from typing import assert_never

import msgspec

from bursar.rails.contracts import Contract
from bursar.rails.outcomes import (
    Accepted,
    Executed,
    Inquiry,
    NotExecuted,
    Outcome,
    StatusExecuted,
    StatusNotFound,
    StatusPending,
    StatusRejected,
    StatusReturned,
    StatusUnknown,
    Unknown,
)

NOT_FOUND = "not_found"
"""The code of a failure whose proof is that the provider does not know the order."""


class Release(msgspec.Struct, frozen=True):
    """An attempt is over and moved nothing. `retry`: the payout may be sent again, anywhere."""

    code: str
    reason: str
    retry: bool
    burns_retry: bool


def retry_elsewhere(proof: NotExecuted) -> Release:
    """The only door to another attempt. It takes proof, so no `Unknown` gets through it (F16).

    What was never sent, or failed for a cause of ours, burns no retry: the provider was not asked.
    """
    retry = proof.retryable or proof.ours
    return Release(
        proof.code, proof.reason, retry=retry, burns_retry=retry and proof.sent and not proof.ours
    )


def judge_submit(
    outcome: Outcome, contract: Contract, *, first_send: bool, conclusive: bool = False
) -> Outcome:
    """What one send's outcome proves about the attempt.

    `first_send` means that no send of this attempt was ever begun before, by any worker. "No byte
    left" is proof only then: it says nothing of an earlier send (F12).
    `conclusive`, of a later send, means that the window of every earlier one had closed before it
    began. Only then is a definitive code proof: had the provider taken the key before, it would
    have told how that stands, and what it had not taken by then it never will. While an earlier
    send can still arrive, the code speaks for this send alone: `Unknown` (F12). So does, at any
    time, a code with which the order was not even read, such as that of refused credentials (F90).
    A code that the contract does not list is `Unknown` too (F14). The flags of a listed code come
    from the contract.
    """
    if not isinstance(outcome, NotExecuted):
        return outcome
    entry = contract.reasons.get(outcome.code)
    speaks_of_key = outcome.sent and not (entry is not None and entry.order_unread)
    if not (first_send or (conclusive and speaks_of_key)):
        return Unknown(f"no_proof_on_resend:{outcome.code}")
    if not outcome.sent:
        return outcome
    return listed(outcome.code, outcome.reason, contract, sequence=outcome.sequence)


def window_closes_at(
    last_ambiguous_at: datetime | None, lease_until: datetime, contract: Contract
) -> datetime:
    """From when on negative evidence is proof; before it, none is (F11).

    `last_ambiguous_at` is when the last send without a clear answer was given up, None if none
    was recorded. `lease_until` is the latest end of any lease on the attempt: its holder may have
    begun a request in the lease's last instant. Both aware; on the database's clock.
    """
    last_byte_at = lease_until + contract.request_deadline
    if last_ambiguous_at is not None:
        last_byte_at = max(last_byte_at, last_ambiguous_at)
    if last_byte_at.tzinfo is None:
        raise ValueError("times carry their zone")
    return last_byte_at + contract.finality_window


def judge_inquiry(
    inquiry: Inquiry,
    contract: Contract,
    *,
    now: datetime,
    window_closes_at: datetime,
    promised: bool = False,
) -> Outcome:
    """What the provider's answer about our key proves.

    Positive answers count at once. A listed rejection is proof to a question asked at or after the
    end of the window and not before, even of an order that was promised: a provider may take back
    what it said, either way (F12). So is "not found" (F13), but only from a provider whose inquiry
    forgets nothing, and never once it has `promised`. A return means that the money had left.

    The amount is not judged here: see `as_instructed`.
    """
    closed = now >= window_closes_at
    match inquiry:
        case StatusExecuted() | StatusReturned():
            return Executed(
                provider_ref=inquiry.provider_ref,
                amount_minor=inquiry.amount_minor,
                currency=inquiry.currency,
                cost_minor=inquiry.cost_minor,
                sequence=inquiry.sequence,
            )
        case StatusPending(provider_ref, amount_minor, currency):
            return Accepted(provider_ref, amount_minor, currency)
        case StatusRejected(code, reason, sequence):
            if closed:
                return listed(code, reason, contract, sequence=sequence)
            return Unknown(f"rejected_in_window:{code}")
        case StatusNotFound():
            if promised:
                return Unknown("not_found_after_promise")
            if closed and contract.absence_is_proof:
                reason = "the provider knows no such instruction after its finality window"
                return NotExecuted(code=NOT_FOUND, reason=reason, retryable=True, sent=True)
            return Unknown("not_found" if closed else "not_found_in_window")
        case StatusUnknown(reason):
            return Unknown(reason)
        case _:
            assert_never(inquiry)


def as_instructed(outcome: Outcome, *, amount_minor: int, currency: str) -> Outcome:
    """`outcome`, unless it is of another amount or currency than asked: then `Unknown` (F18).

    For answers that carry no instruction to compare with, such as an inquiry's.
    """
    if not isinstance(outcome, Executed | Accepted) or outcome.amount_minor is None:
        return outcome
    if (outcome.amount_minor, outcome.currency) == (amount_minor, currency):
        return outcome
    return Unknown("amount_mismatch", outcome.amount_minor, outcome.currency)


def listed(
    code: str, reason: str, contract: Contract, *, sequence: int | None = None
) -> NotExecuted | Unknown:
    """The provider's no in its contract's terms; a code that is not listed proves nothing (F14)."""
    entry = contract.reasons.get(code)
    if entry is None:
        return Unknown(f"unlisted_code:{code}")
    return NotExecuted(
        code=code,
        reason=reason or entry.text,
        retryable=entry.retryable,
        ours=entry.ours,
        sent=True,
        sequence=sequence,
    )
